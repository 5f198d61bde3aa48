"""Retries, lost leases and `current()` in real runner processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import fastworker
from fastworker.core.ids import id_text
from fastworker.core.records import TaskStatus
from fastworker.errors import CallerError
from fastworker.wire.messages import Handback, LeaseLost, Started
from tests.runner.harness import Ended, RunnerProcess, ready_runner

pytestmark = pytest.mark.process


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def runner(request: pytest.FixtureRequest) -> Iterator[RunnerProcess]:
    with ready_runner("--async-runtime", request.param, "--concurrency", "4") as runner:
        yield runner


def run(runner: RunnerProcess, task: str, *args: object, failures: int = 0) -> Ended:
    message = runner.assignment(task, *args)
    message.failures = [failures]
    runner.send(message)
    return runner.ended(1)[0]


def wait_started(runner: RunnerProcess, token: int) -> None:
    """Others may be reported before it: whatever took long on a busy machine."""
    while token not in runner.receive(Started).tokens:
        pass


def test_a_failure_carries_what_the_policy_asks_for(runner: RunnerProcess) -> None:
    first = run(runner, "unreliable", "value")
    third = run(runner, "unreliable", "value", failures=2)

    assert (first.status, first.type_name) == (TaskStatus.FAILURE, "ValueError")
    assert first.retry == [4.0, True, 60.0]
    assert run(runner, "unreliable", "value", failures=1).retry == [8.0, True, 60.0]
    assert (third.status, third.retry) == (TaskStatus.FAILURE, None)
    assert run(runner, "unreliable", "key").retry is None


def test_what_can_never_succeed_is_not_retried(runner: RunnerProcess) -> None:
    for ended, name in (
        (run(runner, "unreliable"), "ArgumentError"),
        (run(runner, "returns_object_and_is_retried"), "ResultNotSerializable"),
        (run(runner, "no_such_task"), "UnknownTask"),
    ):
        assert (ended.type_name, ended.retry) == (name, None)


def test_rows_of_retries_keep_to_their_jobs(runner: RunnerProcess) -> None:
    fine = runner.assignment("async_add", 1, 2)
    failing = runner.assignment("unreliable", "value")
    runner.send(fine, failing)
    retries = {ended.token: ended.retry for ended in runner.ended(2)}

    assert retries == {fine.tokens[0]: None, failing.tokens[0]: [4.0, True, 60.0]}


def test_a_task_may_ask_for_a_later_start(runner: RunnerProcess) -> None:
    ended = run(runner, "comes_back_later")

    assert ended.message == "no room yet"
    assert ended.retry == [30.0, False, None]


@pytest.mark.parametrize("task", ["who_am_i", "who_am_i_async"])
def test_a_job_knows_itself(runner: RunnerProcess, task: str) -> None:
    message = runner.assignment(task)
    message.attempts = [3]
    runner.send(message)

    assert runner.ended(1)[0].value == [id_text(message.ids), 3, message.tokens[0]]


def test_outside_of_jobs_there_is_no_current_one() -> None:
    with pytest.raises(CallerError, match="no job is running here"):
        fastworker.current()


@pytest.mark.parametrize("task", ["stops_in_asyncio", "stops_in_trio", "fails_when_stopped"])
def test_a_task_that_wants_it_is_cancelled_and_handed_back(
    runner: RunnerProcess, task: str
) -> None:
    (token,) = runner.assign(task)
    wait_started(runner, token)
    runner.send(LeaseLost(tokens=[token, 999]))
    runner.send(LeaseLost(tokens=[token]))
    handback = runner.receive(Handback)

    assert (list(handback.tokens), handback.started) == ([token], b"\1")
    assert handback.reason == "lease_lost"
    assert runner.run("async_add", 1, 1).value == 2


def test_a_task_that_ends_well_all_the_same_has_an_outcome(runner: RunnerProcess) -> None:
    (token,) = runner.assign("finishes_when_stopped")
    wait_started(runner, token)
    runner.send(LeaseLost(tokens=[token]))

    assert runner.ended(1)[0].value == "done all the same"


def test_the_loss_of_a_lease_does_not_touch_other_tasks() -> None:
    with ready_runner("--concurrency", "1") as runner:
        (running,) = runner.assign("hold")
        (waiting,) = runner.assign("stops_in_asyncio")
        wait_started(runner, running)
        runner.send(LeaseLost(tokens=[running, waiting]))
        handback = runner.receive(Handback)
        assert (list(handback.tokens), handback.started) == ([waiting], b"\0")
        runner.assign("release", pool=1)

        assert {ended.token for ended in runner.ended(2)} >= {running}


def test_a_loss_told_before_the_start_takes_any_task_back() -> None:
    with ready_runner("--concurrency", "1") as runner:
        (running,) = runner.assign("hold")
        (waiting,) = runner.assign("async_add", 1, 1)
        wait_started(runner, running)
        runner.send(LeaseLost(tokens=[running, waiting]))
        handback = runner.receive(Handback)
        assert (list(handback.tokens), handback.started) == ([waiting], b"\0")
        runner.assign("release", pool=1)

        assert waiting not in {ended.token for ended in runner.ended(2)}


def test_a_loss_told_before_the_start_stops_it_too(runner: RunnerProcess) -> None:
    message = runner.assignment("stops_in_trio", times=4)
    runner.send(message, LeaseLost(tokens=message.tokens))
    given_back: set[int] = set()
    while len(given_back) < 4:
        given_back.update(runner.receive(Handback).tokens)

    assert given_back == set(message.tokens)
