"""Retention while the time of day jumps: nothing is removed before it was kept for its time."""

from __future__ import annotations

import pytest

from fastworker.core.records import Now
from fastworker.server.wall_jumps import MAX_JUMPS, WatchedClock
from fastworker.store.contract import Retention

DAY = 86_400.0
KEPT = Retention(results_seconds=DAY, failures_seconds=30 * DAY, tombstone_seconds=7 * DAY)


class Clocks:
    """Two clocks that a test moves."""

    def __init__(self) -> None:
        self.now = Now(1000.0, 50.0)

    def __call__(self) -> Now:
        return self.now

    def pass_time(self, seconds: float) -> None:
        self.now = Now(self.now.wall + seconds, self.now.monotonic + seconds)

    def jump(self, seconds: float) -> None:
        self.now = Now(self.now.wall + seconds, self.now.monotonic)


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def watched(clocks: Clocks) -> WatchedClock:
    watched = WatchedClock(clocks)
    watched()
    return watched


def test_time_that_passes_changes_nothing(clocks: Clocks, watched: WatchedClock) -> None:
    for _ in range(100):
        clocks.pass_time(DAY)
        assert watched() == clocks.now
        clocks.jump(0.9)  # a clock is being adjusted
        watched()
    assert watched.lenient(KEPT) is KEPT


def test_what_ended_before_a_jump_keeps_its_whole_time(
    clocks: Clocks, watched: WatchedClock
) -> None:
    ended_at = clocks.now.wall
    clocks.jump(50 * 365 * DAY)
    watched()
    clocks.pass_time(DAY - 1)
    kept = watched.lenient(KEPT)
    assert ended_at > watched().wall - kept.results_seconds
    assert ended_at > watched().wall - kept.failures_seconds
    clocks.pass_time(2)
    kept = watched.lenient(KEPT)
    assert kept.results_seconds == DAY
    assert ended_at > watched().wall - kept.failures_seconds
    clocks.pass_time(30 * DAY)
    assert watched.lenient(KEPT) == KEPT


def test_jump_there_and_back_is_seen_at_every_reading(
    clocks: Clocks, watched: WatchedClock
) -> None:
    clocks.jump(-40 * 365 * DAY)
    ended_at = watched().wall
    clocks.jump(40 * 365 * DAY)
    assert ended_at > watched().wall - watched.lenient(KEPT).results_seconds


def test_no_more_jumps_are_remembered_than_tell_something(
    clocks: Clocks, watched: WatchedClock
) -> None:
    for _ in range(MAX_JUMPS + 10):
        clocks.jump(10)
        watched()
    assert watched.lenient(KEPT).results_seconds == DAY + 10 * MAX_JUMPS
