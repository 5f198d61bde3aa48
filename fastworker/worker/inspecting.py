"""Answers what the control plane asks about running jobs, and logs loops that do not turn."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final

import trio

from fastworker.core.ids import id_text
from fastworker.transport.link import Link
from fastworker.wire.messages import Inspect, Inspected, LoopBlocked
from fastworker.worker.control import silence_of
from fastworker.worker.held_job import HeldJob
from fastworker.worker.runner_handle import RunnerHandle

MAX_QUESTIONS: Final = 16
"""That wait; more are not answered, and the control plane says so."""

ANSWERS_AT_ONCE: Final = 4
"""A runner whose interpreter is held keeps one of them for a second."""

MAX_ROWS: Final = 10_000
MAX_CHARACTERS: Final = 2 * 1024 * 1024
"""Of one answer: far below what a frame may hold, whatever the characters are."""

_log = logging.getLogger("fastworker.worker")


class Inspector:
    """Asks the runners for the control plane.

    Args:
        runners: those that are alive, by number.
        given_to: what a runner has been given and not ended.
    """

    def __init__(
        self,
        runners: Mapping[int, RunnerHandle],
        given_to: Callable[[int], Collection[HeldJob]],
    ) -> None:
        self._runners = runners
        self._given_to = given_to
        self._asked, self._questions = trio.open_memory_channel[Inspect](MAX_QUESTIONS)

    def ask(self, message: Inspect) -> None:
        """Have a question answered by `serve`; never waits."""
        try:
            self._asked.send_nowait(message)
        except trio.WouldBlock:
            _log.debug("did not answer the control plane: it asks faster than runners answer")

    async def serve(self, link: Link) -> None:
        """Answer over this link, until cancelled."""
        async with trio.open_nursery() as nursery:
            for _ in range(ANSWERS_AT_ONCE):
                nursery.start_soon(self._serve_one_by_one, link)

    async def _serve_one_by_one(self, link: Link) -> None:
        while True:
            message = await self._questions.receive()
            answer = await self.answer(message)
            if not link.closed:
                link.send(answer)

    async def answer(self, message: Inspect) -> Inspected:
        """Ask all runners at once, and put together what they say."""
        found: dict[int, list[list[object]]] = {}
        tokens = None if message.tokens is None else frozenset(message.tokens)

        async def ask(number: int, runner: RunnerHandle) -> None:
            found[number] = await self._rows_of(number, runner, tokens, stacks=message.stacks)

        async with trio.open_nursery() as nursery:
            for number, runner in self._runners.items():
                nursery.start_soon(ask, number, runner)
        rows = [row for _, rows in sorted(found.items()) for row in rows]
        kept = _bounded(rows)
        return Inspected(message.request, kept, complete=len(kept) == len(rows))

    async def _rows_of(
        self, number: int, runner: RunnerHandle, tokens: frozenset[int] | None, *, stacks: bool
    ) -> list[list[object]]:
        given = [job for job in self._given_to(number) if tokens is None or job.token in tokens]
        if not given:
            return []
        answer = await runner.inspect([job.token for job in given], with_stacks=stacks)
        if answer is not None:
            return [[token, number, runner.pid, *rest] for token, *rest in answer.rows]
        silence = silence_of(runner.pid)
        begun = runner.started_tokens()
        return [
            [job.token, number, runner.pid, "unknown", 0, job.started_at, silence]
            for job in given
            if job.started_at is not None or begun is None or job.token in begun
        ]


def _bounded(rows: Iterable[list[object]]) -> list[list[object]]:
    kept: list[list[object]] = []
    left = MAX_CHARACTERS
    for row in rows:
        left -= len(str(row[-1]))
        if left < 0 or len(kept) >= MAX_ROWS:
            break
        kept.append(row)
    return kept


async def log_blocked_loops(number: int, runner: RunnerHandle) -> None:
    """Log what a runner reports of its event loops, until cancelled."""
    while True:
        log_blocked(number, await runner.wait_blocked())


def log_blocked(number: int, report: LoopBlocked) -> None:
    """One line: which loop, for how long, by which job and where; the stack goes with it."""
    by = "code that belongs to no job that is known"
    if report.id is not None:
        by = f"job {id_text(report.id)} (task {report.task})"
    at = f" at {report.place}" if report.place else ""
    if report.ended:
        text = (
            f"the event loop ({report.loop}) of runner {number} turns again: "
            f"it was blocked for {report.seconds:.1f} s by {by}"
        )
    else:
        text = (
            f"the event loop ({report.loop}) of runner {number} has been blocked for "
            f"{report.seconds:.1f} s by {by}{at}; all other jobs of this loop stand still"
        )
    level = logging.WARNING
    if _log.isEnabledFor(level):
        # The stack is the job's, not ours; text and JSON have a place for it.
        stack = report.stack or None
        _log.handle(_log.makeRecord(_log.name, level, "", 0, text, (), None, sinfo=stack))
