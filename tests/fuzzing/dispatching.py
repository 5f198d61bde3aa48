"""A whole control plane in memory, and peers that send it any frames in any order.

Time is virtual and the store is memory, so that the same bytes do the same every time. Beside the
peers a client has had jobs accepted: whatever happens, they are still known at the end, and the
next client is served.

An input is a row of steps: a byte that says who, two bytes of length, and a frame.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

import trio
import trio.testing

from fastworker.core.records import Now
from fastworker.server.control_plane import run_control_plane
from fastworker.server.listener import Listener
from fastworker.server.plane import Plane
from fastworker.server.settings import ControlPlaneSettings
from fastworker.testing.frames import MemoryFrames, memory_frames
from fastworker.transport.dial import open_link_over
from fastworker.transport.link import Link, LinkClosed
from fastworker.wire.codec import decode, encode
from fastworker.wire.handshake import DialerHandshake
from fastworker.wire.messages import (
    Challenge,
    Fetch,
    Fetched,
    Introduce,
    Message,
    Register,
    Relay,
    Submit,
    Submitted,
)
from fastworker.wire.values import seal_call

TOKEN: Final = "fuzz." + "t" * 40
WALL: Final = 1_763_812_800.0
MAX_STEPS: Final = 24
MAX_FRAME: Final = 4096
CLOCK_STEPS_A_SECOND: Final = 16
"""At most a quarter of an hour for one step: all time-outs of peers are shorter."""

CANARY_SECONDS: Final = 300.0
"""Of virtual time: whoever is not answered by then never is."""

IDS: Final = tuple(bytes([number]) * 16 for number in range(3))
"""Of the jobs beside the peers: those of which generated messages speak."""
INCARNATION: Final = bytes(range(16))

CLIENT, STRANGER, SUBWORKER, UNREGISTERED, TASK, CLOCK, LEAVE, UNPROVED = range(8)
"""Who sends a frame. A clock lets time pass, and one leaves."""

SETTINGS: Final = ControlPlaneSettings(
    base_address=None,
    discovery_address=None,
    durability="memory",
    tokens={"fuzz": TOKEN},
    local_worker="never",
)


class Broken(AssertionError):
    """What must not happen has happened."""


@dataclass(frozen=True, slots=True)
class Step:
    who: int
    frame: bytes


def steps_of(data: bytes) -> Iterator[Step]:
    """The steps that any bytes stand for."""
    at = 0
    for _ in range(MAX_STEPS):
        if at + 3 > len(data):
            return
        who, length = struct.unpack_from("!BH", data, at)
        length = min(length, MAX_FRAME)
        yield Step(who % 8, data[at + 3 : at + 3 + length])
        at += 3 + length


def bytes_of(steps: list[Step]) -> bytes:
    """The input that stands for these steps."""
    cut = [(step.who, step.frame[:MAX_FRAME]) for step in steps]
    return b"".join(struct.pack("!BH", who, len(frame)) + frame for who, frame in cut)


class _Bugs(logging.Handler):
    """Keeps what was logged with a traceback, or asks to be reported."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info or "report it" in record.getMessage():
            self.found.append(record)


@contextmanager
def no_bugs_logged() -> Iterator[None]:
    """Raise the first error that is logged as a bug within the block."""
    bugs = _Bugs()
    logger = logging.getLogger("fastworker")
    logger.addHandler(bugs)
    quiet, logger.propagate = logger.propagate, False
    try:
        yield
    finally:
        logger.removeHandler(bugs)
        logger.propagate = quiet
    for record in bugs.found:
        cause = record.exc_info[1] if record.exc_info else None
        raise Broken(record.getMessage()) from cause


def run(data: bytes) -> None:
    """Let the peers do what the bytes say.

    Raises:
        Broken: an error that is none of a peer's, a lost job, or nobody is served any more.
    """
    with no_bugs_logged():
        trio.run(_run, list(steps_of(data)), clock=trio.testing.MockClock(autojump_threshold=0.0))


def clock() -> Now:
    """Both clocks of a run: virtual."""
    return Now(WALL + trio.current_time(), trio.current_time())


async def _run(steps: list[Step]) -> None:
    async with trio.open_nursery() as nursery:
        start = partial(run_control_plane, SETTINGS, clock=clock, handle_signals=False)
        plane: Plane = await nursery.start(start)
        stage = _Stage(plane, nursery)
        await stage.accept_jobs()
        for step in steps:
            await stage.take(step)
        await stage.check()
        nursery.cancel_scope.cancel()


class _Stage:
    """The control plane, and who is connected to it."""

    def __init__(self, plane: Plane, nursery: trio.Nursery) -> None:
        self._listener = Listener(plane)
        self._nursery = nursery
        self._peers: dict[int, MemoryFrames] = {}

    async def accept_jobs(self) -> None:
        """Jobs that must survive whatever follows."""
        payload = seal_call((1, 2), {}, task="add")
        specs: list[list[object]] = [["add", "default", 1, {}]]
        answer = await self._ask(Submit(1, specs, b"".join(IDS), [payload] * len(IDS)))
        if not isinstance(answer, Submitted) or answer.refused:
            raise Broken(f"jobs were not accepted: {answer}")

    async def check(self) -> None:
        """A new client is served, and knows of the jobs."""
        answer = await self._ask(Fetch(2, b"".join(IDS)))
        if not isinstance(answer, Fetched) or {job["id"] for job in answer.jobs} != set(IDS):
            raise Broken(f"accepted jobs are gone: {answer}")

    async def take(self, step: Step) -> None:
        """One step."""
        if step.who == CLOCK:
            await trio.sleep(sum(step.frame[:64]) / CLOCK_STEPS_A_SECOND)
        elif step.who == LEAVE:
            for peer in self._peers.values():
                await peer.aclose()
            self._peers.clear()
            await trio.testing.wait_all_tasks_blocked()
        else:
            who = SUBWORKER if step.who == TASK else step.who
            frame = encode([Relay(1, step.frame)]) if step.who == TASK else step.frame
            await self._send(who, frame)

    async def _send(self, who: int, frame: bytes) -> None:
        if who not in self._peers:
            self._peers[who] = await self._arrive(who)
        try:
            with trio.fail_after(CANARY_SECONDS):
                await self._peers[who].send_frame(frame)
        except LinkClosed:
            del self._peers[who]
        await trio.testing.wait_all_tasks_blocked()

    def _connect(self) -> MemoryFrames:
        ours, theirs = memory_frames()
        self._nursery.start_soon(self._listener.serve_frames, theirs, "fuzzer:1")
        return ours

    async def _arrive(self, who: int) -> MemoryFrames:
        frames = self._connect()
        if who == UNPROVED:
            self._nursery.start_soon(_discard, frames)
            return frames
        role = "subworker" if who in (SUBWORKER, UNREGISTERED) else "client"
        handshake = DialerHandshake(role, TOKEN, lambda size: bytes(size))
        await frames.send_frame(encode([handshake.hello()]))
        (challenge,) = decode(await frames.receive_frame())
        assert isinstance(challenge, Challenge)
        await frames.send_frame(encode([handshake.receive(challenge)]))
        self._nursery.start_soon(_discard, frames)
        if who == CLIENT:
            await frames.send_frame(encode([Introduce(IDS[1], True, True)]))
        elif who == SUBWORKER:
            rows: list[list[object]] = [["add", 0, "(x, y)"]]
            register = Register(INCARNATION, "fuzz", ["*"], rows, [10, 10], [0, 0])
            await frames.send_frame(encode([register]))
        return frames

    async def _ask(self, request: Message) -> Message:
        name, agent = "canary", "canary"
        opened = open_link_over(self._connect(), name=name, role="client", token=TOKEN, agent=agent)
        with trio.fail_after(CANARY_SECONDS):
            async with opened as (link, _):
                return await _answer(link, request)


async def _answer(link: Link, request: Message) -> Message:
    link.send(request)
    while True:
        for message in await link.receive():
            if getattr(message, "request", None) is not None:
                return message


async def _discard(frames: MemoryFrames) -> None:
    """Read what is sent, and forget it."""
    try:
        while True:
            await frames.receive_frame()
    except LinkClosed:
        pass
