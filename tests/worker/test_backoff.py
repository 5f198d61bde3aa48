from __future__ import annotations

from random import Random

from fastworker.worker.backoff import FIRST_SECONDS, LONGEST_SECONDS, Backoff


def test_waits_double_up_to_the_longest() -> None:
    backoff = Backoff(Random(1))
    waits = [backoff.next_seconds() for _ in range(12)]
    for number, wait in enumerate(waits):
        full = min(FIRST_SECONDS * 2**number, LONGEST_SECONDS)
        assert full / 2 <= wait <= full


def test_success_is_forgiving() -> None:
    backoff = Backoff(Random(1))
    for _ in range(12):
        backoff.next_seconds(stood_seconds=0.5)
    assert backoff.next_seconds(stood_seconds=LONGEST_SECONDS) <= FIRST_SECONDS
