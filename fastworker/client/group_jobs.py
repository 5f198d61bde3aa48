"""The jobs of one task group: handed in, heard of, cancelled together.

The block around them is in `task_group`. Everything here is called, by who starts jobs or by the
connection as answers come; nothing waits but `feed`, which hands over what the outbox has no room
for, and `wait_quiet`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import anyio

from fastworker.client.bound import cancels, owned_jobs
from fastworker.client.calls import MAX_GROUP_BYTES, MAX_GROUP_JOBS
from fastworker.client.connection import Connection
from fastworker.client.group_handles import GroupHandle, Posted
from fastworker.client.submissions import Jobs
from fastworker.core.ids import id_bytes
from fastworker.errors import (
    ControlPlaneUnavailable,
    FastWorkerError,
    Indeterminate,
    TaskError,
)

if TYPE_CHECKING:
    from fastworker.client.client import Client

UNOWNED_SECONDS: Final = 30.0
"""How long the end of a cancelled group is waited for without a connection, if nobody cancels its
jobs for want of their client."""


class GroupLimits(NamedTuple):
    """What a task group was asked for, in seconds."""

    deadline: float | None
    """From the start of the block; None: as long as it takes."""
    grace: float
    """For code to unwind once it is cancelled."""
    owned: float | None
    """The control plane cancels the jobs once the client has been gone for so long; None: never."""


LATE_SECONDS: Final = 1.0
"""A job that runs into the group's deadline may say so a little before the caller's clock does."""


class GroupJobs:
    """The jobs of one group that have not ended, and the failures of those that have.

    Args:
        on_failure: called when the group has to be cancelled; with why.
        start_feeding: called when `feed` has to run.
    """

    def __init__(
        self,
        client: Client,
        limits: GroupLimits,
        *,
        on_failure: Callable[[str], None],
        start_feeding: Callable[[], None],
    ) -> None:
        self._client = client
        self._limits = limits
        self._on_failure = on_failure
        self._start_feeding = start_feeding
        self._open: dict[GroupHandle[Any], None] = {}
        self._unsent: deque[Posted] = deque()
        """What the outbox has no room for."""
        self._to_cancel: list[bytes] = []
        self._excused: set[bytes] = set()
        self._quiet = anyio.Event()
        self._reason = ""
        self.cancel_called = False
        self.is_late = False
        """Whether a job has run into the group's deadline, which is no failure of its own."""
        self.deadline = math.inf
        """Of the block, in monotonic seconds: it is that of the jobs, too."""
        self.errors: list[BaseException] = []
        """Failures, in the order they were heard of."""

    @property
    def is_quiet(self) -> bool:
        """Whether every job has ended."""
        return not self._open

    # --- handing in ------------------------------------------------------------------------

    def submit(self, jobs: Jobs, *, grouped: bool) -> list[GroupHandle[Any]]:
        """Hand in a submission, at once or as soon as the outbox has room."""
        if self._limits.owned is not None:
            jobs = owned_jobs(jobs, self._limits.owned)
        deadlines = jobs.deadlines
        if self.deadline < math.inf:
            jobs = _until(jobs, self.deadline)
        submission = self._client._submission(jobs, watch=True, grouped=grouped)
        handles: list[GroupHandle[Any]] = [
            GroupHandle(self._client, job_id, models, self.ended)
            for job_id, models in zip(jobs.ids, jobs.models or repeat(None), strict=False)
        ]
        for handle, own in zip(handles, deadlines or (), strict=False):
            handle._own_deadline = own is not None and own < self.deadline
        posted = Posted(submission, handles)
        if self.cancel_called:
            posted.fail(None, self._reason)
            return handles
        self._open.update(dict.fromkeys(handles))
        connection = self._client._usable()
        if self._unsent or not connection.outbox.has_room(len(handles), submission.size):
            self._unsent.append(posted)
            if len(self._unsent) == 1:
                self._start_feeding()
        else:
            self._post(connection, posted)
        return handles

    def _post(self, connection: Connection, posted: Posted) -> None:
        posted.watched = self._client._watches.add_new(posted.submission.jobs.ids)
        connection.post(posted.submission, posted.watched, lambda: self._answered(posted))

    async def feed(self) -> None:
        """Hand in what waits as the outbox gets room; ends with the last."""
        while self._unsent:
            posted = self._unsent[0]
            posted.submission.deadline = anyio.current_time() + self._client._submit_seconds
            try:
                connection = self._client._usable()
                await connection.wait_for_room(posted.submission, [])
            except FastWorkerError as error:
                if self.cancel_called:
                    return  # all that waited has been dropped
                self._unsent.popleft()
                self._refused(posted, error)
            else:
                if self.cancel_called:
                    return
                self._unsent.popleft()
                self._post(connection, posted)

    # --- what is heard ---------------------------------------------------------------------

    def _answered(self, posted: Posted) -> None:
        """A submission is accepted, or has failed for good."""
        error = posted.submission.error
        if error is not None:
            if self._client._connection is not None:
                self._client._connection.give_up(posted.submission, posted.watched)
            self._refused(posted, error)
            return
        posted.accept()
        if self.cancel_called:
            self._cancel_accepted(posted.handles)

    def _refused(self, posted: Posted, error: FastWorkerError) -> None:
        posted.fail(error, self._reason)
        for handle in posted.handles:
            self._forget(handle)
        if isinstance(error, Indeterminate):
            self._cancel_soon(posted.submission.jobs.ids)
            if any(isinstance(one, Indeterminate) for one in self.errors):
                return  # one lost connection is one failure, however many jobs were on their way
        elif self.cancel_called:
            return  # what a cancelled group did not get submitted is nobody's loss
        self.errors.append(error)
        self._on_failure(f"a job of its task group was refused: {error.code}")

    def ended(self, handle: GroupHandle[Any]) -> None:
        """A job has ended, or nothing more can be learned of it."""
        error = handle._end()
        self._forget(handle)
        if error is None:
            return
        if handle._was_cancelled and (self.cancel_called or handle._cancel_called):
            self._excused.add(handle._watched.id)
        elif self._is_late(handle, error):
            self.is_late = True
            self._excused.add(handle._watched.id)
        else:
            self.errors.append(error)
            self._on_failure(f"job {handle.id} of its task group failed")

    def _is_late(self, handle: GroupHandle[Any], error: Exception) -> bool:
        return (
            handle._is_past_deadline
            and not handle._own_deadline
            and anyio.current_time() >= self.deadline - LATE_SECONDS
        )

    def is_counted(self, error: BaseException) -> bool:
        """Whether it says what is known of one of the jobs: its failure, or that it was stopped
        with the group, which is none."""
        if any(error is one for one in self.errors):
            return True
        job = error.task_id if isinstance(error, TaskError) else None
        return job is not None and id_bytes(job) in self._excused

    def _forget(self, handle: GroupHandle[Any]) -> None:
        self._open.pop(handle, None)
        if not self._open:
            self._quiet.set()

    # --- cancelling ------------------------------------------------------------------------

    def cancel(self, reason: str) -> None:
        """Cancel every job; a second call does nothing, but for what has been found out since."""
        if not self.cancel_called:
            self.cancel_called = True
            self._reason = reason
            self._drop_unsent()
            self._cancel_accepted([one for one in self._open if one._posted is None])
        self._say_cancels()

    def _drop_unsent(self) -> None:
        """What no control plane can have is not sent any more."""
        self._unsent.clear()
        submissions = {id(one._posted): one._posted for one in self._open}
        for posted in submissions.values():
            if posted is None or posted.submission.may_be_stored:
                continue
            if posted.watched and self._client._connection is not None:
                self._client._connection.give_up(posted.submission, posted.watched)
            posted.fail(None, self._reason)
            for handle in posted.handles:
                self._excused.add(handle._watched.id)
                self._forget(handle)

    def _cancel_accepted(self, handles: Iterable[GroupHandle[Any]]) -> None:
        for handle in handles:
            if handle.deduplicated:  # an older job, which this group has not made
                handle._stop_listening()
                self._forget(handle)
            elif not handle._watched.settled:
                self._cancel_soon([handle._watched.id])

    def _cancel_soon(self, ids: list[bytes]) -> None:
        """Accepted one after another, in the same turn: cancelled together."""
        connection = self._client._connection
        if connection is not None and not self._to_cancel:
            connection.loop.call_soon_threadsafe(self._say_cancels)
        self._to_cancel += ids

    def _say_cancels(self) -> None:
        connection = self._client._connection
        ids, self._to_cancel = self._to_cancel, []
        if connection is not None and connection.is_usable:
            for build in cancels(ids, self._reason, grace=self._limits.grace):
                connection.post_request(build)

    # --- the end ---------------------------------------------------------------------------

    async def wait_quiet(self) -> None:
        """Wait until no job is open; once cancelled, only for as long as it can be heard of."""
        patience = UNOWNED_SECONDS if self._limits.owned is None else self._limits.owned
        while self._open:
            self._quiet = anyio.Event()
            seconds = math.inf
            if self.cancel_called:
                connection = self._client._connection
                assert connection is not None
                silent = connection.silent_seconds()
                if silent >= patience:
                    self._give_up(connection, patience)
                    return
                seconds = patience - silent
            with anyio.move_on_after(seconds):
                await self._quiet.wait()

    def _give_up(self, connection: Connection, seconds: float) -> None:
        given_up = list(self._open)
        for handle in given_up:
            handle._stop_listening()
            connection.unwatch([handle._watched])
            self._forget(handle)
        error = ControlPlaneUnavailable(
            f"{len(given_up)} jobs of a cancelled task group may still be running: nothing was "
            f"heard for {seconds:g} s; {connection.standing_text()}. They are cancelled once "
            "the control plane is there"
        )
        error.task_id = given_up[0].id
        self.errors.append(error)


def in_parts(jobs: Jobs) -> Iterator[Jobs]:
    """Jobs of one task in submissions of a size that is accepted."""
    first = size = 0
    for index, payload in enumerate(jobs.payloads):
        full = index - first == MAX_GROUP_JOBS or size + len(payload) > MAX_GROUP_BYTES
        if full and index > first:
            yield _cut(jobs, first, index)
            first, size = index, 0
        size += len(payload)
    if jobs.ids:
        yield _cut(jobs, first, len(jobs.ids))


def _cut(jobs: Jobs, first: int, end: int) -> Jobs:
    return jobs._replace(
        ids=jobs.ids[first:end],
        payloads=jobs.payloads[first:end],
        ready_at=None if jobs.ready_at is None else jobs.ready_at[first:end],
        expires_at=None if jobs.expires_at is None else jobs.expires_at[first:end],
        deadlines=None if jobs.deadlines is None else jobs.deadlines[first:end],
        models=None if jobs.models is None else jobs.models[first:end],
    )


def _until(jobs: Jobs, deadline: float) -> Jobs:
    """The same, with no deadline later than this one."""
    given = jobs.deadlines or [None] * len(jobs.ids)
    latest = [deadline if own is None else min(own, deadline) for own in given]
    return jobs._replace(deadlines=list(latest))
