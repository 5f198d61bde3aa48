"""Running code of every kind is told to stop, and its ending says what it made of that."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

import fastworker
from fastworker.core.ids import id_text
from fastworker.core.records import TaskStatus
from fastworker.wire.messages import (
    Assign,
    Handback,
    LeaseLost,
    RunnerReady,
    RunnerStop,
    Started,
    Withdraw,
    Withdrawn,
)
from tests.runner.harness import RunnerProcess, spawned_runner

pytestmark = pytest.mark.process

KINDS = ("asyncio", "trio", "thread")
POOLS = {"asyncio": 0, "trio": 0, "thread": 1, "process": 2}


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def runner(request: pytest.FixtureRequest) -> Iterator[RunnerProcess]:
    options = ("--async-runtime", request.param)
    with spawned_runner(*options, modules="tests.runner.stop_tasks") as runner:
        runner.receive(RunnerReady)
        yield runner


def started(runner: RunnerProcess, message: Assign) -> int:
    """Send a job and wait until it runs."""
    (token,) = message.tokens
    runner.send(message)
    while token not in runner.receive(Started).tokens:
        pass
    return token


def withdraw(runner: RunnerProcess, token: int, *, grace: float | None = 5.0) -> Withdrawn:
    ids = token.to_bytes(16, "big")
    runner.send(Withdraw(ids, [token], grace, "not wanted"))
    return runner.receive(Withdrawn)


def job(runner: RunnerProcess, task: str) -> Assign:
    runtime = task.partition("_")[0]
    return runner.assignment(task, pool=POOLS.get(runtime, 0))


@pytest.mark.parametrize("kind", [*KINDS, "process"])
def test_cancelled_code_that_unwinds_is_cancelled(runner: RunnerProcess, kind: str) -> None:
    token = started(runner, job(runner, f"{kind}_unwinds"))
    answer = withdraw(runner, token)
    asked = time.monotonic()
    (ended,) = runner.ended(1)

    assert (list(answer.tokens), answer.taken) == ([token], b"\0")
    assert (ended.token, ended.status, ended.retry) == (token, TaskStatus.CANCELLED, None)
    assert time.monotonic() - asked < 1.0


@pytest.mark.parametrize("kind", KINDS)
def test_code_that_goes_on_has_its_own_result(runner: RunnerProcess, kind: str) -> None:
    token = started(runner, job(runner, f"{kind}_swallows"))
    withdraw(runner, token)
    withdraw(runner, token)
    (ended,) = runner.ended(1)

    assert (ended.status, ended.value) == (TaskStatus.SUCCESS, "swallowed")


@pytest.mark.parametrize("kind", KINDS)
def test_clean_up_that_fails_is_a_failure_and_not_retried(runner: RunnerProcess, kind: str) -> None:
    token = started(runner, job(runner, f"{kind}_fails"))
    withdraw(runner, token)
    (ended,) = runner.ended(1)

    assert ended.status is TaskStatus.FAILURE
    assert "while cleaning up" in str(ended.failure)
    assert ended.retry is None


def test_a_cancelled_job_cannot_ask_for_a_retry(runner: RunnerProcess) -> None:
    token = started(runner, job(runner, "asyncio_wants_a_retry"))
    withdraw(runner, token)

    assert runner.ended(1)[0].retry is None


def test_without_a_grace_running_code_goes_on(runner: RunnerProcess) -> None:
    token = started(runner, job(runner, "asyncio_unwinds"))
    assert withdraw(runner, token, grace=None).taken == b"\0"
    assert runner.run("quick").value == "quick"
    withdraw(runner, token)

    assert runner.ended(1)[0].status is TaskStatus.CANCELLED


def test_what_has_not_started_is_taken() -> None:
    options = ("--concurrency", "1")
    with spawned_runner(*options, modules="tests.runner.stop_tasks") as runner:
        runner.receive(RunnerReady)
        running = started(runner, job(runner, "asyncio_unwinds"))
        (waiting,) = runner.assign("quick")

        assert withdraw(runner, waiting).taken == b"\1"
        withdraw(runner, running)
        assert runner.ended(1)[0].token == running


@pytest.mark.parametrize(
    ("task", "pool"),
    [("limited_in_asyncio", 0), ("limited_in_trio", 0), ("limited_in_a_thread", 1)],
)
def test_a_time_limit_is_a_failure_that_its_policy_may_retry(
    runner: RunnerProcess, task: str, pool: int
) -> None:
    ended = runner.run(task, pool=pool)

    assert (ended.status, ended.type_name) == (TaskStatus.FAILURE, "TimeLimitExceeded")
    job_id = id_text(ended.token.to_bytes(16, "big"))
    assert ended.message == f"job {job_id} ({task}) ran longer than its time limit of 0.05 s"
    assert ended.failure is not None and ended.failure[4] == "timeout"
    assert ended.retry == [4.0, True, None]


def test_a_call_may_have_its_own_limit(runner: RunnerProcess) -> None:
    message = runner.assignment("limited_in_asyncio")
    message.specs = [["limited_in_asyncio", 1, 0, {"timeout": 0.2}]]
    runner.send(message)
    ended = runner.ended(1)[0]

    assert "limit of 0.2 s" in ended.message
    assert ended.started_at is not None and ended.finished_at - ended.started_at >= 0.2


@pytest.mark.parametrize("kind", KINDS)
def test_the_deadline_stops_running_code(runner: RunnerProcess, kind: str) -> None:
    message = job(runner, f"{kind}_unwinds")
    message.remaining = [0.05]
    runner.send(message)
    ended = runner.ended(1)[0]

    assert (ended.status, ended.type_name) == (TaskStatus.FAILURE, "TimeLimitExceeded")
    assert ended.failure is not None and ended.failure[4] == "deadline"
    assert "passed when it had run for" in ended.message


def test_limits_of_jobs_that_have_ended_are_forgotten(runner: RunnerProcess) -> None:
    message = runner.assignment("quick", times=500)
    message.specs = [["quick", 1, 0, {"timeout": 3600.0}]]
    runner.send(message)

    assert {each.value for each in runner.ended(500)} == {"quick"}


def test_a_thread_can_be_asked_to_stop_when_its_lease_is_in_doubt(runner: RunnerProcess) -> None:
    token = started(runner, runner.assignment("leaves_with_its_lease", pool=1))
    runner.send(LeaseLost(tokens=[token]))
    handback = runner.receive(Handback)

    assert (list(handback.tokens), handback.started) == ([token], b"\1")
    assert handback.reason == "lease_lost"


def test_a_drain_hands_back_what_still_runs_at_its_end() -> None:
    with spawned_runner(modules="tests.runner.stop_tasks") as runner:
        runner.receive(RunnerReady)
        tokens = {started(runner, job(runner, f"{kind}_unwinds")) for kind in KINDS}
        runner.send(RunnerStop(cancel_after=0.1))
        given_back: set[int] = set()
        while given_back < tokens:
            handback = runner.receive(Handback)
            assert (handback.reason, set(handback.started)) == ("drain", {1})
            given_back.update(handback.tokens)

        assert runner.process.wait(timeout=10) == 0


def test_outside_of_jobs_nothing_is_cancelled() -> None:
    fastworker.check_cancelled()
