"""A tenant that sends anything must not be able to tell whether another one has jobs.

The same steps are taken twice: beside jobs of another tenant that wait, run and have ended, and
beside none. What the tenant is told has to be the same, message for message, and the other's jobs
are afterwards what they would have been. One thing is left out, because it cannot be hidden:
submitting under an id that somebody has; ids cannot be guessed.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Final

import trio
import trio.testing

from fastworker.core.records import STATUS_NUMBERS, TaskStatus
from fastworker.errors import ProtocolError
from fastworker.server.control_plane import run_control_plane
from fastworker.server.identities import IssuedToken
from fastworker.server.identity import Identity, Role
from fastworker.server.listener import Listener
from fastworker.server.plane import Plane
from fastworker.testing.frames import MemoryFrames, memory_frames
from fastworker.transport.link import LinkClosed
from fastworker.wire.codec import decode, encode
from fastworker.wire.handshake import DialerHandshake
from fastworker.wire.messages import (
    Challenge,
    Introduce,
    Lines,
    Message,
    Outcome,
    Progress,
    Register,
    Roster,
    Submit,
    Welcome,
)
from fastworker.wire.values import seal_call, seal_value
from tests.fuzzing.dispatching import (
    CANARY_SECONDS,
    CLOCK_STEPS_A_SECOND,
    IDS,
    INCARNATION,
    SETTINGS,
    WALL,
    Broken,
    Step,
    clock,
    no_bugs_logged,
    steps_of,
)

CLIENT, STRANGER, CLOCK, LEAVE = range(4)

HOLDERS: Final = {
    "theirs": Identity("theirs", "theirs", frozenset({Role.SUBMIT})),
    "worker": Identity("worker", "theirs", frozenset({Role.WORKER})),
    "foreign": Identity("foreign", "foreign", frozenset({Role.SUBMIT})),
}
TOKENS: Final = {name: f"{name}.{'t' * 40}" for name in HOLDERS}
PLANE: Final = replace(
    SETTINGS,
    issued_tokens=tuple(IssuedToken(TOKENS[name], HOLDERS[name]) for name in HOLDERS),
)


def run(data: bytes) -> None:
    """Take the steps twice.

    Raises:
        Broken: the tenant was told something else, or has changed what is not its own.
    """
    steps = [step for step in steps_of(data) if not _takes_their_id(step.frame)]
    with no_bugs_logged():
        beside_jobs, touched = _observed(steps, with_jobs=True)
        beside_none, _ = _observed(steps, with_jobs=False)
        _, untouched = _observed([step for step in steps if step.who % 4 == CLOCK], with_jobs=True)
    if beside_jobs != beside_none:
        for one, other in zip(beside_jobs, beside_none, strict=False):
            if one != other:
                raise Broken(f"a tenant can tell {one!r:.400} from {other!r:.400}")
        raise Broken(f"a tenant was told {len(beside_jobs)} things, or {len(beside_none)}")
    if touched != untouched:
        raise Broken(f"jobs of another tenant have changed: {touched} are not {untouched}")


def _takes_their_id(frame: bytes) -> bool:
    try:
        messages = decode(frame)
    except ProtocolError:
        return False
    submitted = [message.ids for message in messages if isinstance(message, Submit)]
    return any(each[at : at + 16] in IDS for each in submitted for at in range(0, len(each), 16))


def _observed(steps: list[Step], *, with_jobs: bool) -> tuple[list[Message], object]:
    """What the tenant is told, and the other's jobs at the end."""
    virtual = trio.testing.MockClock(autojump_threshold=0.0)
    found: tuple[list[Message], object] = trio.run(_run, steps, with_jobs, clock=virtual)
    return found


async def _run(steps: list[Step], with_jobs: bool) -> tuple[list[Message], object]:
    async with trio.open_nursery() as nursery:
        start = partial(run_control_plane, PLANE, clock=clock, handle_signals=False)
        plane: Plane = await nursery.start(start)
        stage = _Stage(plane, nursery)
        await stage.set(with_jobs)
        for step in steps:
            await stage.take(step)
        views = await plane.store.views(IDS)
        jobs = sorted((view.id, view.status, view.attempts, view.failure) for view in views)
        nursery.cancel_scope.cancel()
    return stage.told, jobs


class _Stage:
    """The control plane, another tenant with a worker of its own, and the one who tries."""

    def __init__(self, plane: Plane, nursery: trio.Nursery) -> None:
        self._listener = Listener(plane)
        self._nursery = nursery
        self._peers: dict[int, MemoryFrames] = {}
        self.told: list[Message] = []

    async def set(self, with_jobs: bool) -> None:
        """The other tenant's worker, and perhaps its jobs: one waits, one runs, one has ended."""
        worker = await self._connect("worker", "subworker")
        rows: list[list[object]] = [["add", 0, "(x, y)"]]
        await self._say(worker, Register(INCARNATION, "w", ["*"], rows, [2, 0], [0, 0]))
        if with_jobs:
            client = await self._connect("theirs", "client")
            specs: list[list[object]] = [["add", "default", 1, {}]]
            payload = seal_call((1, 2), {}, task="add")
            await self._say(client, Submit(1, specs, b"".join(IDS), [payload] * len(IDS)))
            ended = bytes([STATUS_NUMBERS[TaskStatus.SUCCESS]])
            await self._say(
                worker,
                Progress(IDS[1], [2], [1.0], [None], ["secret"], [WALL]),
                Lines(IDS[1], [2], [0], [1], [WALL], [20], ["secret"]),
                Outcome(IDS[0], [1], ended, [seal_value("secret", what="x")], [WALL], [WALL]),
            )
            await client.aclose()
        await trio.testing.wait_all_tasks_blocked()

    async def take(self, step: Step) -> None:
        """One step of the one who tries; what it is told then may come in any order."""
        before = len(self.told)
        await self._take(step)
        await trio.testing.wait_all_tasks_blocked()
        self.told[before:] = sorted(self.told[before:], key=repr)

    async def _take(self, step: Step) -> None:
        who = step.who % 4
        if who == CLOCK:
            await trio.sleep(sum(step.frame[:64]) / CLOCK_STEPS_A_SECOND)
        elif who == LEAVE:
            for peer in self._peers.values():
                await peer.aclose()
            self._peers.clear()
        else:
            if who not in self._peers:
                self._peers[who] = await self._connect("foreign", "client", self.told)
                if who == CLIENT:
                    await self._say(self._peers[who], Introduce(IDS[1], True, True))
            try:
                with trio.fail_after(CANARY_SECONDS):
                    await self._peers[who].send_frame(step.frame)
            except LinkClosed:
                del self._peers[who]

    async def _connect(
        self, name: str, role: str, told: list[Message] | None = None
    ) -> MemoryFrames:
        ours, theirs = memory_frames()
        self._nursery.start_soon(self._listener.serve_frames, theirs, "fuzzer:1")
        handshake = DialerHandshake(role, TOKENS[name], lambda size: bytes(size))
        await ours.send_frame(encode([handshake.hello()]))
        (challenge,) = decode(await ours.receive_frame())
        assert isinstance(challenge, Challenge)
        await ours.send_frame(encode([handshake.receive(challenge)]))
        self._nursery.start_soon(_note, ours, [] if told is None else told)
        return ours

    async def _say(self, peer: MemoryFrames, *messages: Message) -> None:
        for message in messages:
            await peer.send_frame(encode([message]))
            await trio.testing.wait_all_tasks_blocked()


async def _note(frames: MemoryFrames, told: list[Message]) -> None:
    """Note all that is said, but for what is new in every run."""
    try:
        while True:
            told += [each for each in decode(await frames.receive_frame()) if not _is_new(each)]
    except LinkClosed:
        pass


def _is_new(message: Message) -> bool:
    return isinstance(message, Welcome | Roster)
