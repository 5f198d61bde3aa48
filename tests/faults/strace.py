"""The control plane under strace: system calls that fail, wait or kill, and the log of them.

``-D`` keeps the traced process our child, so that signals and exit codes are its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

SYNCS: Final = "fdatasync,fsync"
WRITES: Final = "pwrite64,ftruncate"

_TRACED: Final = ("openat", "pwrite64", "write", "fdatasync", "fsync", "ftruncate", "rename")
_MOST_BYTES: Final = 2_000_000
"""Of one string in the log: longer than any write of SQLite."""


def injecting(calls: str, action: str, *, log: Path | None = None) -> tuple[str, ...]:
    """The command in front of a program whose system calls are tampered with.

    Args:
        calls: with commas.
        action: as strace has it after the colon: ``error=EIO:when=3``.
        log: where the calls are listed, with their moments.
    """
    output = ("-o", str(log or "/dev/null"))
    traced = ("-e", f"trace={calls}", "-e", f"inject={calls}:{action}")
    # The quick way of tracing passes over signals that are to be injected.
    quick = () if "signal=" in action else ("--seccomp-bpf",)
    return ("strace", "-D", "-f", "-q", *quick, "-ttt", "-s", "0", *output, *traced)


def recording(prefix: Path) -> tuple[str, ...]:
    """The command in front of a program whose writes are all logged, a file for each thread."""
    calls = ",".join((*_TRACED, "renameat", "renameat2", "unlink", "unlinkat", "mkdir", "close"))
    return (
        *("strace", "-D", "-f", "-ff", "-q", "--seccomp-bpf", "-ttt", "-T", "-y", "-xx"),
        *("-s", str(_MOST_BYTES), "-o", str(prefix), "-e", f"trace={calls}"),
    )


def injected_at(log: Path) -> list[float]:
    """The moments (wall clock) at which a call of a log was tampered with."""
    if not log.exists():
        return []
    lines = log.read_text(errors="replace").splitlines()
    found = (re.search(r"(\d+\.\d+) .*\(INJECTED\)", line) for line in lines)
    return [float(match[1]) for match in found if match is not None]


class Call(NamedTuple):
    """One system call that succeeded."""

    began: float
    ended: float
    """Both are wall-clock seconds."""
    name: str
    arguments: str
    result: int

    def strings(self) -> list[bytes]:
        """What stands in quotes."""
        return [_unhex(found) for found in re.findall(r'"((?:\\x[0-9a-f]{2})*)"', self.arguments)]

    def path(self) -> Path:
        """Of the descriptor that is the first argument."""
        found = re.match(r"\d+<((?:\\x[0-9a-f]{2})*)>", self.arguments)
        return Path(_unhex(found[1]).decode()) if found is not None else Path()

    def last_number(self) -> int:
        """The last argument: an offset, or a length."""
        return int(self.arguments.rpartition(",")[2])


_LINE: Final = re.compile(r"(\d+\.\d+) (\w+)\((.*)\) += (\d+)\S* <(\d+\.\d+)>")


def read_calls(prefix: Path) -> list[Call]:
    """All calls of `recording`, in the order in which they began."""
    calls: list[Call] = []
    for log in prefix.parent.glob(prefix.name + ".*"):
        calls += _of_thread(log)
    return sorted(calls)


def _of_thread(log: Path) -> Iterator[Call]:
    with log.open(encoding="ascii", errors="replace") as lines:
        for line in lines:
            match = _LINE.match(line)
            if match is not None:
                began, name, arguments, result, took = match.groups()
                yield Call(float(began), float(began) + float(took), name, arguments, int(result))


def _unhex(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))
