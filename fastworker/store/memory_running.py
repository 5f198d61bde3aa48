"""What running jobs have left in the store in memory: checkpoints and lines, by job key."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from fastworker.core.records import LineRow, Saves


class RunningTable:
    """Checkpoints and lines."""

    def __init__(self) -> None:
        self._checkpoints: dict[int, bytes] = {}
        self._lines: dict[int, dict[int, LineRow]] = {}

    @property
    def checkpointed(self) -> frozenset[int]:
        """Keys of the jobs with a checkpoint."""
        return frozenset(self._checkpoints)

    def write(self, saves: Saves) -> None:
        """Take over what a turn has to say of them."""
        for checkpoint in saves.checkpoints:
            self._checkpoints[checkpoint.key] = checkpoint.value
        for key in saves.left_checkpoints:
            self._checkpoints.pop(key, None)
        for line in saves.lines:
            self._lines.setdefault(line.key, {})[line.number] = line
        for key, token in saves.left_lines:
            lines = self._lines.get(key, {})
            self._lines[key] = {n: line for n, line in lines.items() if line.token > token}

    def checkpoints(self, keys: Sequence[int]) -> dict[int, bytes]:
        """See `StoreReader.checkpoints`."""
        return {key: self._checkpoints[key] for key in keys if key in self._checkpoints}

    def lines(self, key: int, *, after: int, limit: int) -> list[LineRow]:
        """A job's lines, in order: at most ``limit`` with greater numbers."""
        lines = self._lines.get(key, {})
        return [lines[n] for n in islice((n for n in sorted(lines) if n > after), limit)]

    def forget_lines(self, key: int) -> None:
        """The result of the job is no longer kept."""
        self._lines.pop(key, None)
