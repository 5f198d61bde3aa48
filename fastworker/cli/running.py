"""``stack`` and ``tree``: what the running jobs are doing just now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer

from fastworker.cli.exits import FAILED
from fastworker.cli.flags import CONNECTION, AsJson, with_settings
from fastworker.cli.jobs import JobId
from fastworker.cli.output import say, show, show_json
from fastworker.config import Resolved
from fastworker.core.ids import id_bytes
from fastworker.core.records import DEFAULT_TENANT

if TYPE_CHECKING:
    from fastworker.client.running import RunningJob, WorkerJobs

MARGIN: Final = "  "


@with_settings(*CONNECTION)
def stack(resolved: Resolved, task_id: JobId, as_json: AsJson = False) -> None:
    """Show where a running job is; exit 1 if it does not run."""
    id_bytes(task_id)
    from fastworker.cli.connecting import connected_client

    with connected_client(resolved.settings) as client:
        job = client.stack(task_id)
    if as_json:
        show_json(job)
    elif job is None:
        say(f"job {task_id} does not run: it waits, or has ended; fastworker status shows which")
    else:
        now = datetime.now(UTC)
        for line in (_line(job, now), f"on {job.worker}, {_runner(job.runner, job.pid)}"):
            show(line)
        for line in job.stack.split("\n"):
            show(line)
    if job is None:
        raise typer.Exit(FAILED)


@with_settings(*CONNECTION)
def tree(
    resolved: Resolved,
    stacks: Annotated[bool, typer.Option("--stacks", help="with the stack of each job")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the running jobs of every worker as a tree."""
    from fastworker.cli.connecting import connected_client

    with connected_client(resolved.settings) as client:
        workers = client.tree(stacks=stacks)
    if as_json:
        show_json(workers)
    elif not workers:
        say("no worker is connected")
    else:
        for line in tree_lines(workers, now=datetime.now(UTC)):
            show(line)


def tree_lines(workers: Sequence[WorkerJobs], *, now: datetime) -> Iterator[str]:
    """Workers, their runners, and the jobs, indented under their parents in the same runner."""
    for worker in workers:
        yield f"{worker.worker} ({worker.host}, pid {worker.pid}){_state_of(worker)}"
        runners = dict.fromkeys((job.runner, job.pid) for job in worker.jobs)
        for runner, pid in runners:
            yield f"{MARGIN}{_runner(runner, pid)}"
            yield from _job_lines([job for job in worker.jobs if job.runner == runner], now)


def _job_lines(jobs: Iterable[RunningJob], now: datetime) -> Iterator[str]:
    """Roots first, oldest first; children right under their parents, however deep."""
    by_id = {job.task_id: job for job in jobs}
    children: dict[str | None, list[RunningJob]] = {}
    for job in by_id.values():
        children.setdefault(job.parent if job.parent in by_id else None, []).append(job)
    todo = [(job, 2) for job in children.pop(None, [])]
    while todo:
        job, depth = todo.pop(0)
        margin = MARGIN * depth
        elsewhere = f", started by {job.parent}" if job.parent and job.parent not in by_id else ""
        yield f"{margin}{_line(job, now)}{elsewhere}"
        if job.stack:
            yield from (f"{margin}{MARGIN}| {line}" for line in job.stack.split("\n"))
        todo[:0] = [(child, depth + 1) for child in children.pop(job.task_id, [])]


def _line(job: RunningJob, now: datetime) -> str:
    words = [f"{job.task} {job.task_id}  {job.kind}"]
    if job.started_at is not None:
        words.append(f"for {_length((now - job.started_at).total_seconds())}")
    if job.tenant != DEFAULT_TENANT:
        words.append(f"of {job.tenant}")
    if job.attempt > 1:
        words.append(f"attempt {job.attempt}")
    if job.waits:
        words.append(f"waits for {_count(job.waits, 'result')}")
    if job.watchers:
        words.append(f"{_count(job.watchers, 'client')} waiting for it")
    return ", ".join(words)


def _state_of(worker: WorkerJobs) -> str:
    if not worker.connected:
        return ": not connected, jobs as last known"
    if not worker.answered:
        return ": has not answered in time, jobs as last known"
    return "" if worker.jobs else ": nothing runs"


def _runner(number: int | None, pid: int | None) -> str:
    if number is None:
        return "runner unknown"
    alone = ", one job at a time" if number < 0 else ""
    return f"runner {number} (pid {pid}{alone})"


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def _length(seconds: float) -> str:
    """For people: ``3.2 s``, ``4 min 10 s``, ``2 h 5 min``."""
    seconds = max(seconds, 0.0)
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 100:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
