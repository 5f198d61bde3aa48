"""The memory in which a runner notes the jobs it has started, as its subworker sees it.

`fastworker.runner.board` says how it is written: cells of 64 bits, a lease token in each that is
in use; while the first one is not zero, nothing is known. The moments of their starts fill the
second half.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

TOKEN_BYTES: Final = 64 * 1024
"""8191 jobs that have started and whose end has not been told: more than runners have slots. Used
from the front, so that little of it is ever in memory."""

BOARD_BYTES: Final = 2 * TOKEN_BYTES
"""The moments of their starts follow, as floating-point numbers."""

CELL_BYTES: Final = 8


@contextmanager
def open_board() -> Iterator[tuple[mmap.mmap, int]]:
    """An empty board, and the descriptor to hand to the runner; both end with the block.

    Raises:
        OSError: the system gives no memory or descriptor.
    """
    with _new_file() as descriptor:
        os.truncate(descriptor, BOARD_BYTES)
        with mmap.mmap(descriptor, BOARD_BYTES) as memory:
            yield memory, descriptor


@contextmanager
def _new_file() -> Iterator[int]:
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("fastworker-board")
        try:
            yield descriptor
        finally:
            os.close(descriptor)
    else:
        with tempfile.TemporaryFile() as file:
            yield file.fileno()


def read_board(memory: mmap.mmap) -> frozenset[int] | None:
    """Of a runner that has ended: `started_tokens` of its board."""
    return started_tokens(array("Q", memory[:TOKEN_BYTES]))


def seconds_running(memory: mmap.mmap, token: int, *, now: float) -> float | None:
    """How long the job of this token has run; None: it does not.

    Args:
        now: of the system's monotonic clock.
    """
    try:
        place = array("Q", memory[:TOKEN_BYTES]).index(token)
    except ValueError:
        return None
    started: float
    (started,) = struct.unpack_from("d", memory, TOKEN_BYTES + CELL_BYTES * place)
    return max(0.0, now - started)


def started_tokens(cells: Iterable[int]) -> frozenset[int] | None:
    """Tokens of the jobs that had started and whose end was not told; None: it is not known."""
    tokens = iter(cells)
    if next(tokens):
        return None
    return frozenset(token for token in tokens if token)
