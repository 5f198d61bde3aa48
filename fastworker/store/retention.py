"""Which of the oldest results have had their time: the same rule for every store. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import takewhile
from typing import NamedTuple

from fastworker.core.records import FinishRow, TaskStatus
from fastworker.store.contract import Retention

LONG_KEPT = frozenset({TaskStatus.FAILURE, TaskStatus.DEAD})
"""Ends that somebody may want to look into: kept for ``failures_seconds``."""


class Kept(NamedTuple):
    """What is kept just now, counted as it changes, so that no round of pruning counts rows."""

    results: int
    results_bytes: int
    tombstones: int


def keeps_outcome(finish: FinishRow) -> bool:
    """Whether a finish leaves an outcome: a success without a value leaves only a tombstone."""
    return finish.status is not TaskStatus.SUCCESS or finish.value is not None


def count_outdated_results(
    oldest: Iterable[tuple[float, int]], *, kept: Kept, retention: Retention, now: float
) -> tuple[int, int]:
    """How many of the oldest results, given as (finished at, bytes), are to go, and their bytes.

    Stops at the first that may stay: results are given in the order in which they were recorded.
    """
    horizon = now - retention.results_seconds
    gone = gone_bytes = 0
    for finished_at, size in oldest:
        too_old = finished_at <= horizon
        too_many = kept.results - gone > retention.results_count
        too_big = kept.results_bytes - gone_bytes > retention.results_bytes
        if not (too_old or too_many or too_big):
            break
        gone += 1
        gone_bytes += size
    return gone, gone_bytes


def count_outdated_tombstones(
    oldest: Iterable[float], *, kept: Kept, retention: Retention, now: float
) -> int:
    """How many of the oldest tombstones, given by the moment they became one, are to go."""
    horizon = now - retention.tombstone_seconds
    surplus = kept.tombstones - retention.tombstones_count
    outdated = takewhile(lambda item: item[0] < surplus or item[1] <= horizon, enumerate(oldest))
    return sum(1 for _ in outdated)
