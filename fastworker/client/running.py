"""What runs just now, as a client sees it: jobs with their stacks, by worker and runner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from fastworker.client.base import ClientBase
from fastworker.client.moments import moment
from fastworker.core.ids import id_bytes, id_text
from fastworker.core.records import DEFAULT_TENANT, TaskPriority
from fastworker.errors import ProtocolError

KINDS: Final = ("asyncio", "trio", "thread", "process", "unknown")


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A job whose code runs, as it was when asked.

    Args:
        task_id: the job.
        task: its task's name.
        queue: where it waited.
        priority: with which it waited.
        worker: label of its subworker.
        runner: number of the process in which it runs, -1 and below for those that run one job at
            a time; None if its worker has not answered.
        pid: of that process.
        kind: ``asyncio`` or ``trio``, of a plain function ``thread`` or ``process``; ``unknown``
            if nobody has answered.
        attempt: which try at it this is, from 1.
        started_at: when its code began; None in the first moment.
        parent: the job that submitted it, if one did.
        watchers: connections that wait for its result.
        waits: results of other jobs that it waits for.
        stack: where it is, as tracebacks show it, or a sentence why that is not known; "" if it
            was not asked for.
        tenant: whose job it is.
    """

    task_id: str
    task: str
    queue: str
    priority: TaskPriority
    worker: str
    runner: int | None
    pid: int | None
    kind: str
    attempt: int
    started_at: datetime | None
    parent: str | None
    watchers: int
    waits: int
    stack: str
    tenant: str = DEFAULT_TENANT


@dataclass(frozen=True, slots=True)
class WorkerJobs:
    """A subworker with the jobs that it runs.

    Args:
        worker: its label.
        host: where it runs.
        pid: its process.
        connected: whether it is connected.
        answered: whether it has answered; if not, ``jobs`` are those known to have started there.
        jobs: by runner.
    """

    worker: str
    host: str
    pid: int
    connected: bool
    answered: bool
    jobs: tuple[RunningJob, ...]


class RunningCalls(ClientBase):
    """The part of `Client` that is about what runs."""

    async def stack(self, task_id: str) -> RunningJob | None:
        """What a job is doing just now, with its stack; None: its code does not run.

        The stack is that of its thread, or, of a job that awaits, the chain of what it awaits and
        the tasks of its nurseries and groups. It is found out even if its event loop is blocked.

        Raises:
            UnknownJob: no such job.
            ControlPlaneUnavailable: nobody answered within ``submit_timeout``.
        """
        body = await self._query("stack", {"id": id_bytes(task_id)})
        found = body.get("job")
        return None if found is None else _running(found)

    async def tree(self, *, stacks: bool = False) -> list[WorkerJobs]:
        """Every subworker with the jobs that run there; `RunningJob.parent` makes it a tree.

        A very large answer is cut off.

        Args:
            stacks: with the stack of each.

        Raises:
            ControlPlaneUnavailable: nobody answered within ``submit_timeout``.
        """
        rows = (await self._query("tree", {"stacks": stacks})).get("workers")
        if not isinstance(rows, list):
            raise ProtocolError("the report has no list of workers")
        return [_worker(row) for row in rows]


def _worker(row: Mapping[str, Any]) -> WorkerJobs:
    try:
        return WorkerJobs(
            worker=str(row["label"]),
            host=str(row["host"]),
            pid=int(row["pid"]),
            connected=row["connected"] is True,
            answered=row["answered"] is True,
            jobs=tuple(_running(job) for job in row["jobs"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ProtocolError(f"the report of a worker cannot be read: {error!r}") from error


def _running(row: Mapping[str, Any]) -> RunningJob:
    try:
        started_at, parent = row.get("started_at"), row.get("parent")
        runner, pid = row.get("runner"), row.get("runner_pid")
        kind = str(row["kind"])
        return RunningJob(
            task_id=id_text(row["id"]),
            task=str(row["task"]),
            queue=str(row["queue"]),
            priority=TaskPriority(row["priority"]),
            worker=str(row["worker"]),
            runner=None if runner is None else int(runner),
            pid=None if pid is None else int(pid),
            kind=kind if kind in KINDS else "unknown",
            attempt=int(row["attempt"]),
            started_at=moment(started_at),
            parent=None if parent is None else id_text(parent),
            watchers=int(row["watchers"]),
            waits=int(row["waits"]),
            stack=str(row["stack"]),
            tenant=str(row.get("tenant", DEFAULT_TENANT)),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, OSError) as error:
        raise ProtocolError(f"the report of a running job cannot be read: {error!r}") from error
