"""The calls of a client that tie jobs to a block of the caller's code."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, cast

import anyio

from fastworker.client.ambient import calling_job
from fastworker.client.base import ClientBase
from fastworker.client.bound import Bound, WebRequest, submitted
from fastworker.client.group_jobs import GroupLimits
from fastworker.client.results import Watched
from fastworker.client.submissions import Jobs, Submission
from fastworker.client.task_group import TaskGroup
from fastworker.core.lengths import optional_seconds, seconds_of
from fastworker.options import MAX_SECONDS

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
            deadline: seconds or a timedelta for the whole block, which then ends as inside
                `anyio.fail_after`: jobs are cancelled, and `TimeoutError` is raised. The jobs know
                it, and that of the caller's own cancel scopes, and so do the jobs they start.
            grace: seconds or a timedelta that cancelled code has to unwind.
            owned: seconds or a timedelta: the control plane cancels the jobs when this client has
                been gone for so long; None: their life is not tied to the client's.

        Raises:
            InvalidOption: a length of time that is none.
        """
        limits = GroupLimits(
            deadline=optional_seconds(deadline, "deadline"),
            grace=seconds_of(grace, "grace", most=MAX_SECONDS),
            owned=optional_seconds(owned, "owned", most=MAX_SECONDS),
        )
        return TaskGroup(cast("Client", self), limits)

    def bound_to(self, request: WebRequest) -> Bound:
        """Tie work to the life of a web request::

            async with client.bound_to(request):
                return await (await summarise.submit(text)).result()

        When the browser goes away the block is cancelled, and so are all jobs submitted inside,
        by whatever call; `RequestGone` is raised. They are cancelled, too, if the block ends with
        another error, and if the application is gone for 30 seconds. Jobs submitted outside go on,
        and so do those of a block that has ended well. The request's body is read first.

        Args:
            request: Starlette's or FastAPI's, or one like it.

        Raises:
            InvalidOption: not a request.
            RequestGone: on leaving the block: the browser has gone.
        """
        self._usable()
        return Bound(request, lambda: self._connection)

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
            submitted(jobs),
            deadline=anyio.current_time() + self._submit_seconds,
            watch=watch,
            grouped=grouped,
            parent=calling_job(),
        )
