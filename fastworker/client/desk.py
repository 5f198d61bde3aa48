"""Where callers hand in submissions and questions and wait for their answers.

The half of a connection that faces the client: it never touches a transport. The other half,
`connection`, takes what waits here and brings the answers.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from typing import Final

import anyio

from fastworker.client.arriving import Arrivals
from fastworker.client.outbox import Outbox
from fastworker.client.requests import Request, Requests
from fastworker.client.results import Watched, Watches
from fastworker.client.submissions import Submission
from fastworker.core.ids import ID_BYTES
from fastworker.errors import ClientNotReady, ControlPlaneUnavailable, FastWorkerError
from fastworker.wire import messages as m

WATCHES_PER_MESSAGE: Final = 8_000
"""Ids in one message: 128 KB, half of what one WebSocket message may hold."""


class Desk:
    """Everything that waits to be sent or answered; lives in one event loop.

    Args:
        places: where the connection goes, for messages.
        watches: outlives the connection, as handles do.
    """

    def __init__(
        self, *, places: str, watches: Watches, outbox_jobs: int, outbox_bytes: int
    ) -> None:
        numbers = itertools.count(1)
        self.outbox = Outbox(
            limit_jobs=outbox_jobs,
            limit_bytes=outbox_bytes,
            numbers=numbers,
            group_ids=lambda: os.urandom(ID_BYTES),
            now=anyio.current_time,
        )
        self.requests = Requests(numbers)
        self.watches = watches
        self.arrivals = Arrivals()
        self.problem: FastWorkerError | None = None
        """Why there is no connection, while there is none."""
        self._places = places
        self._control: list[m.Message] = []
        self._standing = False
        self._stopping = False
        self._wake = anyio.Event()
        self._alarm = anyio.Event()
        self._alarm_at: float | None = None
        self._room = anyio.Event()

    @property
    def is_standing(self) -> bool:
        """Whether there is a connection just now."""
        return self._standing

    @property
    def is_usable(self) -> bool:
        """Whether anything handed in now would be worked on."""
        return not self._stopping

    async def accept(self, submission: Submission, watched: list[Watched]) -> None:
        """Hand in a submission and wait until it is accepted.

        On cancellation it is not sent any more; if it was, it may be accepted all the same.

        Args:
            watched: its jobs, if their ends are to be pushed; where an older job holds, it is put
                in place.

        Raises:
            Rejected, Indeterminate, ControlPlaneUnavailable: by its deadline, or at a refusal.
        """
        await self.wait_for_room(submission, watched)
        await self.wait_accepted(submission, watched, self.post(submission, watched))

    async def wait_for_room(self, submission: Submission, watched: list[Watched]) -> None:
        """Wait until the outbox has room for a submission, at most until its deadline.

        If that ends by an error or a cancellation, its jobs are not watched any more.
        """
        jobs = len(submission.jobs.ids)
        has_room = False
        try:
            while not self.outbox.has_room(jobs, submission.size):
                with anyio.move_on_after(submission.deadline - anyio.current_time()) as scope:
                    await self._room.wait()
                if scope.cancelled_caught:
                    raise submission.late_error("the client's outbox is full of unsent submissions")
            self._check_usable()
            has_room = True
        finally:
            if not has_room:
                self.unwatch(watched)

    async def wait_accepted(
        self, submission: Submission, watched: list[Watched], done: anyio.Event
    ) -> None:
        """The second half of `accept`, for what has been handed in with `post`."""
        try:
            await done.wait()
        finally:
            self.give_up(submission, watched)
        if submission.error is not None:
            raise submission.error

    def give_up(self, submission: Submission, watched: list[Watched]) -> None:
        """Forget a submission; if it is accepted already, nothing happens."""
        self.outbox.abandon(submission)
        if submission.error is not None:
            self.unwatch(watched)
            self._after_answers()

    def unwatch(self, watched: list[Watched]) -> None:
        """Nothing comes for these by their submission; whoever waits all the same asks for it."""
        waited_for = self.watches.remove(watched)
        for job in waited_for:
            job.subscribed = True
        self._watch([job.id for job in waited_for])

    def post(
        self,
        submission: Submission,
        watched: list[Watched],
        then: Callable[[], None] | None = None,
    ) -> anyio.Event:
        """Hand in a submission; the event is set when its ``error`` (or None) is final.

        Args:
            then: called at that moment, unless it was given up before.
        """
        done = anyio.Event()

        def on_done() -> None:
            # Here and not in the caller, who runs later: a connection that is lost in between
            # must know what to watch again.
            if submission.error is None:
                older = self._take_older(submission, watched) if submission.existing else []
                if submission.watch:
                    self.subscribe(older)
                    for job in watched:
                        job.subscribed = True
                    if submission.resent:  # its end may have been pushed to the connection before
                        self._watch([job.id for job in watched if job.ending is None])
            done.set()
            if then is not None:
                then()

        submission.on_done = on_done
        self.outbox.add(submission)
        self._check_alarm()
        self._wake.set()
        return done

    def _take_older(self, submission: Submission, watched: list[Watched]) -> list[Watched]:
        """Where an older job holds, put it in the place of the one that will never be."""
        older: list[Watched] = []
        for index, holder in submission.existing.items():
            if holder != watched[index].id:
                self.watches.remove([watched[index]])
                watched[index] = self.watches.find(holder)
                older.append(watched[index])
        return older

    async def ask(
        self, build: Callable[[int], m.Message], *, timeout_seconds: float | None
    ) -> m.Message:
        """Ask and wait for the answer, for ever if the time is None.

        Raises:
            ControlPlaneUnavailable: none came in time.
            FastWorkerError: the answer was a refusal, or the client was stopped.
        """
        self._check_usable()
        request = self.requests.ask(build)
        done = anyio.Event()
        request.on_done = done.set
        self._wake.set()
        try:
            with anyio.move_on_after(timeout_seconds):
                await done.wait()
        finally:
            self.requests.close(request)
        if request.error is not None:
            raise request.error
        if request.answer is None:
            raise self._unanswered(request, timeout_seconds)
        return request.answer

    def post_request(
        self, build: Callable[[int], m.Message], on_answer: Callable[[], None] | None = None
    ) -> None:
        """Ask without waiting; it is asked again until there is an answer or the client stops."""
        self.requests.ask(build).on_done = on_answer
        self._wake.set()

    def _unanswered(self, request: Request, timeout_seconds: float | None) -> FastWorkerError:
        what = type(request.message).__name__
        if timeout_seconds is None:
            return ClientNotReady("the client was stopped before the answer came")
        return ControlPlaneUnavailable(
            f"{what} was not answered within {timeout_seconds:g} s: {self.standing_text()}"
        )

    def subscribe(self, jobs: list[Watched]) -> None:
        """Have the ends of these jobs pushed; those subscribed already are passed over."""
        new = [job for job in jobs if not job.subscribed and self.watches.add(job)]
        for job in new:
            job.subscribed = True
        self._watch([job.id for job in new])

    def _watch(self, ids: list[bytes]) -> None:
        if ids and self._standing:
            self._control += watch_messages(ids)
            self._wake.set()

    def send(self, message: m.Message) -> None:
        """Send a message that means nothing on a later connection; dropped if there is none."""
        if self._standing:
            self._control.append(message)
            self._wake.set()

    def standing_text(self) -> str:
        """How the connection stands, as a clause for error messages."""
        if self._standing:
            return f"connected to {self._places}, but no answer came"
        if self.problem is not None:
            return str(self.problem)
        return f"nothing at {self._places} has answered yet; check that it is a control plane"

    def _check_usable(self) -> None:
        if not self.is_usable:
            raise ClientNotReady("this client has been stopped; start it again to use it")

    def _check_alarm(self) -> None:
        moment = self.outbox.next_moment()
        if moment is not None and (self._alarm_at is None or moment < self._alarm_at):
            self._alarm_at = moment
            self._alarm.set()

    def _after_answers(self) -> None:
        self._room.set()
        self._room = anyio.Event()
        self._check_alarm()
        if self.outbox.has_something_to_send:
            self._wake.set()


def watch_messages(ids: list[bytes]) -> list[m.Message]:
    starts = range(0, len(ids), WATCHES_PER_MESSAGE)
    return [m.Watch(b"".join(ids[start : start + WATCHES_PER_MESSAGE])) for start in starts]
