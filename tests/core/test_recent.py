"""Recent ends answer questions from memory, and large ones do not fill it."""

from __future__ import annotations

from fastworker.core.recent import RECENT_RESULT_BYTES, RECENT_RESULTS, RecentResults
from fastworker.core.records import FinishRow, TaskStatus

LARGE = 1024 * 1024


def ended(number: int, value: bytes = b"") -> FinishRow:
    job_id = number.to_bytes(16, "big")
    return FinishRow(number, job_id, TaskStatus.SUCCESS, 1, 1, 0.0, 1.0, value, None, False)


def kept(recent: RecentResults, numbers: range) -> list[int]:
    return [number for number in numbers if recent.get(number.to_bytes(16, "big")) is not None]


def test_results_of_the_largest_size_take_eight_mebibytes_in_all() -> None:
    recent = RecentResults()
    for number in range(50):
        recent.put(ended(number, bytes(LARGE)))
    assert RECENT_RESULT_BYTES == 8 * LARGE
    assert kept(recent, range(50)) == list(range(42, 50))


def test_small_results_are_bounded_by_number_and_the_used_ones_stay() -> None:
    recent = RecentResults()
    for number in range(RECENT_RESULTS):
        recent.put(ended(number, b"small"))
    assert recent.get((0).to_bytes(16, "big")) is not None
    recent.put(ended(RECENT_RESULTS))
    assert kept(recent, range(3)) == [0, 2]


def test_a_job_that_is_put_again_counts_once() -> None:
    recent = RecentResults()
    for _ in range(20):
        recent.put(ended(1, bytes(LARGE)))
    recent.put(ended(2, bytes(7 * LARGE)))
    assert kept(recent, range(3)) == [1, 2]
