"""The client against a control plane that answers, refuses, drops and says nothing."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest

from fastworker.client.calls import call
from fastworker.client.client import Client
from fastworker.client.current import current_client
from fastworker.client.handles import CancelOutcome
from fastworker.core.ids import id_bytes, id_text, new_id
from fastworker.core.records import TaskPriority, TaskStatus
from fastworker.errors import (
    ArgumentError,
    AuthenticationFailed,
    CallerError,
    ClientNotReady,
    Conflict,
    ControlPlaneUnavailable,
    Indeterminate,
    InvalidName,
    InvalidOption,
    NotSerializable,
    Overloaded,
    ResultExpired,
    StorageFull,
    TaskError,
    UnknownJob,
)
from fastworker.tasks import task
from fastworker.wire import messages as m
from tests.client.fake_control_plane import TOKEN, FakeControlPlane, Peer

pytestmark = pytest.mark.anyio


def refusing(code: str, retry_after: float, times: int) -> object:
    left = [times]

    def answer(plane: FakeControlPlane, peer: Peer, submit: m.Submit) -> list[m.Message]:
        if left[0] == 0:
            return plane.accept(peer, submit)
        left[0] -= 1
        count = len(submit.payloads)
        rows: list[list[object]] = [[i, code, "no room", retry_after] for i in range(count)]
        return [m.Submitted(submit.request, refused=rows)]

    return answer


# --- submitting ----------------------------------------------------------------------------


async def test_delay_returns_the_id_of_an_accepted_job(
    client: Client, plane: FakeControlPlane
) -> None:
    task_id = await client.delay("add", 2, 3)
    assert plane.jobs[id_bytes(task_id)] == ("add", [2, 3], {})
    result = await client.get_task_result(task_id)
    assert result is not None
    assert (result.task_id, result.status, result.result) == (task_id, TaskStatus.SUCCESS, 5)
    assert result.completed_at == datetime.fromtimestamp(2, UTC)


async def test_submit_pushes_the_result(client: Client, plane: FakeControlPlane) -> None:
    handle = await client.submit("add", 2, y=3)
    assert await handle.result(timeout=5) == 5
    assert handle.done
    assert not any(isinstance(message, m.Fetch | m.Watch) for message in plane.received)


async def test_options_travel(client: Client, plane: FakeControlPlane) -> None:
    chosen = client.options(queue="slow", priority=TaskPriority.LOW, keep_result=False, countdown=9)
    await chosen.delay("add", 1)
    [submit] = plane.submits()
    assert submit.specs == [["add", "slow", 0, {"keep_result": False}]]
    assert submit.ready_at is not None
    when = datetime.now(UTC) + timedelta(days=1)
    handle = await client.apply("add", [1], expires=when, task_id=id_text(bytes(15) + b"\x01"))
    assert plane.submits()[1].expires_at == [when.timestamp()]
    assert handle.id == "00000000-0000-0000-0000-000000000001"


async def test_reserved_keywords_are_options_and_others_are_arguments(
    client: Client, plane: FakeControlPlane
) -> None:
    await client.delay("add", priority=TaskPriority.CRITICAL, x=1, queue=2)
    [submit] = plane.submits()
    assert submit.specs[0][:3] == ["add", "default", 3]
    assert next(iter(plane.jobs.values())) == ("add", [], {"x": 1, "queue": 2})


async def test_concurrent_submissions_share_messages(
    client: Client, plane: FakeControlPlane
) -> None:
    await client.wait_connected(5)
    async with anyio.create_task_group() as group:
        for number in range(100):
            group.start_soon(client.delay, "add", number)
    assert len(plane.jobs) == 100
    assert len(plane.submits()) <= 3


@pytest.mark.parametrize(
    ("arguments", "options", "error"),
    [
        (("add", object()), {}, NotSerializable),
        (("bad name",), {}, InvalidName),
        ((7,), {}, CallerError),
        (("add",), {"priority": 3}, InvalidOption),
        (("add",), {"countdown": -1}, InvalidOption),
        (("add",), {"eta": datetime(2030, 1, 1)}, InvalidOption),
    ],
)
async def test_a_wrong_call_sends_nothing(
    client: Client,
    plane: FakeControlPlane,
    arguments: tuple[object, ...],
    options: dict[str, object],
    error: type[Exception],
) -> None:
    with pytest.raises(error):
        await client.delay(*arguments, **options)  # type: ignore[arg-type]
    with pytest.raises(InvalidOption, match="no option 'queeu'"):
        client.options(queeu="x")
    assert plane.submits() == []


# --- calls by name -------------------------------------------------------------------------


async def tell_signature(
    client: Client, plane: FakeControlPlane, signature: str, *, agree: bool = True
) -> None:
    """Have the client know it: messages are read in order, so an answer comes later."""
    await client.wait_connected(5)
    row: dict[str, object] = {"name": "add", "signature": signature, "signatures_agree": agree}
    await plane.peers[0].send(m.Roster([], [], [row]))
    await client.status()


async def test_arguments_of_a_call_by_name_are_checked_where_all_subworkers_agree(
    client: Client, plane: FakeControlPlane
) -> None:
    await tell_signature(client, plane, "(x: int, y: int = 3) -> int")
    says = r"task add\(x: int, y: int = 3\) -> int cannot be called so"
    with pytest.raises(ArgumentError, match=says):
        await client.delay("add")
    with pytest.raises(ArgumentError, match="unexpected keyword argument 'z'"):
        await client.options(countdown=1).delay("add", 1, z=2)
    with pytest.raises(ArgumentError, match="too many positional"):
        await client.submit_many("add", [(1,), (1, 2, 3)])
    with pytest.raises(ArgumentError, match="multiple values"):
        await client.submit_many([call("add", 1, x=2)])
    with pytest.raises(ArgumentError):
        [_ async for _ in client.submit_stream([call("add")])]
    assert plane.submits() == []
    assert await (await client.submit("add", 1, y=2)).result(5) == 3
    await client.delay("another", 1, 2, 3)


@pytest.mark.parametrize(("signature", "agree"), [("(x)", False), ("(x: <locals>…", True)])
async def test_arguments_are_not_checked_where_the_signature_is_not_known(
    client: Client, plane: FakeControlPlane, signature: str, agree: bool
) -> None:
    await tell_signature(client, plane, signature, agree=agree)
    await client.delay("add", 1, 2, 3)


async def test_a_signature_is_forgotten_with_its_connection(
    client: Client, plane: FakeControlPlane
) -> None:
    await tell_signature(client, plane, "(x)")
    await plane.peers[0].drop()
    await plane.until(lambda: plane.connections == 2)
    await client.delay("add", 1, 2, 3)


async def test_an_argument_that_cannot_travel_is_named_as_the_signature_does(
    client: Client, plane: FakeControlPlane
) -> None:
    @task(name="named_arguments")
    def held(x: object, y: object = None) -> None: ...

    with pytest.raises(NotSerializable, match=r"argument 'y' of task 'named_arguments'"):
        await client.delay(held, 1, object())
    with pytest.raises(NotSerializable, match=r"argument 'y' of task 'named_arguments'"):
        await held.delay(1, object())
    with pytest.raises(NotSerializable, match=r"args\[1\]"):
        await client.delay("add", 1, object())
    await tell_signature(client, plane, "(first, second)")
    with pytest.raises(NotSerializable, match=r"argument 'second' of task 'add'"):
        await client.delay("add", 1, object())


# --- refusals, silence, lost connections ---------------------------------------------------


async def test_overload_is_retried(client: Client, plane: FakeControlPlane) -> None:
    plane.answer = refusing("overloaded", 0.01, times=2)  # type: ignore[assignment]
    assert await (await client.submit("add", 1, 1)).result(5) == 2
    assert len(plane.submits()) == 3


async def test_overload_until_the_deadline_is_raised(plane: FakeControlPlane) -> None:
    # No second try within the time: its answer might come too late, which is another error.
    plane.answer = refusing("overloaded", 60.0, times=1)  # type: ignore[assignment]
    async with Client(
        control_plane_address=plane.address, token=TOKEN, submit_timeout=0.5
    ) as client:
        await client.wait_connected(5)
        with pytest.raises(Overloaded) as caught:
            await client.delay("add", 1)
    assert caught.value.task_id is not None


async def test_other_refusals_are_raised_at_once(client: Client, plane: FakeControlPlane) -> None:
    plane.answer = refusing("storage_full", 0.0, times=1)  # type: ignore[assignment]
    with pytest.raises(StorageFull) as caught:
        await client.delay("add", 1)
    assert caught.value.task_id is not None

    def conflict(plane: FakeControlPlane, peer: Peer, submit: m.Submit) -> list[m.Message]:
        return [m.Problem("conflict", "taken", submit.request, existing_id=bytes(16))]

    plane.answer = conflict
    with pytest.raises(Conflict) as conflicted:
        await client.delay("add", 1)
    assert conflicted.value.existing_id == id_text(bytes(16))


async def test_silence_is_indeterminate(plane: FakeControlPlane) -> None:
    plane.answer = None
    async with Client(
        control_plane_address=plane.address, token=TOKEN, submit_timeout=0.04
    ) as client:
        await client.wait_connected(5)
        with pytest.raises(Indeterminate) as caught:
            await client.delay("add", 1)
        repeated = caught.value.task_id
        plane.answer = FakeControlPlane.accept
        assert (await client.apply("add", [1], task_id=repeated)).id == repeated


async def test_nobody_there_is_unavailable(anyio_backend: object) -> None:
    async with Client(
        control_plane_address="tcp://127.0.0.1:9", token=TOKEN, submit_timeout=0.03
    ) as client:
        with pytest.raises(ControlPlaneUnavailable, match=r"never sent.*127\.0\.0\.1:9") as caught:
            await client.delay("add", 1)
        assert caught.value.task_id is not None
        with pytest.raises(ControlPlaneUnavailable):
            await client.wait_connected(0.01)


async def test_a_wrong_token_is_said_at_once(plane: FakeControlPlane) -> None:
    async with Client(
        control_plane_address=plane.address, token="x" * 40, submit_timeout=0.05
    ) as client:
        with pytest.raises(AuthenticationFailed, match="token"):
            await client.wait_connected()


async def test_a_connection_that_is_refused_again_and_again_is_tried_seldom(
    plane: FakeControlPlane,
) -> None:
    plane.answer = lambda self, peer, submit: [m.Problem("forbidden", "the token has no role")]
    async with Client(control_plane_address=plane.address, token=TOKEN) as client:
        with anyio.move_on_after(0.7):
            await client.delay("add", 1)
    assert plane.connections == 1


async def test_waiting_without_retry_ends_with_the_first_round_of_tries() -> None:
    places = "tcp://127.0.0.1:9,tcp://127.0.0.1:19"
    async with Client(control_plane_address=places, token="x" * 40) as client:
        with pytest.raises(ControlPlaneUnavailable, match=r":19: .*refused"):
            await client.wait_connected(retry=False)


@pytest.mark.parametrize("stored", [False, True])
async def test_a_lost_connection_makes_no_second_job(
    client: Client, plane: FakeControlPlane, stored: bool
) -> None:
    plane.drop_at_submit, plane.store_dropped = 2, stored
    handle = await client.submit("add", 4, 5)
    assert await handle.result(5) == 9
    assert len(plane.jobs) == 1
    first, second, third = plane.submits()
    assert first.ids == second.ids == third.ids
    assert [s.first_try for s in (first, second, third)] == [True, False, False]
    assert plane.connections == 3


async def test_results_arrive_over_a_later_connection(
    client: Client, plane: FakeControlPlane
) -> None:
    plane.hold = True
    handle = await client.submit("add", 1, 2)
    await plane.peers[0].drop()
    await plane.until(lambda: any(isinstance(one, m.Watch) for one in plane.received))
    await plane.finish_held()
    assert await handle.result(5) == 3


async def test_an_older_job_that_holds_gives_the_id(
    client: Client, plane: FakeControlPlane
) -> None:
    older = await client.submit("add", 1)

    def existing(plane: FakeControlPlane, peer: Peer, submit: m.Submit) -> list[m.Message]:
        return [m.Submitted(submit.request, existing=[[0, id_bytes(older.id)]])]

    plane.answer = existing
    handle = await client.submit("add", 1)
    assert handle.id == older.id
    assert await handle.result(5) == 1


async def test_a_cancelled_caller_is_forgotten(client: Client, plane: FakeControlPlane) -> None:
    plane.answer = None
    with anyio.move_on_after(0.02):
        await client.delay("add", 1)
    plane.answer = FakeControlPlane.accept
    await plane.until(lambda: bool(plane.peers))
    await plane.peers[0].drop()
    await client.delay("add", 2)
    assert [args for _, args, _ in plane.jobs.values()] == [[2]]


async def test_a_full_outbox_makes_callers_wait(plane: FakeControlPlane) -> None:
    plane.answer = None
    async with Client(
        control_plane_address=plane.address, token=TOKEN, submit_timeout=0.05, outbox_limit=1
    ) as client:
        await client.wait_connected(5)
        outcomes: list[type[Exception]] = []

        async def submit() -> None:
            try:
                await client.delay("add", 1)
            except (Indeterminate, ControlPlaneUnavailable) as error:
                outcomes.append(type(error))

        async with anyio.create_task_group() as group:
            group.start_soon(submit)
            group.start_soon(submit)
    assert set(outcomes) >= {Indeterminate}
    assert len(outcomes) == 2


async def test_a_silent_connection_is_given_up(plane: FakeControlPlane) -> None:
    plane.heartbeat_seconds = 0.01
    plane.handle = lambda peer, message: []  # type: ignore[method-assign]
    async with Client(control_plane_address=plane.address, token=TOKEN):
        await plane.until(lambda: plane.connections >= 2)


# --- results -------------------------------------------------------------------------------


async def test_failures_come_back_as_exceptions(client: Client) -> None:
    with pytest.raises(ValueError, match=r"^too small$") as caught:
        await (await client.submit("fail", "ValueError", "too small")).result(5)
    cause = caught.value.__cause__
    assert isinstance(cause, TaskError)
    assert cause.remote_traceback == "Traceback: remote"
    for name in ("SystemExit", "StopIteration", "os.system", "KeyboardInterrupt"):
        with pytest.raises(TaskError) as other:
            await (await client.submit("fail", name, "x")).result(5)
        assert other.value.type_name == name


async def test_waiting_ends_first(client: Client, plane: FakeControlPlane) -> None:
    plane.hold = True
    handle = await client.submit("add", 1)
    with pytest.raises(TimeoutError):
        await handle.result(timeout=timedelta(milliseconds=10))
    assert await handle.status() is TaskStatus.QUEUED
    await plane.finish_held()
    assert (await handle.wait(5)).result == 1


async def test_results_by_id(client: Client, plane: FakeControlPlane) -> None:
    task_id = await client.delay("add", 20, 22)
    assert await client.result(task_id, timeout=5) == 42
    nobody = id_text(new_id(wall=0, random=bytes(10)))
    with pytest.raises(UnknownJob):
        await client.result(nobody)
    assert await client.get_task_result(nobody) is None
    with pytest.raises(UnknownJob):
        await client.handle(nobody).status()
    plane.expired.add(id_bytes(nobody))
    with pytest.raises(ResultExpired):
        await client.result(nobody)
    with pytest.raises(InvalidOption):
        await client.get_task_result("nonsense")


async def test_a_job_that_waits_says_why(client: Client, plane: FakeControlPlane) -> None:
    plane.hold = True
    result = await client.get_task_result(await client.delay("add", 1))
    assert result is not None
    assert (result.status, result.reason) == (TaskStatus.QUEUED, "no capable worker")


async def test_cancel_says_what_happened(client: Client, plane: FakeControlPlane) -> None:
    plane.hold = True
    handle = await client.submit("add", 1)
    assert (await handle.cancel()).cancelled
    assert (await handle.cancel()).outcome is CancelOutcome.FINISHED_FIRST
    nobody = id_text(bytes(16))
    assert (await client.cancel(nobody)).outcome is CancelOutcome.UNKNOWN


@pytest.mark.parametrize(
    "wrong",
    [{"grace": math.inf}, {"grace": 1e300}, {"grace": -1}, {"grace": "5"}, {"reason": 5}],
    ids=str,
)
async def test_a_cancel_that_cannot_be_is_refused_before_it_is_sent(
    client: Client, wrong: dict[str, Any]
) -> None:
    with pytest.raises(InvalidOption, match=next(iter(wrong))):
        await client.cancel(id_text(bytes(16)), **wrong)
    if "grace" in wrong:
        with pytest.raises(InvalidOption, match="grace"):
            client.task_group(**wrong)
    else:
        with pytest.raises(InvalidOption, match="reason"):
            client.task_group().cancel(**wrong)


async def test_any_text_may_be_the_reason_of_a_cancel(client: Client) -> None:
    for reason in ("x" * 100_000, "half a pair: \udc80"):
        answer = await client.cancel(id_text(bytes(16)), reason=reason)
        assert answer.outcome is CancelOutcome.UNKNOWN


async def test_reports(client: Client) -> None:
    task_id = await client.delay("add", 1)
    assert await client.jobs() == [{"id": task_id}]
    assert await client.status() == {"queued": 1}
    assert await client.workers() == await client.tasks() == []


async def test_requests_are_asked_again_after_a_lost_connection(
    client: Client, plane: FakeControlPlane
) -> None:
    await client.wait_connected(5)
    real = plane.handle
    plane.handle = lambda peer, message: []  # type: ignore[method-assign]
    async with anyio.create_task_group() as group:
        group.start_soon(client.status)
        await plane.until(lambda: any(isinstance(one, m.Query) for one in plane.received))
        plane.handle = real  # type: ignore[method-assign]
        await plane.peers[0].drop()


# --- many ----------------------------------------------------------------------------------


async def test_submit_many_is_one_group(client: Client, plane: FakeControlPlane) -> None:
    handles = await client.submit_many("add", [(n, 1) for n in range(2_500)])
    assert await client.results(handles, timeout=10) == [n + 1 for n in range(2_500)]
    submits = plane.submits()
    assert [len(s.payloads) for s in submits] == [1000, 1000, 500]
    assert {s.group_total for s in submits} == {2_500}
    assert len({s.group for s in submits}) == 1


async def test_submit_many_of_different_tasks(client: Client, plane: FakeControlPlane) -> None:
    handles = await client.submit_many([call("add", 1), call("fail", "KeyError", "k")])
    assert await handles[0].result(5) == 1
    with pytest.raises(KeyError):
        await client.results(handles, timeout=5)
    assert [spec[0] for spec in plane.submits()[0].specs] == ["add", "fail"]


async def test_submit_many_is_refused_as_one(client: Client, plane: FakeControlPlane) -> None:
    def refuse_one(plane: FakeControlPlane, peer: Peer, submit: m.Submit) -> list[m.Message]:
        return [m.Submitted(submit.request, refused=[[1, "storage_full", "full", 0.0]])]

    plane.answer = refuse_one
    with pytest.raises(StorageFull):
        await client.submit_many("add", [(1,), (2,)])
    with pytest.raises(InvalidOption, match="submit_stream"):
        await client.submit_many("add", [()] * 10_001)
    with pytest.raises(CallerError, match="one tuple"):
        await client.submit_many("add", ["ab"])
    assert await client.submit_many("add", []) == []


async def test_a_group_is_sent_again_whole(client: Client, plane: FakeControlPlane) -> None:
    plane.drop_at_submit = 1
    handles = await client.submit_many("add", [(n,) for n in range(1_500)])
    assert await client.results(handles, timeout=10) == list(range(1_500))
    groups = [s.group for s in plane.submits()]
    assert groups[0] not in groups[-2:]
    assert len(plane.jobs) == 1_500


async def test_submit_stream_takes_any_number(client: Client, plane: FakeControlPlane) -> None:
    stream = client.submit_stream(call("add", n) for n in range(2_300))
    handles = [handle async for handle in stream]
    assert await client.results(handles, timeout=10) == list(range(2_300))


async def test_a_stream_raises_at_the_turn_of_the_wrong_one(
    client: Client, plane: FakeControlPlane
) -> None:
    stream = client.submit_stream([call("add", 1), call("bad name"), call("add", 2)])
    handles = []
    with pytest.raises(InvalidName):
        async for handle in stream:
            handles.append(handle)
    assert await client.results(handles, timeout=5) == [1]
    assert len(plane.jobs) == 1


async def test_large_arguments_travel_in_pieces(client: Client) -> None:
    handle = await client.submit("add", 1, *([0] * 700_000))
    assert await handle.result(5) == 1


# --- starting and stopping -----------------------------------------------------------------


async def test_a_client_that_is_not_started_says_so(plane: FakeControlPlane) -> None:
    client = Client(control_plane_address=plane.address, token=TOKEN)
    with pytest.raises(ClientNotReady, match="not started"):
        await client.delay("add", 1)
    client.stop()
    await client.stop()
    await client.start()
    await client.start()
    await client.delay("add", 1)
    client.stop()
    with pytest.raises(ClientNotReady, match="stopped"):
        await client.delay("add", 1)
    await client.stop()
    await client.start()
    await client.delay("add", 1)
    await client.stop()


async def test_stop_from_another_thread_fails_those_who_wait(
    client: Client, plane: FakeControlPlane
) -> None:
    plane.hold = True
    handle = await client.submit("add", 1)
    failed = anyio.Event()

    async def wait() -> None:
        with pytest.raises(ClientNotReady):
            await handle.result()
        failed.set()

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.lowlevel.checkpoint()
        await anyio.to_thread.run_sync(client.stop)
        await failed.wait()


async def test_start_and_stop_in_different_tasks(plane: FakeControlPlane) -> None:
    client = Client(control_plane_address=plane.address, token=TOKEN)
    async with anyio.create_task_group() as group:
        group.start_soon(client.start)
    await client.delay("add", 1)
    async with anyio.create_task_group() as group:
        group.start_soon(client.stop()._wait)
    assert not client.is_started


async def test_calls_on_tasks_use_the_one_started_client(plane: FakeControlPlane) -> None:
    @task(name="client_test_add")
    def add(x: int, y: int = 0) -> int:
        return x + y

    with pytest.raises(ClientNotReady, match="no client is started"):
        current_client()
    async with Client(control_plane_address=plane.address, token=TOKEN) as client:
        assert await (await add.submit(1, 2)).result(5) == 3
        async with Client(control_plane_address=plane.address, token=TOKEN):
            with pytest.raises(ClientNotReady, match="2 clients"):
                await add.delay(1)
            with client.as_current():
                await add.delay(1)
                assert current_client() is client
