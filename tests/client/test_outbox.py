"""The outbox decides what is sent when, and how a submission fails; time is an argument."""

from __future__ import annotations

import itertools

import pytest

from fastworker.client.outbox import Outbox
from fastworker.client.submissions import Jobs, Spec, Stage, Submission
from fastworker.core.ids import split_ids
from fastworker.core.records import DEFAULT_OPTIONS
from fastworker.errors import (
    ControlPlaneUnavailable,
    FastWorkerError,
    Forbidden,
    Indeterminate,
    Overloaded,
)
from fastworker.wire.messages import Problem, Submitted

ADD = Spec("add", "default", 1, DEFAULT_OPTIONS)
MAIL = Spec("mail", "slow", 2, DEFAULT_OPTIONS)

_ids = itertools.count(1)


def one(
    spec: Spec = ADD,
    *,
    size: int = 10,
    deadline: float = 10.0,
    watch: bool = False,
    ready_at: float | None = None,
) -> Submission:
    jobs = Jobs(
        [next(_ids).to_bytes(16, "big")],
        [bytes(size)],
        [spec],
        ready_at=None if ready_at is None else [ready_at],
    )
    return Submission(jobs, deadline=deadline, watch=watch)


def group(count: int, *, deadline: float = 10.0) -> Submission:
    jobs = Jobs([next(_ids).to_bytes(16, "big") for _ in range(count)], [b"x"] * count, [ADD])
    return Submission(jobs, deadline=deadline, grouped=True)


@pytest.fixture
def outbox() -> Outbox:
    groups = itertools.count(1)
    return Outbox(
        limit_jobs=10_000,
        limit_bytes=1_000_000,
        numbers=itertools.count(1),
        group_ids=lambda: next(groups).to_bytes(16, "big"),
        now=lambda: 100.0,
    )


def failed(submission: Submission) -> FastWorkerError:
    assert submission.stage is Stage.DONE
    assert submission.error is not None
    return submission.error


def test_equal_specs_travel_once(outbox: Outbox) -> None:
    waiting = [one(ADD), one(MAIL), one(ADD, ready_at=5.0)]
    for submission in waiting:
        outbox.add(submission)
    message = outbox.take()
    assert message is not None
    assert message.specs == [["add", "default", 1, {}], ["mail", "slow", 2, {}]]
    assert message.which == [0, 1, 0]
    assert message.ready_at == [None, None, 5.0]
    assert split_ids(message.ids) == [submission.jobs.ids[0] for submission in waiting]
    assert message.first_try and outbox.take() is None


def test_time_spent_waiting_is_taken_from_the_deadline(outbox: Outbox) -> None:
    soon, never, late = one(), one(), one()
    soon.jobs = soon.jobs._replace(deadlines=[107.5])
    late.jobs = late.jobs._replace(deadlines=[90.0])
    for submission in (soon, never, late):
        outbox.add(submission)
    message = outbox.take()
    assert message is not None
    assert message.deadline_in == [7.5, None, 0.0]


def test_what_is_flagged_differently_travels_apart_and_in_order(outbox: Outbox) -> None:
    for watch in (True, False, True):
        outbox.add(one(watch=watch))
    assert [m.watch for m in iter(outbox.take, None)] == [True, False, True]


def test_messages_are_cut_by_bytes(outbox: Outbox) -> None:
    for _ in range(5):
        outbox.add(one(size=90_000))
    assert [len(m.payloads) for m in iter(outbox.take, None)] == [2, 2, 1]


def test_each_job_gets_its_own_answer(outbox: Outbox) -> None:
    good, bad, other = one(), one(), one()
    for submission in (good, bad, other):
        outbox.add(submission)
    message = outbox.take()
    assert message is not None
    held = bytes(16)
    outbox.submitted(
        Submitted(message.request, refused=[[1, "forbidden", "no", 0.0]], existing=[[2, held]]),
        now=0.0,
    )
    assert good.stage is Stage.DONE and good.error is None
    assert isinstance(failed(bad), Forbidden)
    assert failed(bad).task_id == bad.task_id
    assert other.existing == {0: held} and other.error is None
    assert outbox.is_empty


def test_overload_is_retried_when_it_may_be(outbox: Outbox) -> None:
    submission = one()
    outbox.add(submission)
    first = outbox.take()
    assert first is not None
    outbox.problem(Problem("overloaded", "full", first.request, retry_after=3.0), now=1.0)
    assert outbox.take() is None
    assert outbox.next_moment() == 4.0
    outbox.tick(4.0, why="")
    again = outbox.take()
    assert again is not None
    assert again.ids == first.ids and not again.first_try
    outbox.submitted(Submitted(again.request), now=4.0)
    assert submission.stage is Stage.DONE and submission.error is None
    assert outbox.next_moment() is None


def test_the_last_attempt_names_the_failure(outbox: Outbox) -> None:
    never, refused, silent, lost = one(), one(), one(), one()
    for submission in (refused, silent, lost):
        outbox.add(submission)
        message = outbox.take()
        assert message is not None
        if submission is refused:
            outbox.problem(Problem("overloaded", "full", message.request), now=9.5)
    outbox.connection_lost()
    outbox.add(never)
    outbox.tick(10.0, why="the cable is cut")
    assert isinstance(failed(refused), Overloaded)
    assert isinstance(failed(silent), Indeterminate)
    assert isinstance(failed(lost), Indeterminate)
    assert isinstance(failed(never), ControlPlaneUnavailable)
    assert "the cable is cut" in str(failed(never))
    assert outbox.is_empty and outbox.take() is None


def test_what_was_in_flight_is_sent_again_first_and_in_order(outbox: Outbox) -> None:
    first, second, third = one(watch=True), one(), one()
    outbox.add(first)
    outbox.add(second)
    assert outbox.take() is not None
    assert outbox.take() is not None
    outbox.add(third)
    outbox.connection_lost()
    sent = list(iter(outbox.take, None))
    assert [split_ids(m.ids) for m in sent] == [s.jobs.ids for s in (first, second, third)]
    assert [m.first_try for m in sent] == [False, False, True]


@pytest.mark.parametrize("code", ["overloaded", "storage_full"])
def test_a_refusal_for_want_of_room_settles_nothing_once_in_doubt(
    outbox: Outbox, code: str
) -> None:
    submission = one(deadline=10.0)
    outbox.add(submission)
    assert outbox.take() is not None
    outbox.connection_lost()
    again = outbox.take()
    assert again is not None
    outbox.problem(Problem(code, "no room", request=again.request), now=1.0)
    outbox.tick(10.0, why="connected")
    error = failed(submission)
    assert isinstance(error, Indeterminate) and error.task_id == submission.task_id


@pytest.mark.parametrize("code", ["forbidden", "conflict"])
def test_a_refusal_on_its_merits_is_final_even_in_doubt(outbox: Outbox, code: str) -> None:
    submission = one()
    outbox.add(submission)
    outbox.take()
    outbox.connection_lost()
    again = outbox.take()
    assert again is not None
    outbox.problem(Problem(code, "no", request=again.request), now=1.0)
    assert failed(submission).code == code


def test_an_answer_after_the_end_changes_nothing(outbox: Outbox) -> None:
    submission = one()
    outbox.add(submission)
    message = outbox.take()
    assert message is not None
    outbox.tick(10.0, why="late")
    outbox.submitted(Submitted(message.request), now=11.0)
    assert isinstance(failed(submission), Indeterminate)


def test_a_group_is_accepted_when_all_its_messages_are(outbox: Outbox) -> None:
    submission = group(2_001)
    outbox.add(submission)
    messages = list(iter(outbox.take, None))
    assert [len(m.payloads) for m in messages] == [1000, 1000, 1]
    for message in messages[:2]:
        outbox.submitted(Submitted(message.request), now=0.0)
    assert not outbox.is_empty
    outbox.submitted(Submitted(messages[2].request), now=0.0)
    assert submission.stage is Stage.DONE and submission.error is None


def test_a_group_is_retried_whole_under_a_new_group_id(outbox: Outbox) -> None:
    submission = group(1_500)
    outbox.add(submission)
    first, second = list(iter(outbox.take, None))
    outbox.problem(Problem("overloaded", "full", first.request, retry_after=1.0), now=0.0)
    assert outbox.next_moment() == 10.0
    outbox.submitted(Submitted(second.request, refused=[[0, "overloaded", "full", 1.0]]), now=0.0)
    outbox.tick(1.0, why="")
    again = list(iter(outbox.take, None))
    assert [len(m.payloads) for m in again] == [1000, 500]
    assert again[0].group != first.group and again[0].group == again[1].group


def test_room_is_counted_in_jobs_and_bytes(outbox: Outbox) -> None:
    assert outbox.has_room(20_000, 10**9)  # whatever it is, it fits when nothing else is there
    outbox.add(one(size=900_000))
    assert outbox.has_room(9_999, 1_000)
    assert not outbox.has_room(10_000, 1_000)
    assert not outbox.has_room(1, 100_001)


def test_an_abandoned_submission_is_not_sent_again(outbox: Outbox) -> None:
    submission = one()
    outbox.add(submission)
    outbox.abandon(submission)
    assert outbox.take() is None
    other = one()
    outbox.add(other)
    assert outbox.take() is not None
    outbox.abandon(other)
    outbox.connection_lost()
    assert outbox.take() is None and outbox.is_empty


def test_stopping_fails_everything(outbox: Outbox) -> None:
    sent, waiting = one(), one()
    outbox.add(sent)
    assert outbox.take() is not None
    outbox.add(waiting)
    outbox.fail_all("the client was stopped")
    assert isinstance(failed(sent), Indeterminate)
    assert isinstance(failed(waiting), ControlPlaneUnavailable)
    assert outbox.is_empty


def test_done_submissions_do_not_pile_up_behind_one_that_waits(outbox: Outbox) -> None:
    outbox.add(one(watch=True))
    assert outbox.take() is not None
    for _ in range(10_000):
        outbox.add(one())
        message = outbox.take()
        assert message is not None
        outbox.submitted(Submitted(message.request), now=0.0)
    assert len(outbox._by_deadline) < 5_000
