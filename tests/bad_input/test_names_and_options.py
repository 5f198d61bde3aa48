"""D30 to D32, D35, D39: names, options and groups, from our client and from one that lies."""

from __future__ import annotations

import math
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from fastworker import Client, TaskPriority, call, task
from fastworker.errors import ArgumentError, CallerError, InvalidName, InvalidOption
from fastworker.server.plane import Plane
from fastworker.wire import messages as m
from fastworker.wire.values import seal_call
from tests.bad_input.raw import (
    TOKEN,
    Closed,
    address_of,
    answer_to,
    jobs_known,
    open_peer,
    running_plane,
    some_id,
)

CALL = seal_call((), {}, task="add")

BAD_NAMES = [
    "",
    "../x",
    "/etc/passwd",
    "a b",
    "a\nb",
    "a\0b",
    "\x1b[2J",
    "wоrker",  # a Cyrillic letter
    "-rf",
    ".hidden",
    "'; DROP TABLE job; --",
    "<script>",
    "x" * 201,
    "x" * 1_000_000,
]


@pytest.fixture
async def plane() -> AsyncIterator[Plane]:
    async with running_plane() as plane:
        yield plane


@pytest.fixture
async def client(plane: Plane) -> AsyncIterator[Client]:
    async with Client(control_plane_address=plane.addresses[0], token=TOKEN) as client:
        yield client


@pytest.mark.trio
async def test_bad_names_are_refused_before_anything_is_sent(client: Client, plane: Plane) -> None:
    for name in BAD_NAMES:
        with pytest.raises(InvalidName) as caught:
            await client.delay(name)
        assert str(caught.value).isprintable() and len(str(caught.value)) < 400
        with pytest.raises(InvalidName, match="queue name"):
            await client.options(queue=name).delay("add")
    assert await jobs_known(plane) == 0


@pytest.mark.trio
async def test_bad_names_of_a_foreign_client_are_answered_with_invalid_name(plane: Plane) -> None:
    async with open_peer(address_of(plane)) as peer:
        for request, name in enumerate(one for one in BAD_NAMES if len(one) <= 200):
            for spec in ([name, "default", 1, {}], ["add", name, 1, {}]):
                await peer.send_messages(m.Submit(request, [spec], some_id(), [CALL]))
                answer = await answer_to(peer)
                assert isinstance(answer, m.Submitted) and answer.refused is not None
                ((index, code, text, _),) = answer.refused
                assert (index, code) == (0, "invalid_name")
                assert isinstance(text, str) and text.isprintable() and text.isascii()
        await peer.send_messages(m.Beat(1))
        assert await answer_to(peer) == m.BeatAck(1)
    assert await jobs_known(plane) == 0


@pytest.mark.trio
async def test_well_formed_unknown_names_wait_and_nothing_is_imported(client: Client) -> None:
    for name in ("antigravity", "this.that", "os.system", "__import__", "builtins.eval"):
        task_id = await client.delay(name, "echo hello")
        found = await client.get_task_result(task_id)
        assert found is not None and found.status.value == "queued"
        assert found.reason is not None and name in found.reason
    assert "antigravity" not in sys.modules and "this" not in sys.modules


@task(name="bad_input.scale")
def scale(x: int, *, factor: int = 2) -> int:
    return x * factor


@pytest.mark.trio
@pytest.mark.parametrize(
    ("args", "kwargs"), [((), {}), ((1, 2, 3), {}), ((1,), {"facktor": 3}), ((1,), {"x": 1})]
)
async def test_arguments_that_do_not_fit_are_refused_where_the_signature_is_known(
    client: Client, plane: Plane, args: Any, kwargs: Any
) -> None:
    with pytest.raises(ArgumentError, match=r"bad_input\.scale"):
        await client.delay(scale, *args, **kwargs)
    assert await jobs_known(plane) == 0


@pytest.mark.trio
@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"priority": 1}, "priority is a TaskPriority"),
        ({"priority": 99}, "priority is a TaskPriority"),
        ({"priority": "high"}, "priority is a TaskPriority"),
        ({"countdown": -1}, "countdown cannot be negative"),
        ({"countdown": math.nan}, "countdown is a number of seconds"),
        ({"countdown": math.inf}, "countdown is a number of seconds"),
        ({"countdown": 1e300}, "countdown is a number of seconds"),
        ({"countdown": "5"}, "countdown is seconds or a timedelta"),
        ({"countdown": True}, "countdown is seconds or a timedelta"),
        ({"eta": 5}, "eta is an aware datetime"),
        ({"eta": datetime(2030, 1, 1)}, "eta has no time zone"),
        ({"expires": datetime(2030, 1, 1)}, "expires has no time zone"),
        ({"expires": -1}, "expires cannot be negative"),
        ({"expires": math.nan}, "expires is a number of seconds"),
        ({"task_id": "x"}, "id"),
        ({"task_id": "x" * 1_000_000}, "id"),
        ({"on_lost": "explode"}, "on_lost is 'retry' or 'fail'"),
        ({"keep_result": "yes"}, "keep_result is True or False"),
        ({"countdown": 1, "eta": datetime(2030, 1, 1, tzinfo=UTC)}, "countdown and eta"),
        ({"callback_data": 1}, "callback_data is handed back with a callback"),
        ({"callback": "javascript:alert(1)"}, "address 'javascript:alert(1)' has no scheme"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_bad_options_are_named_before_anything_is_sent(
    client: Client, plane: Plane, options: dict[str, Any], named: str
) -> None:
    with pytest.raises(CallerError) as caught:
        await client.apply("add", (1, 2), **options)
    assert named in str(caught.value), str(caught.value)
    assert len(str(caught.value)) < 400
    assert await jobs_known(plane) == 0


@pytest.mark.trio
async def test_deadline_that_has_passed_expires_the_job_without_a_start(client: Client) -> None:
    past = datetime(2001, 1, 1, tzinfo=UTC)
    handle = await client.apply("add", (1, 2), expires=past)
    found = await handle.wait()
    assert found.status.value == "expired" and found.started_at is None and found.attempts == 0


@pytest.mark.trio
@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"keep_result": 1}, "option keep_result is 1; expected True or False"),
        ({"on_lost": "x"}, "option on_lost is 'x'; expected 'retry' or 'fail'"),
        ({"callback": "file:///etc/passwd"}, "option callback: "),
        ({"callback": 5}, "option callback is 5; expected an address"),
        ({"callback_data": "x"}, "option callback_data is 'x'"),
        ({"callback_data": b"x" * 9000}, "option callback_data is '9000 bytes'"),
        ({"callback": "client:" + "0" * 32}, "goes to the submitter's own only"),
    ],
)
async def test_bad_options_of_a_foreign_client_are_refused_by_name(
    plane: Plane, options: dict[str, Any], named: str
) -> None:
    async with open_peer(address_of(plane)) as peer:
        await peer.send_messages(m.Introduce(b"c" * 16))
        submit = m.Submit(1, [["add", "default", 1, options]], some_id(), [CALL])
        await peer.send_messages(submit)
        answer = await answer_to(peer)
        assert isinstance(answer, m.Submitted) and answer.refused is not None
        ((_, code, text, _),) = answer.refused
        assert code in ("invalid_option", "forbidden")
        assert named in str(text)
        await peer.send_messages(m.Beat(1))
        assert await answer_to(peer) == m.BeatAck(1)
    assert await jobs_known(plane) == 0


@pytest.mark.trio
async def test_options_that_are_too_large_or_no_priority_close_with_4400(plane: Plane) -> None:
    for spec, named in (
        (["add", "default", 4, {}], "field specs: expected rows"),
        (["add", "default", -1, {}], "field specs: expected rows"),
        (["add", "default", 1, {"x": b"y" * 25_000}], "more than 24576 bytes"),
        (["a" * 201, "default", 1, {}], "row 0: got str of length 201"),
    ):
        async with open_peer(address_of(plane)) as peer:
            await peer.send_messages(m.Submit(1, [spec], some_id(), [CALL]))
            problem, closed = await peer.receive_end()
        assert closed == Closed(4400, "protocol_error")
        assert problem is not None and named in problem.message
    assert await jobs_known(plane) == 0


# --- groups: all or none ----------------------------------------------------------------------


@pytest.mark.trio
async def test_one_bad_call_of_a_hundred_refuses_all_and_is_named(
    client: Client, plane: Plane
) -> None:
    calls = [call("add", number, 1) for number in range(100)]
    calls[57] = call("not/a/name", 1)
    with pytest.raises(InvalidName, match="not/a/name"):
        await client.submit_many(calls)
    arguments = [(number,) for number in range(100)]
    arguments[57] = (object(),)  # type: ignore[assignment]
    with pytest.raises(CallerError, match="object"):
        await client.submit_many("add", arguments)
    assert await jobs_known(plane) == 0


@pytest.mark.trio
async def test_one_bad_job_of_a_foreign_group_refuses_all_of_it_in_any_message(
    plane: Plane,
) -> None:
    good: list[object] = ["add", "default", TaskPriority.NORMAL.value, {}]
    bad: list[object] = ["not/a/name", "default", 1, {}]
    group = b"g" * 16
    async with open_peer(address_of(plane)) as peer:
        for request, spec in enumerate([good, bad, good, good]):
            ids, calls = some_id() + some_id(), [CALL, CALL]
            submit = m.Submit(request, [spec], ids, calls, group=group, group_total=8)
            await peer.send_messages(submit)
        for _ in range(4):
            answer = await answer_to(peer)
            assert isinstance(answer, m.Submitted) and answer.refused is not None
            assert [(row[0], row[1]) for row in answer.refused] == [
                (0, "invalid_name"),
                (1, "invalid_name"),
            ]
            assert all("'not/a/name'" in str(row[2]) for row in answer.refused)
    assert await jobs_known(plane) == 0


@pytest.mark.trio
@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"group_total": None}, "field group_total: expected 1 to 10000, got None"),
        ({"group_total": 0}, "field group_total: expected 1 to 10000, got 0"),
        ({"group_total": 10_001}, "field group_total: expected 1 to 10000, got 10001"),
        ({"group_total": 1}, "a group has 2 jobs"),
        ({"ids": b"", "payloads": []}, "field ids: expected at least one job"),
    ],
)
async def test_group_that_does_not_add_up_closes_with_4400(
    plane: Plane, changes: dict[str, Any], named: str
) -> None:
    submit = m.Submit(1, [["add", "default", 1, {}]], some_id() + some_id(), [CALL, CALL])
    submit.group, submit.group_total = b"g" * 16, 2
    for name, value in changes.items():
        setattr(submit, name, value)
    async with open_peer(address_of(plane)) as peer:
        await peer.send_messages(submit)
        problem, closed = await peer.receive_end()
    assert closed == Closed(4400, "protocol_error")
    assert problem is not None and named in problem.message
    assert await jobs_known(plane) == 0


@pytest.mark.trio
async def test_group_that_never_ends_is_not_stored_and_only_a_few_may_be_open(
    plane: Plane,
) -> None:
    async with open_peer(address_of(plane)) as peer:
        for number in range(9):
            submit = m.Submit(number, [["add", "default", 1, {}]], some_id(), [CALL])
            submit.group, submit.group_total = bytes([number]) * 16, 2
            await peer.send_messages(submit)
        problem, closed = await peer.receive_end()
    assert closed.code == 4400
    assert problem is not None and problem.message == "more than 8 groups are open at once"
    assert await jobs_known(plane) == 0


@pytest.mark.trio
async def test_bad_job_between_single_ones_is_refused_alone(plane: Plane) -> None:
    specs: list[list[object]] = [["add", "default", 1, {}], ["a/b", "default", 1, {}]]
    ids = some_id() + some_id() + some_id()
    async with open_peer(address_of(plane)) as peer:
        await peer.send_messages(m.Submit(1, specs, ids, [CALL] * 3, which=[0, 1, 0]))
        answer = await answer_to(peer)
    assert isinstance(answer, m.Submitted) and answer.refused is not None
    assert [row[0] for row in answer.refused] == [1]
    assert await jobs_known(plane) == 2


def test_bad_option_is_a_caller_error_with_an_exit_code_of_usage() -> None:
    from fastworker.cli.exits import USAGE, exit_code

    assert exit_code(InvalidOption("x")) == exit_code(InvalidName("x")) == USAGE
