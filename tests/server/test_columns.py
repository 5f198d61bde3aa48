"""Rows of the core as columns of the wire: what an assignment says, what an outcome may say."""

from __future__ import annotations

import pytest

from fastworker.core.facts import Retry
from fastworker.core.records import (
    DEFAULT_OPTIONS,
    STATUS_NUMBERS,
    Failure,
    FinishRow,
    JobOptions,
    JobRow,
    LaneKey,
    TaskStatus,
)
from fastworker.errors import ProtocolError
from fastworker.server.columns import (
    ASSIGNED_BYTES,
    ASSIGNED_JOBS,
    FINISHED_BYTES,
    MAX_RETRY_DELAY_SECONDS,
    age_assignment,
    assign_message,
    finished_messages,
    outcomes_fact,
    split_assignment,
)
from fastworker.wire.messages import Assign, Outcome

SESSION = b"s" * 16


def leased(
    number: int,
    *,
    failures: int = 0,
    deaths: int = 0,
    options: JobOptions = DEFAULT_OPTIONS,
) -> tuple[JobRow, int]:
    job = JobRow(
        *(number, bytes([number]) * 16, 1, TaskStatus.RUNNING, None, None, None, None, 0.0),
        *(number, SESSION, 1, deaths, None, failures, None, options, 9, b"arguments"),
    )
    return job, 0


def assign(*jobs: tuple[JobRow, int]) -> Assign:
    return assign_message(jobs, lambda _: LaneKey("default", "default", 1, "add"), wall=0.0)


def outcome(status: TaskStatus, *retries: list[object]) -> Outcome:
    return Outcome(
        ids=b"j" * 16,
        tokens=[7],
        statuses=bytes([STATUS_NUMBERS[status]]),
        values=[b"value"],
        started_at=[1.0],
        finished_at=[2.0],
        retries=list(retries),
    )


def test_ordinary_jobs_carry_neither_failures_nor_marks() -> None:
    message = assign(leased(1), leased(2))
    assert (message.failures, message.alone) == (None, None)


def test_failures_and_suspects_are_told() -> None:
    message = assign(leased(1), leased(2, failures=3), leased(3, deaths=1), leased(4, deaths=2))
    assert message.failures == [0, 3, 0, 0]
    assert message.alone == [2, 3]


def test_deadlines_travel_as_seconds_left_and_share_their_spec() -> None:
    jobs = [leased(n, options=JobOptions(grace=2.0, deadline=at)) for n, at in ((1, 5.0), (2, 7.0))]
    message = assign(*jobs, leased(3))
    assert message.remaining == [5.0, 7.0, None]
    assert message.specs == [["add", 1, 0, {"grace": 2.0}], ["add", 1, 0, {}]]
    assert message.which == [0, 0, 1]
    assert assign(leased(3)).remaining is None


def test_where_a_callback_goes_is_not_told_to_workers() -> None:
    """What is stored of it is not even an option on the wire."""
    target = "https://web/hook 10.0.0.7 10.0.0.7"
    options = JobOptions(callback=target, callback_data=b"data", callback_token="shop", grace=2.0)
    assert assign(leased(1, options=options)).specs == [["add", 1, 0, {"grace": 2.0}]]


def test_time_on_the_way_out_is_taken_from_what_is_left() -> None:
    message = assign(leased(1, options=JobOptions(deadline=5.0)), leased(2))
    age_assignment(message, 1.5)
    assert (message.remaining, message.budget) == ([3.5, None], None)
    age_assignment(message, 60.0)
    assert message.remaining == [0.0, None]


def test_wish_to_repeat_a_failed_attempt_reaches_the_core() -> None:
    fact = outcomes_fact(SESSION, outcome(TaskStatus.FAILURE, [0, 2.5, True, 60.0]))
    assert fact.retries == {0: Retry(2.5, True, 60.0)}


@pytest.mark.parametrize(
    ("status", "delay", "complaint"),
    [
        (TaskStatus.SUCCESS, 1.0, "did not fail"),
        (TaskStatus.CANCELLED, 1.0, "did not fail"),
        (TaskStatus.FAILURE, -0.1, "expected a delay"),
        (TaskStatus.FAILURE, MAX_RETRY_DELAY_SECONDS + 1, "expected a delay"),
        (TaskStatus.FAILURE, float("nan"), "expected a delay"),
        (TaskStatus.FAILURE, float("inf"), "expected a delay"),
    ],
)
def test_impossible_retry_is_refused(status: TaskStatus, delay: float, complaint: str) -> None:
    with pytest.raises(ProtocolError, match=complaint):
        outcomes_fact(SESSION, outcome(status, [0, delay, True, None]))


def test_jobs_that_do_not_fit_into_one_message_go_in_several() -> None:
    few = [leased(n) for n in range(9)]
    assert list(split_assignment(few, None)) == [few]
    large = [(job._replace(size=ASSIGNED_BYTES // 3), pool) for job, pool in few]
    assert [len(part) for part in split_assignment(large, None)] == [3, 3, 3]
    left = {number: bytes(ASSIGNED_BYTES // 2) for number in range(0, 9, 2)}
    parts = list(split_assignment(few, left))
    assert [entry for part in parts for entry in part] == few
    assert all(sum(job.key in left for job, _ in part) <= 2 for part in parts)
    many = few * ASSIGNED_JOBS
    assert {len(part) for part in split_assignment(many, None)} == {ASSIGNED_JOBS}


def test_ends_that_do_not_fit_into_one_message_go_in_several() -> None:
    said = Failure("ValueError", "m" * 1000, "t" * (FINISHED_BYTES // 8), "")
    rows = [
        FinishRow(n, bytes([n]) * 16, TaskStatus.FAILURE, n, 1, 0.0, 1.0, None, said, True)
        for n in range(5)
    ]
    assert [len(message.statuses) for message in finished_messages(rows)] == [1] * 5
