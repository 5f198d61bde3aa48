"""Following jobs: each question is answered once, as soon as there is something new.

Nothing is kept for a follower that is slow: it asks for what comes after the last line it has, and
is told from the store. So following goes on without loss or repetition over any connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import trio

from fastworker.core.ids import id_text
from fastworker.core.records import FinishRow, JobView, LineRow
from fastworker.errors import InvalidOption, UnknownJob
from fastworker.server.running import RunningProgress
from fastworker.store.thread import StoreThread
from fastworker.wire.messages import Follow, Followed, Message, Problem
from fastworker.wire.views import progress_to_map

LINES_AT_ONCE: Final = 500
"""Of one answer: at most 2 MiB, and usually far less."""

FOLLOWED_PER_CONNECTION: Final = 1000
"""Questions of one connection that wait for something new."""


class _News:
    """Something happens to one job that is followed."""

    __slots__ = ("event", "followers")

    def __init__(self) -> None:
        self.event = trio.Event()
        self.followers = 0


class Following:
    """Who waits for news of which job."""

    def __init__(self) -> None:
        self._news: dict[bytes, _News] = {}

    def tell(self, job_id: bytes) -> None:
        """Something has happened to this job."""
        news = self._news.get(job_id)
        if news is not None:
            news.event.set()
            news.event = trio.Event()

    def tell_all(self, ids: Sequence[bytes]) -> None:
        """Something has happened to these jobs."""
        if self._news:
            for job_id in ids:
                self.tell(job_id)

    def ended(self, finishes: Sequence[FinishRow]) -> None:
        """These jobs have ended."""
        if self._news:
            for row in finishes:
                self.tell(row.id)

    @contextmanager
    def of(self, job_id: bytes) -> Iterator[_News]:
        """Hear of one job inside the block."""
        news = self._news.setdefault(job_id, _News())
        news.followers += 1
        try:
            yield news
        finally:
            news.followers -= 1
            if not news.followers:
                del self._news[job_id]


class Follower:
    """The questions of one connection.

    Args:
        send: queues a message for it.
        nursery: of its connection.
    """

    def __init__(
        self,
        following: Following,
        progress: RunningProgress,
        store: StoreThread,
        send: Callable[[Message], None],
        nursery: trio.Nursery,
    ) -> None:
        self._following = following
        self._progress = progress
        self._store = store
        self._send = send
        self._nursery = nursery
        self._open: dict[int, trio.CancelScope] = {}

    def follow(self, message: Follow, sees: str | None) -> None:
        """Answer it when there is something new; ``sees``: the tenant whose jobs there are for
        this connection, None: everybody's."""
        if len(self._open) >= FOLLOWED_PER_CONNECTION:
            text = f"at most {FOLLOWED_PER_CONNECTION} jobs are followed over one connection"
            self._send(Problem(InvalidOption.code, text, request=message.request))
            return
        self.unfollow(message.request)
        scope = self._open[message.request] = trio.CancelScope()
        self._nursery.start_soon(self._answer, message, sees, scope)

    def unfollow(self, request: int) -> None:
        """It is not wanted any more; perhaps it has been answered already."""
        scope = self._open.pop(request, None)
        if scope is not None:
            scope.cancel()

    def close(self) -> None:
        """The connection has ended."""
        for request in list(self._open):
            self.unfollow(request)

    async def _answer(self, message: Follow, sees: str | None, scope: trio.CancelScope) -> None:
        with scope, self._following.of(message.id) as news:
            while True:
                event = news.event
                answer = await self._look(message, sees)
                if answer is not None:
                    if self._open.get(message.request) is scope:
                        del self._open[message.request]
                        self._send(answer)
                    return
                await event.wait()

    async def _look(self, message: Follow, sees: str | None) -> Message | None:
        """The answer, if there is one by now."""
        # First how it stands, then the lines: those of a job that had ended then are all there.
        view = next(iter(await self._store.views([message.id], sees)), None)
        if view is None:
            text = f"no job {id_text(message.id)} is known; check the id"
            return Problem(UnknownJob.code, text, request=message.request)
        lines: list[LineRow] = []
        if message.lines:
            lines = await self._store.lines(message.id, after=message.after, limit=LINES_AT_ONCE)
        return self._news_of(message, view, lines)

    def _news_of(self, message: Follow, view: JobView, lines: list[LineRow]) -> Followed | None:
        progress = self._progress.last(message.id) if message.progress else None
        if progress is not None and progress.at == message.seen_at:
            progress = None
        ended = view.status.is_terminal and len(lines) < LINES_AT_ONCE
        if not (lines or progress or ended) and message.wait:
            return None
        return Followed(
            message.request,
            [line.number for line in lines],
            [line.at for line in lines],
            [line.level for line in lines],
            [line.text for line in lines],
            None if progress is None else progress_to_map(progress),
            ended,
        )
