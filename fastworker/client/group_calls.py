"""The calls of a client that tie jobs to a block of the caller's code."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, cast

import anyio

from fastworker.client.ambient import calling_job
from fastworker.client.base import ClientBase
from fastworker.client.calls import seconds_of
from fastworker.client.group_jobs import GroupLimits
from fastworker.client.results import Watched
from fastworker.client.submissions import Jobs, Submission
from fastworker.client.task_group import TaskGroup

if TYPE_CHECKING:
    from fastworker.client.client import Client


class GroupCalls(ClientBase):
    """See `fastworker.Client`."""

    def task_group(
        self,
        *,
        deadline: float | timedelta | None = None,
        grace: float | timedelta = 5.0,
        owned: float | timedelta | None = 30.0,
    ) -> TaskGroup:
        """Jobs that end with a block, wherever they run::

            async with client.task_group() as tg:
                small = tg.start_soon(resize, "a.png", 100)
                large = tg.start_soon(resize, "a.png", 1000)
            print(small.value, large.value)

        The block ends when all its jobs have ended. The first failure cancels the others, and the
        errors arrive as an `ExceptionGroup`. A cancellation of the block reaches its jobs, and is
        passed on once they have ended.

        Args:
            deadline: seconds or a timedelta for the whole block; it then ends as inside
                `anyio.fail_after`: jobs are cancelled, and `TimeoutError` is raised.
            grace: seconds or a timedelta that cancelled code has to unwind.
            owned: seconds or a timedelta: the control plane cancels the jobs when this client has
                been gone for so long; None: their life is not tied to the client's.

        Raises:
            InvalidOption: a length of time that is none.
        """
        limits = GroupLimits(
            deadline=seconds_of(deadline, "deadline"),
            grace=seconds_of(grace, "grace") or 0.0,
            owned=seconds_of(owned, "owned"),
        )
        return TaskGroup(cast("Client", self), limits)

    def _prepare(
        self, jobs: Jobs, *, watch: bool, grouped: bool = False
    ) -> tuple[Submission, list[Watched]]:
        """A submission, and its jobs as they are watched from now on."""
        submission = self._submission(jobs, watch=watch, grouped=grouped)
        if not watch:
            return submission, [Watched(job_id) for job_id in jobs.ids]
        return submission, self._watches.add_new(jobs.ids)

    def _submission(self, jobs: Jobs, *, watch: bool, grouped: bool) -> Submission:
        """Jobs on their way, in the name of the job whose code is calling."""
        return Submission(
            jobs,
            deadline=anyio.current_time() + self._submit_seconds,
            watch=watch,
            grouped=grouped,
            parent=calling_job(),
        )
