"""A client whose control plane answers with anything.

It has calls of every kind under way. Each of them ends in time, with a value or an error of ours;
the client's connection survives or is made again, and nothing is logged as a bug.

An input is a row of steps as in `dispatching`. In their frames the ids of `IDS` stand for those of
the jobs that the client has submitted, and numbers of requests for those that it has made.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final

import trio
import trio.testing

from fastworker.client.ambient import StandIn, Transport, set_stand_in
from fastworker.client.client import Client
from fastworker.core.ids import split_ids
from fastworker.errors import FastWorkerError, ProtocolError
from fastworker.testing.frames import MemoryFrames, MemoryTransport, memory_frames
from fastworker.transport.link import LinkClosed
from fastworker.wire.addresses import Address
from fastworker.wire.codec import UnknownMessage, decode, encode
from fastworker.wire.handshake import ListenerHandshake
from fastworker.wire.messages import Hello, Proof, Submit, Submitted, Welcome
from tests.fuzzing.dispatching import (
    CANARY_SECONDS,
    CLOCK_STEPS_A_SECOND,
    IDS,
    TOKEN,
    WALL,
    Broken,
    Step,
    no_bugs_logged,
    steps_of,
)

SAY, ACCEPT, CLOCK, DROP = range(4)

TIMEOUT_SECONDS: Final = 60.0
"""Of each call that takes one."""

SOMEBODYS_ID: Final = "00000000-0000-7000-8000-000000000000"


def run(data: bytes) -> None:
    """Answer a client with what the bytes say.

    Raises:
        Broken: a call ended otherwise than it may, or did not end.
    """
    with no_bugs_logged():
        virtual = trio.testing.MockClock(autojump_threshold=0.0)
        trio.run(_run, list(steps_of(data)), clock=virtual)


async def _run(steps: list[Step]) -> None:
    async with trio.open_nursery() as nursery:
        plane = _ControlPlane(nursery)
        start = trio.current_time()
        set_stand_in(
            StandIn(Address("nowhere", 1), TOKEN, plane.connect, lambda: None),
            lambda: WALL + trio.current_time() - start,
        )
        try:
            async with Client() as client:
                with trio.CancelScope() as patience:
                    async with trio.open_nursery() as calls:
                        for call in _calls(client):
                            calls.start_soon(_ends_well, call)
                        await trio.testing.wait_all_tasks_blocked()
                        for step in steps:
                            await plane.take(step)
                        patience.deadline = trio.current_time() + CANARY_SECONDS
                if patience.cancelled_caught:
                    raise Broken("a call has not ended")
                if not client.is_started:
                    raise Broken("the client has stopped by itself")
        finally:
            set_stand_in(None)
        nursery.cancel_scope.cancel()


def _calls(client: Client) -> list[Callable[[], Awaitable[object]]]:
    """One of every kind."""

    async def result() -> object:
        return await (await client.submit("add", 1, 2)).result(timeout=TIMEOUT_SECONDS)

    async def items() -> None:
        with trio.move_on_after(TIMEOUT_SECONDS):
            async for _ in client.stream("count", 3):
                pass

    async def lines() -> None:
        with trio.move_on_after(TIMEOUT_SECONDS):
            async for _ in client.handle(SOMEBODYS_ID).logs(follow=True):
                pass

    async def cancelled() -> object:
        with trio.move_on_after(TIMEOUT_SECONDS):
            return await client.cancel(SOMEBODYS_ID)
        return None

    async def tree() -> object:
        return await client.tree(stacks=True)

    async def progress() -> None:
        with trio.move_on_after(TIMEOUT_SECONDS):
            async for _ in client.handle(SOMEBODYS_ID).progress():
                pass

    def about(ask: Callable[[str], Awaitable[object]]) -> Callable[[], Awaitable[object]]:
        return partial(ask, SOMEBODYS_ID)

    return [
        *(result, items, lines, progress, cancelled, tree),
        *map(about, (client.get_task_result, client.stack, client.dead_letter, client.attempts)),
        *map(about, (client.replay, client.discard, client.pause)),
        *(client.status, client.jobs, client.workers, client.tasks, client.dead),
        *(client.queues, client.tenants, client.replay_dead),
    ]


async def _ends_well(call: Callable[[], Awaitable[object]]) -> None:
    with suppress(FastWorkerError, TimeoutError):
        await call()


class _ControlPlane:
    """Shakes hands as it should, and then says what the steps say."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._frames: MemoryFrames | None = None
        self._submits: list[Submit] = []
        self._requests: list[int] = []

    async def connect(self) -> Transport:
        ours, theirs = memory_frames()
        self._nursery.start_soon(self._serve, ours)
        return MemoryTransport(theirs)

    async def _serve(self, frames: MemoryFrames) -> None:
        handshake = ListenerHandshake(lambda _: TOKEN.encode(), lambda size: bytes(size))
        with suppress(LinkClosed):
            (hello,) = decode(await frames.receive_frame())
            assert isinstance(hello, Hello)
            await frames.send_frame(encode([handshake.receive_hello(hello)]))
            (proof,) = decode(await frames.receive_frame())
            assert isinstance(proof, Proof)
            handshake.receive_proof(proof)
            welcome = Welcome(bytes(16), "fuzz", 5.0, 15.0, 2**20, WALL)
            await frames.send_frame(encode([welcome]))
            self._frames = frames
            while True:
                for message in decode(await frames.receive_frame()):
                    if isinstance(message, Submit):
                        self._submits.append(message)
                    if isinstance(number := getattr(message, "request", None), int):
                        self._requests.append(number)

    async def take(self, step: Step) -> None:
        """One step."""
        match step.who % 4:
            case 0:
                await self._say(self._meant_for_them(step.frame))
            case 1 if self._submits:
                await self._say(encode([Submitted(self._submits.pop(0).request)]))
            case 2:
                await trio.sleep(sum(step.frame[:64]) / CLOCK_STEPS_A_SECOND)
            case 3 if self._frames is not None:
                await self._frames.aclose()
        await trio.testing.wait_all_tasks_blocked()

    def _meant_for_them(self, frame: bytes) -> bytes:
        submitted = [each for submit in self._submits for each in split_ids(submit.ids)]
        for ours, theirs in zip(IDS, submitted, strict=False):
            frame = frame.replace(ours, theirs)
        try:
            messages = decode(frame)
        except ProtocolError:
            return frame
        known = [each for each in messages if not isinstance(each, UnknownMessage)]
        for message in known:
            if self._requests and isinstance(number := getattr(message, "request", None), int):
                answer: Any = message
                answer.request = self._requests[number % len(self._requests)]
        return encode(known)

    async def _say(self, frame: bytes) -> None:
        if self._frames is not None:
            with suppress(LinkClosed), trio.move_on_after(CANARY_SECONDS):
                await self._frames.send_frame(frame)
