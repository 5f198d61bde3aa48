"""What running jobs have said of themselves, kept until their ends are recorded. Pure.

It passes through as it comes. A connection may be lost with some of it, and the control plane
cannot tell: so it is all said again over a new one, before the outcomes. Lines have numbers, and of
progress and checkpoints only the latest counts, so hearing it twice does no harm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from fastworker.core.ids import split_ids
from fastworker.wire.messages import Checkpoint, Lines, Progress

Report: TypeAlias = Progress | Lines | Checkpoint

MAX_KEPT_LINES_BYTES: Final = 16 * 1024 * 1024
"""Of the lines of all jobs; of jobs beyond it, what is lost with a connection stays lost."""


@dataclass(slots=True)
class _Said:
    """What one attempt has said."""

    id: bytes
    progress: Progress | None = None
    checkpoint: Checkpoint | None = None
    lines: list[Lines] = field(default_factory=list)
    lines_bytes: int = 0


class UnrecordedReports:
    """By token."""

    def __init__(self) -> None:
        self._said: dict[int, _Said] = {}
        self._lines_bytes = 0

    def add(self, report: Report, *, is_held: Callable[[int], bool]) -> None:
        """Keep what a runner has said of jobs that are held."""
        for one in _one_by_one(report):
            (token,) = one.tokens
            if not is_held(token):
                continue
            said = self._said.get(token)
            if said is None:
                said = self._said[token] = _Said(one.ids)
            match one:
                case Progress():
                    said.progress = one
                case Checkpoint():
                    said.checkpoint = one
                case Lines():
                    self._add_lines(said, one)

    def _add_lines(self, said: _Said, lines: Lines) -> None:
        size = sum(map(len, lines.texts))
        if self._lines_bytes + size <= MAX_KEPT_LINES_BYTES:
            said.lines.append(lines)
            said.lines_bytes += size
            self._lines_bytes += size

    def forget(self, tokens: Iterable[int]) -> None:
        """These attempts have ended, and that is recorded."""
        if not self._said:
            return
        for token in tokens:
            said = self._said.pop(token, None)
            if said is not None:
                self._lines_bytes -= said.lines_bytes

    def messages(self) -> Iterator[Report]:
        """Everything once more."""
        for said in self._said.values():
            yield from said.lines
            if said.checkpoint is not None:
                yield said.checkpoint
            if said.progress is not None:
                yield said.progress


def _one_by_one(report: Report) -> Iterator[Report]:
    """The rows of a message as messages of their own."""
    if len(report.tokens) == 1:
        yield report
        return
    at = 0
    for index, (job_id, token) in enumerate(zip(split_ids(report.ids), report.tokens, strict=True)):
        match report:
            case Progress(done=done, total=total, messages=texts, at=moments):
                row = (done[index], total[index], texts[index], moments[index])
                yield Progress(job_id, [token], *([value] for value in row))  # type: ignore[arg-type]
            case Checkpoint(values=values):
                yield Checkpoint(job_id, [token], [values[index]])
            case Lines(firsts=firsts, counts=counts):
                some = slice(at, at + counts[index])
                yield Lines(
                    *(job_id, [token], [firsts[index]], [counts[index]]),
                    *(report.at[some], report.levels[some], report.texts[some]),
                )
                at += counts[index]
