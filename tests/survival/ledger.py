"""What the two ledgers say, and whether that is what the guarantees allow."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from fastworker import TaskResult, TaskStatus

NANOSECONDS = 1_000_000_000


class Start(NamedTuple):
    """One start of a task's body; the process and the moment (monotonic seconds) of it."""

    attempt: int
    token: int
    pid: int
    at: float


@dataclass
class Effects:
    """The effect ledger: starts and ends by key, in order."""

    starts: dict[str, list[Start]] = field(default_factory=lambda: defaultdict(list))
    ends: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    """Tokens that reached the end of the body."""

    @classmethod
    def read(cls, path: Path) -> Effects:
        """All lines; a torn one is a fault of the test machine and raises."""
        effects = cls()
        lines = path.read_text().splitlines() if path.exists() else []
        for line in lines:
            key, attempt, token, phase, pid, at = line.split()
            if phase == "start":
                start = Start(int(attempt), int(token), int(pid), int(at) / NANOSECONDS)
                effects.starts[key].append(start)
            else:
                effects.ends[key].append(int(token))
        return effects


@dataclass
class Promise:
    """What one client knows of one key."""

    job_id: str
    kind: str
    last: str = "intent"
    ended: str | None = None

    @property
    def is_accepted(self) -> bool:
        return self.last == "acked"


def read_client_ledger(path: Path) -> dict[str, Promise]:
    """Promises by key."""
    promises: dict[str, Promise] = {}
    for line in path.read_text().splitlines():
        step, key, *rest = line.split()
        if step == "intent":
            promises[key] = Promise(rest[0], rest[1])
        elif step == "ended":
            seen = promises[key].ended
            assert seen in (None, rest[0]), f"flip: {key} ended as {seen}, then as {rest[0]}"
            promises[key].ended = rest[0]
        else:
            promises[key].last = step
    return promises


Excuse = Callable[[Start, Start], bool]
"""Whether G2 allows the second of two starts of one key that follow one another."""


def faults_found(
    promises: Mapping[str, Promise],
    effects: Effects,
    results: Mapping[str, TaskResult | None],
    *,
    excuse: Excuse,
) -> list[str]:
    """Everything that breaks a guarantee, in words.

    Args:
        results: what a client that submitted nothing reads, by key.
        excuse: see `Excuse`.
    """
    found = [f"phantom: effect of {key}" for key in effects.starts if key not in promises]
    tokens = [start.token for starts in effects.starts.values() for start in starts]
    if len(tokens) != len(set(tokens)):
        found.append("a token was started twice")
    for key, promise in promises.items():
        starts = effects.starts.get(key, [])
        if promise.last == "rejected" and starts:
            found.append(f"phantom: {key} was rejected and started")
        if promise.is_accepted:
            found += _of_accepted(key, promise, effects, results[key])
        elif results[key] is not None and not results[key].status.is_terminal:  # type: ignore[union-attr]
            found.append(f"stuck: {key}, not acknowledged, is {results[key].status}")  # type: ignore[union-attr]
        found += [
            f"unexcused duplicate: {key} ({promise.kind}): {first}, then {second}"
            for first, second in pairwise(starts)
            if not excuse(first, second)
        ]
        if promise.kind == "once" and len(starts) > 1:
            found.append(f"at most once: {key} started {len(starts)} times")
    return found


def _of_accepted(
    key: str, promise: Promise, effects: Effects, result: TaskResult | None
) -> list[str]:
    if result is None:
        return [f"lost: {key} ({promise.job_id}) was acknowledged and is unknown"]
    if not result.status.is_terminal:
        return [f"stuck: {key} ({promise.job_id}) is {result.status}: {result.reason}"]
    found = []
    if promise.ended not in (None, str(result.status)):
        found.append(f"flip: {key} was pushed as {promise.ended} and is read as {result.status}")
    if not _is_right(key, promise, result):
        found.append(f"wrong end: {key} ({promise.kind}): {result}")
    finished = result.status in (TaskStatus.SUCCESS, TaskStatus.FAILURE)
    if finished and not effects.ends.get(key):
        found.append(f"lost: {key} is {result.status} without having run to its end")
    return found


def _is_right(key: str, promise: Promise, result: TaskResult) -> bool:
    if promise.kind == "once" and result.status is TaskStatus.DEAD:
        return result.reason == "lost"
    if promise.kind == "fails":
        return result.status is TaskStatus.FAILURE and f"failed {key}" in (result.error or "")
    return result.status is TaskStatus.SUCCESS and result.result == f"done {key}"
