"""The two ledgers of every fault test: what task code did, and what clients were told."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio

from tests.simulation.record import Record

RANKS = ("intent", "unsent", "rejected", "indeterminate", "acked")
"""What a client knows of a submission; a later word on this list outdoes an earlier one."""


@dataclass(eq=False)
class RunnerPlace:
    """One runner of one subworker process."""

    worker: str
    number: int
    alive: bool = True
    died_at: float = math.inf
    kill: Callable[[], None] = lambda: None
    """SIGKILL."""
    _unstoppable: set[trio.CancelScope] = field(default_factory=set)

    def bury(self) -> None:
        """Its process has ended. A second call does nothing."""
        if self.alive:
            self.alive = False
            self.died_at = trio.current_time()
            for scope in self._unstoppable:
                scope.cancel()

    @contextmanager
    def unstoppable(self) -> Iterator[None]:
        """Code that nothing ends but the end of its process."""
        with trio.CancelScope(shield=True) as scope:
            self._unstoppable.add(scope)
            try:
                yield
            finally:
                self._unstoppable.discard(scope)

    def __str__(self) -> str:
        return f"{self.worker}/r{self.number}"


@dataclass(frozen=True, slots=True)
class Effect:
    """One line of the effect ledger."""

    what: str
    key: str
    token: int
    place: RunnerPlace
    at: float


class Effects:
    """The effect ledger: every start and end of task code."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self.by_key: dict[str, list[Effect]] = defaultdict(list)

    def note(self, what: str, key: str, token: int, place: RunnerPlace) -> None:
        """One line."""
        self._record.note("effect", f"{what} {key} token {token} at {place}")
        self.by_key[key].append(Effect(what, key, token, place, trio.current_time()))

    def count(self, what: str, key: str) -> int:
        """How many such lines there are for a job."""
        return sum(effect.what == what for effect in self.by_key.get(key, ()))

    def stopped_at(self, key: str, token: int) -> float:
        """When an attempt ended, in whatever way."""
        start, *rest = (effect for effect in self.by_key[key] if effect.token == token)
        return min(start.place.died_at, *(effect.at for effect in rest), math.inf)

    def starts(self, key: str) -> list[Effect]:
        """Every start of a job's code, in order."""
        return [effect for effect in self.by_key.get(key, ()) if effect.what == "start"]


@dataclass(eq=False)
class Entry:
    """One job in the client ledger.

    ``expires_at`` is in seconds of the run. ``observed`` holds every end a client saw.
    """

    key: str
    owner: str
    id: str
    task: str
    seconds: float
    on_lost: str = "retry"
    countdown: float | None = None
    expires: float | None = None
    owned: float | None = None
    """It ends when its client is gone for so many seconds."""
    priority: int = 1
    queue: str = "default"
    tried_ids: list[str] = field(default_factory=list)
    """Ids under which it was submitted with one idempotency key; at most one is stored."""
    expires_at: float = math.inf
    state: str = "intent"
    observed: set[tuple[str, str]] = field(default_factory=set)
    open_calls: int = 0
    """Submissions without an answer; those of a client that died stay open for ever."""
    cancel_asked: bool = False
    cancelled: bool = False
    """A client was told that it is cancelled."""
    is_unwanted: bool = False
    """Somebody means to cancel it, or the job that submits it."""
    parent: Entry | None = field(default=None, repr=False)
    children: list[Entry] = field(default_factory=list, repr=False)
    detached: bool = False
    moment: str = ""
    """When its parent submits it."""

    def __str__(self) -> str:
        return self.key

    def told(self, state: str) -> None:
        """A client has learnt something about its submission."""
        if RANKS.index(state) > RANKS.index(self.state):
            self.state = state
