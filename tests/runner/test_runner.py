"""Real runner processes, spoken with as a subworker would."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest

from fastworker.core.records import TaskPriority, TaskStatus
from fastworker.runner.channel import FrameBuffer, framed
from fastworker.wire.codec import decode, encode
from fastworker.wire.messages import (
    Beat,
    BeatAck,
    Handback,
    Relay,
    RunnerFailed,
    RunnerReady,
    RunnerSlots,
    RunnerStop,
    Started,
    Withdraw,
    Withdrawn,
)
from tests.runner.harness import RunnerProcess, ready_runner, spawned_runner, tokens_of

pytestmark = pytest.mark.process

THREADS = 1
"""The pool of ``def`` tasks."""


@pytest.fixture(scope="module")
def shared() -> Iterator[RunnerProcess]:
    """One runner for tests that leave nothing behind."""
    with ready_runner() as runner:
        yield runner


@pytest.fixture(params=["asyncio", "trio"])
def either(request: pytest.FixtureRequest) -> Iterator[RunnerProcess]:
    """A runner with each default runtime."""
    with ready_runner("--async-runtime", request.param) as runner:
        yield runner


def test_ready_names_the_tasks() -> None:
    with spawned_runner() as runner:
        ready = runner.receive(RunnerReady)

    rows = {row[0]: row[1:] for row in ready.tasks}
    assert ready.pid == runner.process.pid
    assert rows["add"][0] == 1
    assert rows["async_add"][0] == 0
    assert "x" in str(rows["add"][1])


def test_modules_that_do_not_import_are_told_and_end_the_runner() -> None:
    with spawned_runner(modules="tests.runner.no_such_module") as runner:
        failed = runner.receive(RunnerFailed)

        assert "no_such_module" in failed.message
        assert runner.process.wait(10) == 2


def test_results_of_both_pools(either: RunnerProcess) -> None:
    before = time.time()
    asynchronous = either.run("async_add", 1, 2)
    threaded = either.run("add", 3, 4, pool=THREADS)

    assert (asynchronous.status, asynchronous.value) == (TaskStatus.SUCCESS, 3)
    assert (threaded.status, threaded.value) == (TaskStatus.SUCCESS, 7)
    assert asynchronous.started_at is not None
    assert before - 1 <= asynchronous.started_at <= asynchronous.finished_at <= time.time() + 1


def test_each_runtime_runs_beside_the_other(either: RunnerProcess) -> None:
    assert either.run("in_trio").value == "trio"
    assert either.run("in_asyncio").value == "asyncio"


@pytest.mark.parametrize(
    ("task", "pool", "type_name"),
    [
        ("fails", 0, "ValueError"),
        ("exits", 0, "SystemExit"),
        ("sync_exits", THREADS, "KeyboardInterrupt"),
        ("returns_object", 0, "ResultNotSerializable"),
        ("nowhere", 0, "UnknownTask"),
    ],
)
def test_failures_cost_the_job_only(
    shared: RunnerProcess, task: str, pool: int, type_name: str
) -> None:
    ended = shared.run(task, pool=pool)

    assert ended.status is TaskStatus.FAILURE
    assert ended.type_name == type_name
    assert shared.run("async_add", 1, 1).value == 2


def test_the_wrong_runtime_names_the_switch(shared: RunnerProcess) -> None:
    assert '@task(runtime="trio")' in shared.run("uses_trio").message
    assert "--async-runtime asyncio" in shared.run("asyncio_in_trio").message


def test_attempts_do_not_see_each_others_context(shared: RunnerProcess) -> None:
    for task, pool in [("context_of_thread", THREADS), ("context_of_coroutine", 0)]:
        tokens = shared.assign(task, times=40, pool=pool)
        values = [each.value for each in shared.ended(40)]
        assert sorted(values) == [[0, token] for token in tokens]


def test_threads_run_at_the_same_time(shared: RunnerProcess) -> None:
    shared.assign("meet", times=4, pool=THREADS)

    assert sorted(each.value for each in shared.ended(4)) == [0, 1, 2, 3]


def test_a_batch_comes_back_in_few_frames(shared: RunnerProcess) -> None:
    before = shared.frames
    shared.assign("noop", times=100)
    ended = shared.ended(100)

    assert {each.status for each in ended} == {TaskStatus.SUCCESS}
    assert shared.frames - before <= 15


def test_large_results_are_cut_into_frames_that_fit() -> None:
    with ready_runner() as runner:
        runner.assign("big_result", 1_000_000, times=40)
        ended = runner.ended(40)

        assert {len(each.value) for each in ended} == {1_000_000}


def test_an_urgent_job_overtakes_all_that_have_not_started() -> None:
    with ready_runner("--concurrency", "1") as runner:
        [holding] = runner.assign("hold")
        runner.receive(Started)
        low = runner.assign("noop", times=50, priority=TaskPriority.LOW)
        [critical] = runner.assign("noop", priority=TaskPriority.CRITICAL)
        [release] = runner.assign("release", pool=THREADS)
        ended = [token for token in tokens_of(runner.ended(53)) if token != release]

        assert ended == [holding, critical, *low]


def test_a_blocked_loop_still_answers_the_heartbeat() -> None:
    with ready_runner() as runner:
        runner.assign("block_loop")
        runner.control.sendall(framed(encode([Beat(number=7)])))
        frames: list[bytes] = []
        buffer = FrameBuffer()
        while not frames:
            frames = buffer.feed(runner.control.recv(4096))

        assert decode(frames[0]) == [BeatAck(number=7)]


def test_a_job_whose_time_has_passed_is_not_started(shared: RunnerProcess) -> None:
    shared.assign("noop", budget=0.0)
    shared.assign("noop", budget=60.0)
    late, early = shared.ended(2)

    assert late.status is TaskStatus.EXPIRED
    assert late.started_at is None
    assert early.status is TaskStatus.SUCCESS


def test_jobs_that_have_not_started_are_withdrawn() -> None:
    with ready_runner("--concurrency", "1") as runner:
        [running] = runner.assign("hold")
        runner.receive(Started)
        waiting = runner.assign("noop", times=2)
        tokens = [running, waiting[0], 999]
        runner.send(Withdraw(ids=bytes(48), tokens=tokens))
        withdrawn = runner.receive(Withdrawn)
        runner.assign("release", pool=THREADS)

        assert (withdrawn.tokens, withdrawn.taken) == (tokens, bytes([0, 1, 0]))
        assert waiting[0] not in tokens_of(runner.ended(3))


def test_stop_hands_back_what_waits_and_finishes_what_runs() -> None:
    with ready_runner("--concurrency", "1") as runner:
        [running] = runner.assign("echo_over_relay", "hello")
        relayed = runner.receive(Relay)
        waiting = runner.assignment("noop", times=2)
        runner.send(waiting, RunnerStop())
        handback = runner.receive(Handback)
        runner.send(Relay(runner=relayed.runner, frame=b"answer"))

        assert handback.tokens == waiting.tokens
        assert (handback.reason, handback.started) == ("drain", bytes(2))
        assert tokens_of(runner.ended(1)) == [running]
        assert runner.process.wait(10) == 0


def test_jobs_that_arrive_after_stop_are_handed_back() -> None:
    with ready_runner() as runner:
        runner.assign("hold")
        runner.receive(Started)
        runner.send(RunnerStop())
        [late] = runner.assign("noop")

        assert runner.receive(Handback).tokens == [late]


def test_an_idle_runner_stops_at_once(either: RunnerProcess) -> None:
    either.run("add", 1, 2, pool=THREADS)
    either.send(RunnerStop())

    assert either.process.wait(10) == 0


def test_sigint_and_sigterm_are_left_to_the_parent(either: RunnerProcess) -> None:
    either.process.send_signal(signal.SIGINT)
    either.process.send_signal(signal.SIGTERM)

    assert either.run("async_add", 1, 2).value == 3


def test_the_end_of_the_parent_ends_the_whole_group() -> None:
    with ready_runner() as runner:
        pid, group = runner.run("pid_and_group", pool=THREADS).value
        sleeper = runner.run("starts_sleeper", pool=THREADS).value
        assert group == pid == runner.process.pid
        assert os.getpgid(sleeper) == group
        runner.assign("block_loop")

        runner.control.close()

        assert runner.process.wait(10) == -signal.SIGKILL
        with pytest.raises(ProcessLookupError):
            _wait_reaped(group)


def _wait_reaped(group: int) -> None:
    """Raises `ProcessLookupError` once nothing of the group is left."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        os.killpg(group, 0)
        time.sleep(0.01)


def test_a_runner_whose_loop_was_stopped_ends(either: RunnerProcess) -> None:
    either.assign("stops_the_loop")

    assert either.process.wait(10) == 70


@pytest.mark.parametrize("task", ["terminates_a_child", "forks"])
def test_what_a_task_starts_can_be_terminated(shared: RunnerProcess, task: str) -> None:
    assert shared.run(task, pool=THREADS).value == -signal.SIGTERM


def test_long_jobs_are_announced_and_short_ones_are_not() -> None:
    with ready_runner() as runner:
        runner.assign("noop", times=5)
        runner.ended(5)
        [long] = runner.assign("hold")
        started = runner.receive(Started)

        assert started.tokens == [long]


def test_a_waiting_job_gives_its_slot_back() -> None:
    with ready_runner("--concurrency", "1") as runner:
        [waiting] = runner.assign("waits_for_another")
        assert runner.receive(RunnerSlots).changes == [[0, 1]]
        # Runs in the slot of the job that waits.
        assert runner.run("async_add", 1, 2).value == 3
        [release] = runner.assign("release", pool=THREADS)

        assert set(tokens_of(runner.ended(2))) == {release, waiting}
        assert runner.receive(RunnerSlots).changes == [[0, -1]]
        assert runner.run("async_add", 1, 2).value == 3


@pytest.mark.parametrize(
    ("task", "pool"), [("echo_over_relay", 0), ("echo_over_relay_from_thread", THREADS)]
)
def test_clients_in_tasks_speak_over_the_data_channel(
    either: RunnerProcess, task: str, pool: int
) -> None:
    either.assign(task, "hello", pool=pool)
    relayed = either.receive(Relay)
    assert relayed.frame == b"hello"
    either.send(Relay(runner=relayed.runner, frame=b"answer"))

    assert either.ended(1)[0].value == "answer"
    assert either.receive(Relay) == Relay(runner=relayed.runner, frame=b"", closed=True)


def test_a_client_hears_when_its_connection_ends(shared: RunnerProcess) -> None:
    shared.assign("echo_over_relay", "hello")
    relayed = shared.receive(Relay)
    shared.send(Relay(runner=relayed.runner, frame=b"", closed=True))

    assert shared.ended(1)[0].type_name == "ConnectionError"
    # The subworker remembers it until it has been closed on both sides.
    assert shared.receive(Relay) == Relay(runner=relayed.runner, frame=b"", closed=True)
