"""A disk that loses power: from a log of system calls, what it may hold at any moment.

What a completed sync covers is there. Of what was written since, any part may be: each write, or
some sectors of it. Names (made, renamed, removed) are there once their folder was synced; those
that came later are there from the first up to any one, as journalling file systems keep them.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

from tests.faults.strace import Call

SECTOR_BYTES: Final = 512
"""What a disk writes as a whole."""


class Change(NamedTuple):
    """A write (data at an offset) or, without data, a truncation to a length."""

    began: float
    ended: float
    at: int
    data: bytes | None


@dataclass
class File:
    """One file, whatever its name: what is safe, and what is on its way."""

    safe: bytearray = field(default_factory=bytearray)
    pending: list[Change] = field(default_factory=list)

    def sync(self, began: float) -> None:
        """A sync that began then has completed."""
        covered = [change for change in self.pending if change.ended <= began]
        self.pending = [change for change in self.pending if change.ended > began]
        for change in covered:
            apply(self.safe, change)


def apply(content: bytearray, change: Change) -> None:
    """Carry out one change."""
    if change.data is None:
        del content[change.at :]
        content.extend(bytes(change.at - len(content)))
        return
    if change.at > len(content):
        content.extend(bytes(change.at - len(content)))
    content[change.at : change.at + len(change.data)] = change.data


Names = dict[str, File]


class Disk:
    """One folder on a disk, moved through time by `advance`.

    Args:
        folder: whose files are followed.
        calls: in the order in which they began.
    """

    def __init__(self, folder: Path, calls: Sequence[Call]) -> None:
        self._folder = folder
        self._calls = [call for call in calls if _is_about(call, folder)]
        self._files: Names = {}
        self._safe_names: Names = {}
        self._pending_names: list[Names] = []
        """The names after each change that no sync has covered yet."""
        self._next = 0
        self._syncing: list[Call] = []
        self.syncs = 0

    def advance(self, moment: float) -> None:
        """Let everything happen that began before this moment (wall clock, never back)."""
        while self._next < len(self._calls) and self._calls[self._next].began <= moment:
            call = self._calls[self._next]
            self._next += 1
            self._complete_syncs(call.began)
            self._take(call)
        self._complete_syncs(moment)

    def least(self) -> dict[str, bytes]:
        """The image that holds nothing but what was synced."""
        return {name: bytes(file.safe) for name, file in self._safe_names.items()}

    def some(self, chooser: random.Random) -> dict[str, bytes]:
        """The image with a random part of what was not synced."""
        names = chooser.choice([self._safe_names, *self._pending_names])
        return {name: _with_some(file, chooser) for name, file in names.items()}

    def _complete_syncs(self, moment: float) -> None:
        for call in [call for call in self._syncing if call.ended <= moment]:
            self._syncing.remove(call)
            self.syncs += 1
            if call.path() == self._folder:
                # Changes of names are atomic and quick: those before it in the log are covered.
                self._safe_names = dict(self._files)
                self._pending_names.clear()
            elif (file := self._files.get(call.path().name)) is not None:
                file.sync(call.began)

    def _take(self, call: Call) -> None:
        match call.name:
            case "fsync" | "fdatasync":
                self._syncing.append(call)
            case "pwrite64":
                (data,) = call.strings()
                self._change(call, call.last_number(), data[: call.result])
            case "write":
                # The only one without an offset makes a small file, once.
                (data,) = call.strings()
                self._change(call, 0, data[: call.result])
            case "ftruncate":
                self._change(call, call.last_number(), None)
            case _:
                self._rename(call)

    def _change(self, call: Call, at: int, data: bytes | None) -> None:
        file = self._files.get(call.path().name)
        if file is not None:
            file.pending.append(Change(call.began, call.ended, at, data))

    def _rename(self, call: Call) -> None:
        names = [Path(each.decode()).name for each in call.strings()]
        before = dict(self._files)
        if call.name == "openat":
            if "O_CREAT" in call.arguments:
                self._files.setdefault(names[-1], File())
        elif call.name.startswith("unlink"):
            self._files.pop(names[-1], None)
        elif call.name.startswith("rename"):
            old, new = names
            self._files[new] = self._files.pop(old)
        if self._files.keys() != before.keys() or call.name.startswith("rename"):
            self._pending_names.append(dict(self._files))


def _is_about(call: Call, folder: Path) -> bool:
    if call.name in ("openat", "mkdir") or call.name.startswith(("unlink", "rename")):
        paths = call.strings()
        return bool(paths) and Path(paths[-1].decode(errors="replace")).parent == folder
    if call.name in ("fsync", "fdatasync") and call.path() == folder:
        return True
    # The index of the journal is shared memory: it is made anew at every start.
    return call.path().parent == folder and not call.path().name.endswith("-shm")


def _with_some(file: File, chooser: random.Random) -> bytes:
    content = bytearray(file.safe)
    likely = chooser.choice((0.1, 0.5, 0.9, 1.0))
    for change in file.pending:
        if chooser.random() >= likely:
            continue
        for part in _torn(change, chooser):
            apply(content, part)
    return bytes(content)


def _torn(change: Change, chooser: random.Random) -> Iterable[Change]:
    """The whole of a change or, now and then, some of its sectors."""
    if change.data is None or chooser.random() < 0.7:
        return (change,)
    data, at = change.data, change.at
    # Sectors are those of the file, whatever the offset of the write.
    edges = [0, *range(-at % SECTOR_BYTES or SECTOR_BYTES, len(data), SECTOR_BYTES), len(data)]
    return (
        change._replace(at=at + begin, data=data[begin:end])
        for begin, end in pairwise(edges)
        if chooser.random() < 0.5
    )


def write_image(image: dict[str, bytes], folder: Path) -> None:
    """Make a folder that holds an image; what it held before is gone."""
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for name, content in image.items():
        (folder / name).write_bytes(content)
