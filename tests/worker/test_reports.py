"""What running jobs have said is said again until their ends are recorded."""

from __future__ import annotations

from fastworker.wire.messages import Checkpoint, Lines, Progress
from fastworker.worker import reports
from fastworker.worker.reports import UnrecordedReports

A = b"a" * 16
B = b"b" * 16


def held(token: int) -> bool:
    return token != 99


def test_the_latest_is_said_again_and_every_line() -> None:
    unrecorded = UnrecordedReports()
    unrecorded.add(Lines(A, [1], [0], [1], [1.0], [20], ["one"]), is_held=held)
    both = Lines(A + B, [1, 2], [1, 0], [1, 2], [2.0, 3.0, 4.0], [0, 0, 10], ["two", "x", "y"])
    unrecorded.add(both, is_held=held)
    for value in (b"first", b"second"):
        unrecorded.add(Checkpoint(A, [1], [value]), is_held=held)
    unrecorded.add(Progress(A + B, [1, 2], [5, 1], [9, None], ["", "b"], [1, 2]), is_held=held)
    assert list(unrecorded.messages()) == [
        Lines(A, [1], [0], [1], [1.0], [20], ["one"]),
        Lines(A, [1], [1], [1], [2.0], [0], ["two"]),
        Checkpoint(A, [1], [b"second"]),
        Progress(A, [1], [5], [9], [""], [1]),
        Lines(B, [2], [0], [2], [3.0, 4.0], [0, 10], ["x", "y"]),
        Progress(B, [2], [1], [None], ["b"], [2]),
    ]
    unrecorded.forget([1])
    assert [message.tokens for message in unrecorded.messages()] == [[2], [2]]
    unrecorded.forget([2, 3])
    assert list(unrecorded.messages()) == []


def test_of_jobs_that_are_not_held_nothing_is_kept() -> None:
    unrecorded = UnrecordedReports()
    unrecorded.add(Checkpoint(A, [99], [b"value"]), is_held=held)
    assert list(unrecorded.messages()) == []


def test_lines_beyond_the_limit_are_not_kept() -> None:
    unrecorded = UnrecordedReports()
    half = "x" * (reports.MAX_KEPT_LINES_BYTES // 2)
    for first in range(3):
        unrecorded.add(Lines(A, [1], [first], [1], [1.0], [0], [half]), is_held=held)
    assert len(list(unrecorded.messages())) == 2
    unrecorded.forget([1])
    unrecorded.add(Lines(B, [2], [0], [1], [1.0], [0], [half]), is_held=held)
    assert len(list(unrecorded.messages())) == 1
