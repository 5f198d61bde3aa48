"""Following jobs: what they log and print, and how far they are, as async iterators.

Each step asks for what is new after the last thing seen, and is answered as soon as there is
something. So nothing is lost or repeated over a new connection, and a slow reader holds up nobody.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import NamedTuple

from fastworker.client.ambient import waiting_for_results
from fastworker.client.base import ClientBase
from fastworker.client.results import progress_of
from fastworker.core.ids import id_bytes
from fastworker.core.records import LogLine, TaskProgress
from fastworker.errors import ProtocolError
from fastworker.wire.messages import Follow, Followed, Unfollow
from fastworker.wire.views import map_to_progress


class _Wanted(NamedTuple):
    """Of one question: after which line, after which progress, and what kind."""

    job_id: bytes
    after: int = 0
    seen_at: float | None = None
    lines: bool = False
    wait: bool = True


class FollowCalls(ClientBase):
    """The part of `Client` that follows jobs."""

    async def logs(self, task_id: str, *, follow: bool = True) -> AsyncGenerator[LogLine, None]:
        """Iterate over what a job logs and prints: first what is there, then what comes.

        Ends with the job; a job that has not started is waited for. Lines are kept as long as the
        job's result. Goes on over a new connection where it was.

        Args:
            follow: False ends with what is there now.

        Raises:
            UnknownJob: no job has this id.
            ClientNotReady: the client was stopped.
        """
        wanted = _Wanted(id_bytes(task_id), lines=True, wait=follow)
        while True:
            news = await self._follow(wanted)
            for row in zip(news.numbers, news.at, news.levels, news.texts, strict=True):
                number, at, level, text = row
                yield LogLine(number, datetime.fromtimestamp(at, UTC), level, text)
            if news.ended or not (follow or news.numbers):
                return
            if news.numbers:
                wanted = wanted._replace(after=news.numbers[-1])

    async def progress(self, task_id: str) -> AsyncGenerator[TaskProgress, None]:
        """Iterate over how far a job is: what it said last, then what it says, as it comes.

        Of what comes faster than it is read, the latest is given. Ends with the job.

        Raises:
            UnknownJob, ClientNotReady: as for `logs`.
        """
        wanted = _Wanted(id_bytes(task_id))
        while True:
            news = await self._follow(wanted)
            progress = map_to_progress(news.progress)
            if progress is not None:
                wanted = wanted._replace(seen_at=progress.at)
                yield progress_of(progress)
            if news.ended:
                return

    async def _follow(self, wanted: _Wanted) -> Followed:
        connection = self._usable()
        numbers: list[int] = []

        def build(number: int) -> Follow:
            numbers.append(number)
            return Follow(
                *(number, wanted.job_id, wanted.after, wanted.seen_at),
                *(wanted.lines, not wanted.lines, wanted.wait),
            )

        answer: object = None
        try:
            with waiting_for_results():
                answer = await connection.ask(build, timeout_seconds=None)
        finally:
            if answer is None and numbers:
                connection.send(Unfollow(numbers[0]))
        if not isinstance(answer, Followed):
            raise ProtocolError(f"the answer to Follow is {type(answer).__name__}")
        return answer
