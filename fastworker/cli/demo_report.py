"""What ``fastworker demo`` shows: progress while it counts, and the tables at the end."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from fastworker.cli.demo_tasks import FileCount
from fastworker.cli.output import show, show_table
from fastworker.core.records import TaskResult, TaskStatus

ROWS: Final = 5
"""Of each table: enough to recognise the folder."""
PLAIN_STEPS: Final = 10
"""Lines of progress where no terminal can be redrawn."""
DIGEST_CHARACTERS: Final = 12
"""Of a SHA-256: enough to compare by eye."""

NEXT_STEPS: Final = """
What to try next:
  fastworker demo FOLDER        the same with files of yours
  fastworker run dev MODULE     a control plane and a worker for your own tasks
  fastworker submit NAME JSON   submit a job to it: fastworker submit add '[2, 3]' --wait
  fastworker --help             everything else"""


class CountedFile(NamedTuple):
    """One file and what its job found out."""

    path: bytes
    found: FileCount


@dataclass(slots=True)
class Tally:
    """What has been counted so far; ``total`` is how many files there are."""

    total: int
    counted: list[CountedFile] = field(default_factory=list)
    failed: int = 0
    first_failure: str | None = None
    size_bytes: int = 0
    words: int = 0
    jobs_by_process: Counter[int] = field(default_factory=Counter)

    @property
    def done(self) -> int:
        """Files whose job has ended."""
        return len(self.counted) + self.failed

    def add(self, path: bytes, ended: TaskResult) -> None:
        """Take in how the job of one file ended."""
        if ended.status is not TaskStatus.SUCCESS:
            self.failed += 1
            if self.first_failure is None:
                self.first_failure = ended.error or ended.reason or ended.status.value
            return
        count: FileCount = ended.result
        self.counted.append(CountedFile(path, count))
        self.size_bytes += count["bytes"]
        self.words += count["words"]
        self.jobs_by_process[count["process"]] += 1


@contextmanager
def shown_progress(total: int) -> Iterator[Callable[[Tally], None]]:
    """Show how far it is for the length of the block; gives what to call after each file."""
    if not sys.stdout.isatty():
        yield _plain_progress(total)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("counting"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("files  {task.fields[words]:,} words"),
        TimeElapsedColumn(),
    )
    with Progress(*columns) as progress:
        row = progress.add_task("", total=total, words=0)
        yield lambda tally: progress.update(row, completed=tally.done, words=tally.words)


def _plain_progress(total: int) -> Callable[[Tally], None]:
    shown = 0

    def advance(tally: Tally) -> None:
        nonlocal shown
        step = tally.done * PLAIN_STEPS // total
        if step > shown:
            shown = step
            show(f"{tally.done:,} of {total:,} files, {tally.words:,} words")

    return advance


def show_report(folder: Path, tally: Tally, *, seconds: float) -> None:
    """Print tables, totals, throughput and what to try next.

    Args:
        folder: all files are in it.
        seconds: from the first submission to the last result.
    """
    _show_files("Most words", folder, tally.counted, by=lambda one: one.found["words"])
    _show_files("Largest files", folder, tally.counted, by=lambda one: one.found["bytes"])
    show("")
    show(
        f"{len(tally.counted):,} files, {tally.words:,} words, {_size(tally.size_bytes)}"
        + (f"; {tally.failed:,} could not be counted" if tally.failed else "")
    )
    if tally.first_failure is not None:
        show(f"The first that could not: {tally.first_failure}")
    shares = sorted(tally.jobs_by_process.values(), reverse=True)
    show(
        f"{tally.done:,} jobs in {seconds:.1f} s: {tally.done / seconds:,.0f} jobs/s, "
        f"{_size(int(tally.size_bytes / seconds))}/s; jobs by subworker: "
        + (" + ".join(f"{share:,}" for share in shares) or "none")
    )
    print(NEXT_STEPS, flush=True)


def _show_files(
    title: str, folder: Path, counted: Sequence[CountedFile], *, by: Callable[[CountedFile], int]
) -> None:
    if not counted:
        return
    root = os.fsencode(folder)
    rows = [
        [
            os.fsdecode(os.path.relpath(one.path, root)),
            f"{one.found['words']:>12,}",
            f"{one.found['bytes']:>14,}",
            one.found["sha256"][:DIGEST_CHARACTERS],
        ]
        for one in sorted(counted, key=by, reverse=True)[:ROWS]
    ]
    show("")
    show_table([title, f"{'words':>12}", f"{'bytes':>14}", "sha256"], rows)


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} GB"
