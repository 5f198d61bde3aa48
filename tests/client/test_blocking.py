"""The client without await, in scripts and in forked children."""

from __future__ import annotations

import faulthandler
import os
import threading
from collections.abc import Iterator

import anyio
import pytest

from fastworker.client.blocking import BlockingClient
from fastworker.client.handles import CancelOutcome
from fastworker.core.records import TaskPriority, TaskStatus
from fastworker.errors import ClientNotReady, InvalidAddress, InvalidOption
from tests.client.fake_control_plane import TOKEN, FakeControlPlane, open_fake_control_plane


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
