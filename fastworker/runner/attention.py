"""How jobs that start wake the thread that looks after event loops; free while it is awake."""

from __future__ import annotations

import os
from contextlib import suppress


class Attention:
    """Whether somebody wants to be woken when a job starts; this one never does."""

    __slots__ = ("asleep",)

    def __init__(self) -> None:
        self.asleep = False
        """`wake` is wanted with the next job that starts."""

    def wake(self) -> None:
        """A job has started while nobody looked. Any thread."""


class PipeAttention(Attention):
    """Wakes whoever waits until ``readable`` can be read."""

    __slots__ = ("_writable", "readable")

    def __init__(self) -> None:
        super().__init__()
        self.readable, self._writable = os.pipe()
        os.set_blocking(self.readable, False)
        os.set_blocking(self._writable, False)

    def wake(self) -> None:
        """See `Attention.wake`."""
        self.asleep = False
        with suppress(BlockingIOError):
            os.write(self._writable, b"!")

    def clear(self) -> None:
        """Take what woke us, so that it does not wake us again."""
        with suppress(BlockingIOError):
            os.read(self.readable, 64)
