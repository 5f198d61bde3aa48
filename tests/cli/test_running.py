"""How ``tree`` and ``stack`` show what runs."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from fastworker import RunningJob, TaskPriority, WorkerJobs
from fastworker.cli.running import _length, tree_lines

NOW = datetime(2026, 1, 31, 12, 0, tzinfo=UTC)


def job(task_id: str, parent: str | None = None, **changes: object) -> RunningJob:
    made = RunningJob(
        task_id=task_id,
        task="resize",
        queue="default",
        priority=TaskPriority.NORMAL,
        worker="one",
        runner=0,
        pid=7,
        kind="asyncio",
        attempt=1,
        started_at=NOW - timedelta(seconds=3.2),
        parent=parent,
        watchers=0,
        waits=0,
        stack="",
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


def worker(*jobs: RunningJob, connected: bool = True, answered: bool = True) -> WorkerJobs:
    return WorkerJobs("one", "host", 42, connected, answered, jobs)


def lines(*workers: WorkerJobs) -> list[str]:
    return list(tree_lines(workers, now=NOW))


def test_children_stand_under_their_parents() -> None:
    shown = lines(worker(job("c", "b"), job("d", "a"), job("a"), job("b", "a"), job("e", "z")))
    assert shown == [
        "one (host, pid 42)",
        "  runner 0 (pid 7)",
        "    resize a  asyncio, for 3.2 s",
        "      resize d  asyncio, for 3.2 s",
        "      resize b  asyncio, for 3.2 s",
        "        resize c  asyncio, for 3.2 s",
        "    resize e  asyncio, for 3.2 s, started by z",
    ]


def test_a_job_says_who_waits_and_what_for() -> None:
    waiting = job("a", waits=2, watchers=1, attempt=3, kind="thread", stack="one\ntwo")
    assert lines(worker(waiting))[2:] == [
        "    resize a  thread, for 3.2 s, attempt 3, waits for 2 results, 1 client waiting for it",
        "      | one",
        "      | two",
    ]


def test_jobs_that_name_each_other_as_parents_are_left_out_and_do_no_harm() -> None:
    assert len(lines(worker(job("a", "b"), job("b", "a")))) == 2


def test_runners_are_told_apart() -> None:
    shown = lines(worker(job("a"), job("b", runner=-1, pid=8), job("c", runner=None, pid=None)))
    assert [line for line in shown if line.startswith("  runner")] == [
        "  runner 0 (pid 7)",
        "  runner -1 (pid 8, one job at a time)",
        "  runner unknown",
    ]


def test_a_worker_that_says_nothing_is_named() -> None:
    assert lines(worker()) == ["one (host, pid 42): nothing runs"]
    assert "has not answered in time" in lines(worker(answered=False))[0]
    assert "not connected" in lines(worker(answered=False, connected=False))[0]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0.0 s"), (3.21, "3.2 s"), (250, "4 min 10 s"), (7500, "2 h 5 min")],
)
def test_lengths_are_for_people(seconds: float, text: str) -> None:
    assert _length(seconds) == text
