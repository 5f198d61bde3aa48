"""D20 to D25 and D38: messages with wrong fields, in a wrong place, or in somebody else's name."""

from __future__ import annotations

import logging
import os
import random
from collections.abc import AsyncIterator

import cbor2
import pytest
import trio

from fastworker.core.records import STATUS_NUMBERS, TaskStatus
from fastworker.errors import ProtocolError
from fastworker.server import subworkers
from fastworker.server.plane import Plane
from fastworker.wire import messages as m
from fastworker.wire.codec import MESSAGES, decode, encode
from fastworker.wire.fields import MAX_U64
from fastworker.wire.values import seal_call, seal_value
from tests.bad_input.mutations import (
    WRONG_VALUES,
    each_field_changed,
    fields_of,
    mutated,
    raw_example,
)
from tests.bad_input.raw import (
    Closed,
    RawPeer,
    address_of,
    answer_to,
    frame,
    jobs_known,
    open_peer,
    open_raw,
    register,
    running_plane,
    some_id,
)
from tests.wire.examples import EXAMPLES

NOW = 1_763_812_800.0
SUCCESS = bytes([STATUS_NUMBERS[TaskStatus.SUCCESS]])


@pytest.fixture
async def plane(caplog: pytest.LogCaptureFixture) -> AsyncIterator[Plane]:
    """A control plane that must be alive, without a traceback, at the end of the test."""
    with caplog.at_level(logging.DEBUG, logger="fastworker"):
        async with running_plane() as plane:
            yield plane
            await jobs_known(plane)
    assert "Traceback" not in caplog.text
    assert not any(record.exc_info for record in caplog.records)


def _role(name: str) -> str:
    """Who would send this: kinds from 48 on are the subworkers'."""
    return "client" if EXAMPLES[name].KIND < 48 else "subworker"


def test_any_wrong_value_is_refused_by_name_or_is_right() -> None:
    for value in WRONG_VALUES:
        for name, field, item in each_field_changed(value):
            message = type(EXAMPLES[name]).__name__
            try:
                decode(cbor2.dumps([item]))
            except ProtocolError as error:
                assert str(error).startswith(f"message {message}, field "), (name, field, value)
                assert len(str(error)) < 500
    # Nothing is of this kind, so here every field of every message has to speak up.
    for _, field, item in each_field_changed([["wrong"], {"a": 1}]):
        with pytest.raises(ProtocolError, match=f"field {field}: expected .*, "):
            decode(cbor2.dumps([item]))


def test_any_missing_field_is_named_or_has_a_default() -> None:
    for name in EXAMPLES:
        for field in fields_of(raw_example(name)):
            item = raw_example(name)
            del fields_of(item)[field]
            try:
                decode(cbor2.dumps([item]))
            except ProtocolError as error:
                assert "field " in str(error)


@pytest.mark.trio
async def test_each_wrong_field_closes_with_4400_and_is_named(plane: Plane) -> None:
    seen: set[tuple[type, str]] = set()
    for name, field, item in each_field_changed([["wrong"], {"a": 1}]):
        kind = type(EXAMPLES[name])
        if (kind, field) in seen or not 16 <= kind.KIND < 80:
            continue
        seen.add((kind, field))
        async with open_peer(address_of(plane), _role(name)) as peer:
            if _role(name) == "subworker" and kind is not m.Register:
                await register(peer)
            await peer.send_item([item])
            problem, closed = await peer.receive_end()
        assert closed == Closed(4400, "protocol_error"), (name, field)
        assert problem is not None
        assert problem.message.startswith(f"message {kind.__name__}, field {field}: expected ")
    assert len(seen) > 80
    assert await jobs_known(plane) == 0


@pytest.mark.trio
@pytest.mark.parametrize("role", ["client", "subworker"])
async def test_messages_of_the_other_side_have_no_place(plane: Plane, role: str) -> None:
    ours = (6, 7, 8, 9) if role == "client" else (6, 7, 8, 9, 48)
    legal = {
        "client": {16, 17, 19, 20, 23, 25, 27, 31, 32, 33, 35, 36, *ours},
        "subworker": {51, 53, 54, 56, 57, 58, 59, *range(61, 65), 66, 67, *ours},
    }[role]
    for kind, message in MESSAGES.items():
        if kind in legal:
            continue
        example = next(one for one in EXAMPLES.values() if type(one) is message)
        async with open_peer(address_of(plane), role) as peer:
            if role == "subworker":
                await register(peer)
            await peer.send_messages(example)
            problem, closed = await peer.receive_end()
        assert closed == Closed(4400, "protocol_error"), message
        assert problem is not None and problem.message == (
            f"message {message.__name__} has no place on a {role}'s connection"
        )
    assert await jobs_known(plane) == 0


@pytest.mark.trio
async def test_anything_before_hello_is_closed_with_4400(plane: Plane) -> None:
    for name in ("submit", "outcome", "register", "beat", "proof", "welcome"):
        async with open_raw(address_of(plane)) as peer:
            await peer.send_messages(EXAMPLES[name])
            problem, closed = await peer.receive_end()
        assert closed == Closed(4400, "protocol_error")
        assert problem is not None and problem.message == "expected message Hello first"


@pytest.mark.trio
async def test_subworker_that_skips_register_is_told_to(plane: Plane) -> None:
    async with open_peer(address_of(plane), "subworker") as peer:
        await peer.send_messages(EXAMPLES["outcome"])
        problem, closed = await peer.receive_end()
    assert closed.code == 4400
    assert problem is not None
    assert problem.message == "message Outcome came before Register; send Register first"


@pytest.mark.trio
@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"label": "../w1"}, "worker name '../w1' is not allowed"),
        ({"label": "w\x1b[31m"}, r"worker name 'w\x1b[31m' is not allowed"),
        ({"label": "wоrker"}, r"worker name 'w\u043erker' is not allowed"),
        ({"label": ""}, "worker name '' is not allowed"),
        ({"queues": ["a/b"]}, "queue name 'a/b' is not allowed"),
        ({"queues": ["a\n"]}, r"queue name 'a\n' is not allowed"),
        ({"queues": ["x" * 60_000]}, "has 60000 characters; at most 200"),
    ],
)
async def test_subworker_with_a_bad_name_is_told_which(
    plane: Plane, change: dict[str, object], named: str, caplog: pytest.LogCaptureFixture
) -> None:
    item = raw_example("register")
    fields_of(item).update(change)
    async with open_peer(address_of(plane), "subworker") as peer:
        await peer.send_item([item])
        problem, closed = await peer.receive_end()
    assert closed == Closed(4400, "invalid_name")
    assert problem is not None and named in problem.message
    assert problem.message.isprintable() and len(problem.message) <= 500
    assert "\x1b" not in caplog.text
    assert plane.dispatcher.memory.sessions == {}


@pytest.mark.trio
async def test_unknown_kind_is_answered_and_the_connection_stays(plane: Plane) -> None:
    for role in ("client", "subworker"):
        async with open_peer(address_of(plane), role) as peer:
            await peer.send_item([[999, {"request": 7, "whatever": [1, {"a": None}]}]])
            problem = await answer_to(peer)
            assert problem == m.Problem(
                "unknown_kind", "message kind 999 is not known to this control plane", request=7
            )
            await peer.send_messages(m.Beat(1))
            assert await answer_to(peer) == m.BeatAck(1)


@pytest.mark.trio
async def test_unknown_fields_are_ignored_and_not_stored(plane: Plane) -> None:
    async with open_peer(address_of(plane)) as peer:
        job_id = some_id()
        options = {"later": "x" * 100, "parent": b"p" * 16, "callback_token": "other"}
        submit = m.Submit(3, [["add", "default", 1, options]], job_id, [seal_call((), {}, task="")])
        ((kind, fields),) = cbor2.loads(encode([submit]))
        await peer.send_item([[kind, {**fields, "from_the_future": ["x"] * 10}]])
        assert await answer_to(peer) == m.Submitted(3)
    job = plane.dispatcher.job(job_id)
    assert job is not None
    # Nor is what only the control plane may say: whose job it is part of, whose token signs.
    assert job.options.parent is None and job.options.callback_token is None


@pytest.mark.trio
@pytest.mark.parametrize("request_number", [-1, MAX_U64 + 1, 2**64 - 1, 1.0, "1", None, True])
async def test_request_number_that_is_none_is_named(plane: Plane, request_number: object) -> None:
    async with open_peer(address_of(plane)) as peer:
        await peer.send_item([[23, {"request": request_number, "ids": b""}]])
        problem, closed = await peer.receive_end()
    assert closed.code == 4400
    assert problem is not None and "message Fetch, field request: expected" in problem.message


@pytest.mark.trio
async def test_d25_number_of_an_open_request_closes_with_4400_and_of_an_answered_one_is_free(
    plane: Plane,
) -> None:
    submit = m.Submit(5, [["add", "default", 1, {}]], some_id(), [seal_call((), {}, task="")])
    again = m.Submit(5, [["add", "default", 1, {}]], some_id(), [seal_call((), {}, task="")])
    async with open_peer(address_of(plane)) as peer:
        for _ in range(2):
            await peer.send_messages(m.Fetch(5, b"x" * 16))
            assert await answer_to(peer) == m.Fetched(5, [])
        await peer.send_messages(submit, again)
        problem, closed = await peer.receive_end()
    assert closed == Closed(4400, "protocol_error")
    assert problem is not None and problem.message == (
        "message Submit, field request: expected a number that no open request has, got 5 again"
    )
    assert await jobs_known(plane) <= 1


@pytest.mark.trio
@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"limit": 10**12}, "limit is 1000000000000; expected 1 to 1000"),
        ({"limit": -1}, "limit is -1; expected 1 to 1000"),
        ({"limit": True}, "limit is True; expected 1 to 1000"),
        ({"limit": "x"}, "limit is 'x'; expected 1 to 1000"),
        ({"before": 2**64 - 1}, "before is 18446744073709551615; expected the key of a job"),
        ({"before": "x"}, "before is 'x'; expected the key of a job"),
        ({"status": ["QUEUED"]}, "status is ['QUEUED']; expected text"),
        ({"status": "'; DROP TABLE jobs"}, "there is no status"),
        ({"task": 5}, "task is 5; expected text"),
        ({"queue": {}}, "queue is {}; expected text"),
    ],
)
async def test_wrong_options_of_a_report_are_named_and_the_connection_stays(
    plane: Plane, options: dict[str, object], named: str
) -> None:
    async with open_peer(address_of(plane)) as peer:
        await peer.send_messages(m.Query(4, "jobs", options))
        problem = await answer_to(peer)
        assert isinstance(problem, m.Problem)
        assert (problem.code, problem.request) == ("invalid_option", 4)
        assert named in problem.message
        await peer.send_messages(m.Query(5, "everything"))
        problem = await answer_to(peer)
    assert isinstance(problem, m.Problem) and problem.message == (
        "there is no report 'everything'; ask for tasks, workers, queues, jobs, dead, "
        "dead_letter, attempts, callbacks, stack, tree, tenants or status"
    )


@pytest.mark.trio
async def test_one_connection_is_one_client(plane: Plane) -> None:
    async with open_peer(address_of(plane)) as peer:
        await peer.send_messages(m.Introduce(b"a" * 16, callbacks=True))
        await peer.send_messages(m.Introduce(b"b" * 16, callbacks=True))
        problem, closed = await peer.receive_end()
    assert closed.code == 4400
    assert problem is not None and "field client: it is another one than before" in problem.message
    await trio.testing.wait_all_tasks_blocked(0.01)
    assert plane.roster.clients_by_id == {}


async def _lease_one(plane: Plane, peer: RawPeer) -> tuple[bytes, int]:
    """Submit one job and have it handed to this subworker: its id and token."""
    await register(peer)
    job_id = some_id()
    async with open_peer(address_of(plane)) as client:
        call = seal_call((1,), {}, task="add")
        await client.send_messages(m.Submit(1, [["add", "default", 1, {}]], job_id, [call]))
        assert await answer_to(client) == m.Submitted(1)
    assigned = await answer_to(peer)
    assert isinstance(assigned, m.Assign) and assigned.ids == job_id
    return job_id, assigned.tokens[0]


def _outcome(job_id: bytes, token: int, status: bytes = SUCCESS) -> m.Outcome:
    value = seal_value("done", what="result")
    return m.Outcome(job_id, [token], status, [value], [NOW], [NOW + 1])


@pytest.mark.trio
async def test_forged_and_stolen_leases_are_stale(plane: Plane) -> None:
    address = address_of(plane)
    async with open_peer(address, "subworker") as holder, open_peer(address, "subworker") as thief:
        job_id, token = await _lease_one(plane, holder)
        await register(thief, "thief", tasks=[])
        forged = [(job_id, token + 1), (job_id, 0), (os.urandom(16), token), (job_id, token)]
        for given, number in forged:
            await thief.send_messages(m.Started(given, [number], [NOW]))
            await thief.send_messages(m.Withdrawn(given, [number], b"\x01"))
            await thief.send_messages(_outcome(given, number))
        stale: list[int] = []
        while len(stale) < len(forged):
            answer = await answer_to(thief)
            if isinstance(answer, m.OutcomeAck):
                stale += answer.stale
        assert stale == [number for _, number in forged]
        await thief.send_messages(m.Handback(job_id, [token], b"\x01", "runner_died"))
        await thief.send_messages(m.Beat(1))
        job = plane.dispatcher.job(job_id)
        assert job is not None and job.status is TaskStatus.RUNNING and job.started_at is None
        await holder.send_messages(_outcome(job_id, token))
        answer = await answer_to(holder)
    assert isinstance(answer, m.OutcomeAck)
    assert (list(answer.tokens), list(answer.stale)) == ([token], [])
    assert plane.dispatcher.job(job_id) is None


@pytest.mark.trio
@pytest.mark.parametrize("status", [TaskStatus.QUEUED, TaskStatus.RUNNING, TaskStatus.SCHEDULED])
async def test_outcome_that_is_no_end_is_refused(plane: Plane, status: TaskStatus) -> None:
    async with open_peer(address_of(plane), "subworker") as peer:
        job_id, token = await _lease_one(plane, peer)
        await peer.send_messages(_outcome(job_id, token, bytes([STATUS_NUMBERS[status]])))
        problem, closed = await peer.receive_end()
    assert closed.code == 4400
    assert problem is not None and "message Outcome, field statuses" in problem.message


@pytest.mark.trio
async def test_task_without_its_lease_may_not_submit(plane: Plane) -> None:
    async with open_peer(address_of(plane), "subworker") as peer:
        job_id, token = await _lease_one(plane, peer)
        specs: list[list[object]] = [["add", "default", 1, {}]]
        for parent, number in ((None, None), (job_id, token + 1), (os.urandom(16), token)):
            submit = m.Submit(9, specs, some_id(), [b"x"], parent=parent, parent_token=number)
            await peer.send_messages(m.Relay(0, encode([submit])))
            relayed = await answer_to(peer)
            assert isinstance(relayed, m.Relay)
            (problem,) = decode(relayed.frame)
            assert isinstance(problem, m.Problem)
            assert (problem.code, problem.request) == ("forbidden", 9)
    async with open_peer(address_of(plane)) as client:
        submit = m.Submit(9, specs, some_id(), [b"x"], parent=job_id, parent_token=token)
        await client.send_messages(submit)
        problem = await answer_to(client)
    assert isinstance(problem, m.Problem) and problem.code == "forbidden"
    assert await jobs_known(plane) == 1


@pytest.mark.trio
async def test_clients_in_tasks_beyond_the_bound_are_closed_and_no_others(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subworkers, "MAX_TASK_CLIENTS", 100)
    frame_of_nothing = encode([m.Bye("")])
    async with open_peer(address_of(plane), "subworker") as peer:
        await register(peer)
        await peer.send_messages(*(m.Relay(number, frame_of_nothing) for number in range(101)))
        assert await answer_to(peer) == m.Relay(100, b"", closed=True)
        await peer.send_messages(
            m.Relay(0, b"", closed=True), m.Relay(101, frame_of_nothing), m.Beat(7)
        )
        assert await answer_to(peer) == m.BeatAck(7)


@pytest.mark.trio
@pytest.mark.parametrize("seed", range(6))
async def test_mutated_messages_harm_only_their_connection(plane: Plane, seed: int) -> None:
    chance = random.Random(seed)
    for role in ("client", "subworker"):
        for _ in range(25):
            async with open_peer(address_of(plane), role) as peer:
                if role == "subworker":
                    await register(peer)
                for _ in range(6):
                    await peer.send(frame(mutated(chance)))
                await peer.send_item("the end")
                _, closed = await peer.receive_end()
            assert closed.code == 4400, closed
