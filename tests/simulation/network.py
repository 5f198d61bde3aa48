"""Connections that are slow, fall silent, break, and repeat what was said on the one before.

A connection is two ways of frames, in order, as over TCP: a frame arrives later or never, but
never twice and never before an older one. Repeats are those of a proxy that sends again what it
had from the last connection of the same process.
"""

from __future__ import annotations

import functools
import itertools
import math
import zlib
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Final

import trio

from fastworker.transport.link import LinkClosed
from fastworker.wire import messages as m
from fastworker.wire.codec import decode
from tests.simulation.record import Record

FRAMES_AHEAD: Final = 64
FRAMES_REPLAYED: Final = 6
QUICK_SECONDS: Final = (0.0002, 0.004)

REPEATABLE: Final = (
    m.Submit,
    m.Cancel,
    m.Watch,
    m.Beat,
    m.Outcome,
    m.Started,
    m.Handback,
    m.Withdrawn,
)
"""What a proxy may send again; anything else begins or ends a connection."""


@functools.lru_cache(maxsize=1024)
def _messages(frame: bytes) -> list[m.Message]:
    """What a frame says; whoever looks on must not change it."""
    return decode(frame)


class Way:
    """One direction of a connection."""

    def __init__(self, wire: Wire, *, to_control_plane: bool) -> None:
        self._wire = wire
        self._to_control_plane = to_control_plane
        self._frames: deque[tuple[float, float, bytes]] = deque()
        """When each arrives and when it was sent."""
        self._changed = trio.Event()
        self._last_arrival = 0.0
        self._said = 0
        self.held_until = 0.0
        self.ended = False
        """Nothing more will be sent; what is under way still arrives."""
        self.deaf = False
        """Its reader has left."""

    async def send(self, frame: bytes) -> None:
        """Send a frame; waits while too many are under way."""
        await trio.lowlevel.checkpoint()
        while len(self._frames) >= FRAMES_AHEAD and not self._closed:
            await self._changed.wait()
        if self._closed:
            raise LinkClosed("the connection was closed")
        self._put(frame)
        self._said += 1
        if self._to_control_plane:
            for repeated in self._wire.remember(frame, self._said):
                self._put(repeated)
        self.wake()

    def _put(self, frame: bytes) -> None:
        now = trio.current_time()
        self._last_arrival = max(now + self._wire.network.delay_seconds(), self._last_arrival)
        self._frames.append((self._last_arrival, now, frame))

    async def receive(self) -> bytes:
        """The next frame, when it has arrived."""
        await trio.lowlevel.checkpoint()
        while True:
            if self.deaf or self._wire.broken:
                raise LinkClosed("the connection was cut")
            at = math.inf
            if self._frames:
                at = max(self._frames[0][0], self.held_until)
                if at <= trio.current_time():
                    _, sent_at, frame = self._frames.popleft()
                    self.wake()
                    if self._wire.deliver(frame, sent_at, to_control_plane=self._to_control_plane):
                        return frame
                    continue
            elif self.ended:
                raise LinkClosed("the connection was closed")
            changed = self._changed
            with trio.CancelScope(deadline=at):
                await changed.wait()

    def wake(self) -> None:
        """Whoever waits looks again."""
        self._changed.set()
        self._changed = trio.Event()

    @property
    def _closed(self) -> bool:
        return self.ended or self.deaf or self._wire.broken


class End:
    """One end of a connection: a `FrameStream`, and a client's `Transport`."""

    def __init__(self, wire: Wire, sends: Way, receives: Way) -> None:
        self._wire = wire
        self._sends = sends
        self._receives = receives

    def send_frame_nowait(self, frame: bytes) -> bool:
        return False

    async def send_frame(self, frame: bytes) -> None:
        """See `FrameStream`."""
        await self._sends.send(frame)

    async def receive_frame(self) -> bytes:
        """See `FrameStream`."""
        return await self._receives.receive()

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """See `FrameStream`."""
        self._wire.note_end()
        self._sends.ended = True
        self._receives.deaf = True
        self._sends.wake()
        self._receives.wake()

    async def send(self, frame: bytes) -> None:
        """See `Transport`."""
        try:
            await self._sends.send(frame)
        except LinkClosed as closed:
            raise ConnectionError(str(closed)) from closed

    async def receive(self) -> bytes:
        """See `Transport`."""
        try:
            return await self._receives.receive()
        except LinkClosed as closed:
            raise ConnectionError(str(closed)) from closed


class Wire:
    """One connection of one process to one control plane."""

    def __init__(self, network: Network, name: str, peer: str, replay: list[bytes]) -> None:
        self.network = network
        self.name = name
        self.peer = peer
        self.broken = False
        self.ended_at = math.inf
        """When the first of its ends was closed, or it was cut."""
        self.spoken: deque[bytes] = deque(maxlen=FRAMES_REPLAYED)
        self._replay = replay
        self._replay_after = network.random.randint(4, 7)
        self.frames_left = network.frames_until_cut()
        up, down = Way(self, to_control_plane=True), Way(self, to_control_plane=False)
        self.ways = (up, down)
        self.near, self.far = End(self, up, down), End(self, down, up)

    def remember(self, frame: bytes, said: int) -> list[bytes]:
        """A frame is sent to the control plane; what is sent again after it."""
        if self.network.replays and all(isinstance(each, REPEATABLE) for each in _messages(frame)):
            self.spoken.append(frame)
        if said != self._replay_after or not self._replay:
            return []
        frames = [each for each in self._replay if self.network.may_repeat(_messages(each))]
        self.network.record.note("net", f"{self.name} repeats {len(frames)} old frames")
        self.network.record.count("frame repeated", len(frames))
        return frames

    def deliver(self, frame: bytes, sent_at: float, *, to_control_plane: bool) -> bool:
        """A frame arrives; False: the connection breaks over it."""
        self.frames_left -= 1
        if self.frames_left == 0:
            self.cut()
            return False
        messages = _messages(frame)
        kinds = ",".join(type(each).__name__ for each in messages)
        arrow = ">" if to_control_plane else "<"
        self.network.record.note(
            "net", f"{self.name} {arrow} {zlib.crc32(frame):08x} {len(frame)} {kinds}"
        )
        self.network.on_delivery(self, messages, to_control_plane, sent_at)
        return True

    def cut(self) -> None:
        """Both ends see a reset; what was under way is lost."""
        if not self.broken:
            self.broken = True
            self.note_end()
            self.network.record.note("net", f"{self.name} is cut")
            self.network.record.count("connection cut")
            for way in self.ways:
                way.wake()

    def note_end(self) -> None:
        """From now on nothing that is said over it counts. A second call does nothing."""
        self.ended_at = min(self.ended_at, trio.current_time())

    def hold(self, until: float, *, up: bool, down: bool) -> None:
        """Nothing arrives before this moment, one way or both."""
        for way, chosen in zip(self.ways, (up, down), strict=True):
            if chosen:
                way.held_until = until
                way.wake()


class Network:
    """All connections of a run."""

    def __init__(
        self,
        random: Random,
        record: Record,
        on_delivery: Callable[[Wire, list[m.Message], bool, float], None],
    ) -> None:
        self.random = random
        self.record = record
        self.on_delivery = on_delivery
        self.may_repeat: Callable[[list[m.Message]], bool] = lambda messages: True
        self.replays = False
        self.cut_share = 0.0
        """Of new connections: those that break by themselves after a while."""
        self.slow_until = 0.0
        self.away: dict[str, float] = {}
        """Processes that nothing reaches until some moment, over whatever connection."""
        self._wires: list[Wire] = []
        self._last: dict[str, Wire] = {}
        self._numbers = itertools.count(1)

    def connect(self, peer: str, host: str) -> Wire:
        """A new connection of a process to a control plane."""
        last = self._last.get(peer)
        replay = list(last.spoken) if last is not None and self.replays else []
        wire = Wire(self, f"{peer}-{host}:{next(self._numbers)}", peer, replay)
        self._wires = [each for each in self._wires if not each.broken]
        self._wires.append(wire)
        self._last[peer] = wire
        wire.hold(self.away.get(peer, 0.0), up=True, down=True)
        return wire

    def isolate(self, peer: str, until: float) -> None:
        """Nothing of this process arrives anywhere before this moment, nor anything at it."""
        self.away[peer] = until
        for wire in self._wires:
            if wire.peer == peer:
                wire.hold(until, up=True, down=True)

    def frames_until_cut(self) -> int:
        """How many frames a new connection lives for."""
        if self.random.random() < self.cut_share:
            return 1 + int(self.random.expovariate(1 / 20))
        return -1

    def delay_seconds(self) -> float:
        """How long the next frame is under way."""
        if trio.current_time() < self.slow_until:
            return self.random.uniform(0.05, 1.0)
        return self.random.uniform(*QUICK_SECONDS)

    def cut_all(self, peer: str | None = None) -> None:
        """Cut every connection, or all of one process."""
        for wire in self._wires:
            if peer is None or wire.peer == peer:
                wire.cut()

    def standing(self) -> list[Wire]:
        """Connections that are not cut, oldest first."""
        return [wire for wire in self._wires if not wire.broken]

    def heal(self) -> None:
        """From now on nothing goes wrong; a silence that has begun takes its time."""
        self.cut_share, self.replays, self.slow_until = 0.0, False, 0.0
        for wire in self._wires:
            wire.frames_left = -1
