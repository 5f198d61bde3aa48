"""The client without await, in scripts and in forked children."""

from __future__ import annotations

import faulthandler
import os
import threading
from collections.abc import Iterator

import anyio
import pytest
from anyio.from_thread import start_blocking_portal

from fastworker.client.blocking import BlockingClient
from fastworker.client.calls import Call, call
from fastworker.client.handles import CancelOutcome
from fastworker.client.streaming import WINDOW_JOBS
from fastworker.core.records import TaskPriority, TaskStatus
from fastworker.errors import ClientNotReady, InvalidAddress, InvalidName, InvalidOption
from fastworker.wire import messages as m
from tests.client.fake_control_plane import TOKEN, FakeControlPlane, open_fake_control_plane
from tests.client.test_callbacks import callback, first_delivery


@pytest.fixture
def served() -> Iterator[FakeControlPlane]:
    """A fake control plane in a thread of its own."""
    planes: list[FakeControlPlane] = []
    ready = threading.Event()
    stop: list[object] = []

    async def serve() -> None:
        async with open_fake_control_plane() as plane:
            planes.append(plane)
            end = anyio.Event()
            stop.extend((anyio.lowlevel.current_token(), end.set))
            ready.set()
            await end.wait()

    thread = threading.Thread(target=anyio.run, args=(serve,))
    thread.start()
    assert ready.wait(5)
    yield planes[0]
    token, end = stop
    anyio.from_thread.run_sync(end, token=token)  # type: ignore[arg-type]
    thread.join(5)


def test_a_script(served: FakeControlPlane) -> None:
    with BlockingClient(control_plane_address=served.address, token=TOKEN) as client:
        client.wait_connected(5)
        task_id = client.delay("add", 1, 2, priority=TaskPriority.HIGH)
        assert client.result(task_id, timeout=5) == 3
        handle = client.submit("add", 2, 3)
        assert handle.result(timeout=5) == 5
        assert handle.done and handle.status() is TaskStatus.SUCCESS
        assert handle.cancel().outcome is CancelOutcome.FINISHED_FIRST
        handles = client.submit_many("add", [(1,), (2,)])
        assert client.results(handles, timeout=5) == [1, 2]
        with pytest.raises(KeyError):
            client.apply("fail", ["KeyError", "x"]).result(5)
        found = client.get_task_result(task_id)
        assert found is not None and found.result == 3
        assert len(client.jobs()) == 5
    assert client.delay("add", 1)  # starts again by itself
    client.stop()
    client.stop()


def test_options_chosen(served: FakeControlPlane) -> None:
    with BlockingClient(control_plane_address=served.address, token=TOKEN) as client:
        chosen = client.options(queue="slow", on_lost="fail")
        handle = chosen.options(priority=TaskPriority.LOW).submit("add", 1, y=2)
        assert handle.result(timeout=5) == 3
        task_id = chosen.delay("add", 4)
        assert client.result(task_id, timeout=5) == 4
        with pytest.raises(InvalidOption, match="no option 'queeu'"):
            client.options(queeu="x")
    specs = [submit.specs for submit in served.submits()]
    options = {"on_lost": "fail"}
    assert specs == [[["add", "slow", 0, options]], [["add", "slow", 1, options]]]


def test_a_stream_of_any_length_is_read_where_it_is_used(served: FakeControlPlane) -> None:
    with BlockingClient(control_plane_address=served.address, token=TOKEN) as client:
        readers = []

        def calls() -> Iterator[Call]:
            for number in range(2 * WINDOW_JOBS + 1):
                readers.append(threading.current_thread())
                yield call("add", number)
            client.delay("add", 0)  # the source may use the client, too

        handles = list(client.submit_stream(calls()))
        assert client.results(handles, timeout=20) == list(range(2 * WINDOW_JOBS + 1))
        assert set(readers) == {threading.current_thread()}


def test_a_stream_raises_at_the_turn_of_the_wrong_one(served: FakeControlPlane) -> None:
    with BlockingClient(control_plane_address=served.address, token=TOKEN) as client:
        stream = client.submit_stream([call("add", 1), call("bad name"), call("add", 2)])
        assert next(stream).result(timeout=5) == 1
        with pytest.raises(InvalidName):
            next(stream)
        assert list(stream) == []


def test_callbacks_are_acknowledged_in_the_thread_that_handles_them() -> None:
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(open_fake_control_plane()) as plane,
        BlockingClient(control_plane_address=plane.address, token=TOKEN) as client,
    ):
        client.wait_connected(5)
        arriving = client.callbacks()
        portal.call(plane.peers[0].send, callback(1), callback(2), callback(3))
        first = next(client.callbacks())  # dropped, and so not acknowledged by the next one
        for one in arriving:
            one.acknowledge()
            break
        portal.call(plane.until, lambda: m.CallbackAck in map(type, plane.received))
        client.stop()
        first.acknowledge()
        acks = [one for one in plane.received if isinstance(one, m.CallbackAck)]
    assert acks == [m.CallbackAck(first_delivery(2))]


def test_wrong_arguments_are_refused_at_once() -> None:
    with pytest.raises(InvalidAddress):
        BlockingClient(control_plane_address="nowhere")
    with pytest.raises(InvalidOption):
        BlockingClient(submit_timeout=-1)


@pytest.mark.anyio
async def test_it_refuses_to_block_an_event_loop(anyio_backend: object) -> None:
    client = BlockingClient(control_plane_address="tcp://127.0.0.1:9", token=TOKEN)
    with pytest.raises(ClientNotReady, match="block this event loop"):
        client.delay("add", 1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_gets_a_connection_of_its_own(served: FakeControlPlane) -> None:
    client = BlockingClient(control_plane_address=served.address, token=TOKEN)
    assert client.submit("add", 1).result(5) == 1
    child = os.fork()
    if child == 0:
        code = 1
        faulthandler.dump_traceback_later(10, exit=True)
        try:
            code = 0 if client.submit("add", 2, 2).result(5) == 4 else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert client.submit("add", 3).result(5) == 3
    assert served.connections == 2
    client.stop()
