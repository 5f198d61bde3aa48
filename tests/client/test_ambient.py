"""Clients inside tasks: the runner's transport, the job's authority, the slot given back."""

from __future__ import annotations

import math
from contextvars import ContextVar

import anyio
import pytest
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from fastworker.client import ambient
from fastworker.client.blocking import BlockingClient
from fastworker.client.current import current_client
from fastworker.core.ids import split_ids
from fastworker.core.records import STATUS_NUMBERS, TaskStatus
from fastworker.wire import messages as m
from fastworker.wire.codec import decode, encode
from fastworker.wire.values import seal_value

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_ambient")]


class MemoryTransport:
    """Answers Submits by itself."""

    def __init__(self) -> None:
        self.received: list[m.Message] = []
        self._send: MemoryObjectSendStream[bytes]
        self._receive: MemoryObjectReceiveStream[bytes]
        self._send, self._receive = anyio.create_memory_object_stream[bytes](math.inf)

    async def send(self, frame: bytes) -> None:
        for message in decode(frame):
            self.received.append(message)
            if isinstance(message, m.Submit):
                count = len(split_ids(message.ids))
                done = m.Finished(
                    message.ids,
                    bytes([STATUS_NUMBERS[TaskStatus.SUCCESS]]) * count,
                    [seal_value("done", what="the result")] * count,
                    [1.0] * count,
                    [2.0] * count,
                    [1] * count,
                )
                self._send.send_nowait(encode([m.Submitted(message.request)]))
                self._send.send_nowait(encode([done]))

    async def receive(self) -> bytes:
        try:
            return await self._receive.receive()
        except (anyio.EndOfStream, anyio.ClosedResourceError) as error:
            raise ConnectionError("closed") from error

    async def aclose(self) -> None:
        self._send.close()
        self._receive.close()


async def test_a_task_submits_with_its_own_authority(anyio_backend: object) -> None:
    transports: list[MemoryTransport] = []
    hooks: list[str] = []

    async def opener() -> MemoryTransport:
        transports.append(MemoryTransport())
        return transports[-1]

    ambient.set_transport_opener(opener)
    ambient.set_job_context(lambda: (b"p" * 16, 7))
    ambient.set_wait_hooks(lambda: hooks.append("enter"), lambda: hooks.append("leave"))
    client = current_client()
    assert current_client() is client
    with anyio.fail_after(5):
        handle = await client.submit("child")
        assert hooks == []
        assert await handle.result() == "done"
    introduce, submit = transports[0].received
    assert isinstance(introduce, m.Introduce)
    assert isinstance(submit, m.Submit)
    assert (submit.parent, submit.parent_token) == (b"p" * 16, 7)
    assert hooks in ([], ["enter", "leave"])
    await client.stop()


async def test_a_plain_task_in_a_thread_submits_with_its_own_authority(
    anyio_backend: object,
) -> None:
    transports: list[MemoryTransport] = []

    async def opener() -> MemoryTransport:
        transports.append(MemoryTransport())
        return transports[-1]

    job: ContextVar[tuple[bytes, int] | None] = ContextVar("job", default=None)
    ambient.set_transport_opener(opener)
    ambient.set_job_context(job.get)

    def plain_task() -> object:
        job.set((b"q" * 16, 9))
        with BlockingClient() as client:
            return client.submit("child").result(5)

    assert await anyio.to_thread.run_sync(plain_task) == "done"
    submit = transports[0].received[-1]
    assert isinstance(submit, m.Submit)
    assert (submit.parent, submit.parent_token) == (b"q" * 16, 9)


async def test_the_slot_is_given_back_while_waiting(anyio_backend: object) -> None:
    async def opener() -> MemoryTransport:
        return MemoryTransport()

    hooks: list[str] = []
    ambient.set_transport_opener(opener)
    ambient.set_wait_hooks(lambda: hooks.append("enter"), lambda: hooks.append("leave"))
    client = current_client()
    handle = client.handle("00000000-0000-0000-0000-000000000001")
    with pytest.raises(TimeoutError):
        await handle.result(timeout=0.01)
    assert hooks == ["enter", "leave"]
    await client.stop()
