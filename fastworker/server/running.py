"""How far running jobs are, as they said last: in memory only, and of nobody else's saying."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from fastworker.core.dispatcher import Dispatcher
from fastworker.core.ids import split_ids
from fastworker.core.records import FinishRow, ProgressView
from fastworker.wire.messages import Progress

ENDED_KEPT: Final = 1000
"""Last words of jobs that have ended since: for followers that were not quick enough."""


class _Said(NamedTuple):
    token: int
    progress: ProgressView


class RunningProgress:
    """The progress of running jobs by id; bounded by the jobs that have started and not ended.

    Args:
        on_news: called with the id of a job that has said something.
    """

    def __init__(self, dispatcher: Dispatcher, on_news: Callable[[bytes], None]) -> None:
        self._dispatcher = dispatcher
        self._on_news = on_news
        self._said: dict[bytes, _Said] = {}
        self._ended: OrderedDict[bytes, ProgressView] = OrderedDict()

    def take(self, session: bytes, message: Progress) -> None:
        """Note what a subworker passes on, of attempts whose leases it holds."""
        columns = (message.tokens, message.done, message.total, message.messages, message.at)
        for job_id, token, *said in zip(split_ids(message.ids), *columns, strict=True):
            job = self._dispatcher.job(job_id)
            if job is not None and job.token == token and job.session == session:
                self._said[job_id] = _Said(token, ProgressView(*said))
                self._on_news(job_id)

    def of_attempt(self, job_id: bytes, token: int) -> ProgressView | None:
        """What the attempt that runs now has said, if anything."""
        said = self._said.get(job_id)
        return None if said is None or said.token != token else said.progress

    def last(self, job_id: bytes) -> ProgressView | None:
        """What was said last, even if the job has just ended."""
        said = self._said.get(job_id)
        return self._ended.get(job_id) if said is None else said.progress

    def ended(self, finishes: Sequence[FinishRow]) -> None:
        """These jobs have ended."""
        if not self._said:
            return
        for row in finishes:
            said = self._said.pop(row.id, None)
            if said is not None:
                self._ended[row.id] = said.progress
                if len(self._ended) > ENDED_KEPT:
                    self._ended.popitem(last=False)
