"""Space kept back for outcomes: when the disk is full, what was begun can still be recorded.

The reserve is a file beside the database that holds blocks of the disk and nothing else. It is
given up when the disk is full even for outcomes; new jobs are refused from then on, until there
is space for the reserve again.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from pathlib import Path
from typing import Final

logger = logging.getLogger("fastworker.store")

RESERVE: Final = "reserve"
RESERVE_BYTES: Final = 4 * 1024 * 1024
"""Some ten thousand small outcomes, with the checkpoint that makes room for more."""
SMALLEST_DISK_BYTES: Final = 8 * RESERVE_BYTES
"""On a smaller disk the reserve would be what fills it."""
REGAIN_BYTES: Final = 2 * RESERVE_BYTES
"""Free space at which the reserve is made again: enough that it does not fill the disk anew."""
REGAIN_EVERY_SECONDS: Final = 1.0

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_ZEROS: Final = bytes(64 * 1024)


class Reserve:
    """The reserve of one store; ``warning`` says why there is none, if so from the beginning."""

    def __init__(self, folder: Path) -> None:
        self.warning: str | None = None
        self.missing = False
        """Whether new jobs must wait until it has been made again."""
        self._path = folder / RESERVE
        self._held = False
        self._next_try_at = 0.0

    def hold(self) -> None:
        """Make the file unless it is there as a whole; sets `warning` and `missing`."""
        try:
            self._held = self._is_whole()
            if self._held:
                return
            if _total_bytes(self._path.parent) < SMALLEST_DISK_BYTES:
                self.warning = (
                    f"the disk of {self._path.parent} is too small for a reserve, so outcomes wait "
                    "when it is full; at least 32 MiB are needed for one"
                )
                return
            self._make()
        except OSError as error:
            self._path.unlink(missing_ok=True)
            self.missing = error.errno in _FULL
            self.warning = f"the reserve {self._path} cannot be made ({error.strerror}): " + (
                "new jobs are refused until it can"
                if self.missing
                else "outcomes wait when the disk is full"
            )

    def give_up(self) -> bool:
        """Let its space be used; whether there was any to give."""
        if not self._held:
            return False
        self._held = False
        self.missing = True
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            logger.error("the reserve %s cannot be given up: %s", self._path, error.strerror)
            return False
        logger.error(
            "the disk of %s is full: new jobs are refused, and outcomes use the reserve",
            self._path.parent,
        )
        return True

    def give_up_if_full(self) -> bool:
        """Before `hold`: give up what an earlier process left, if the disk is full."""
        self._held = _free_bytes(self._path.parent) < RESERVE_BYTES and self._is_whole()
        return self.give_up()

    def regain(self) -> None:
        """Make it again if it is missing and there is space; looks at most once a second."""
        now = time.monotonic()
        if not self.missing or now < self._next_try_at:
            return
        self._next_try_at = now + REGAIN_EVERY_SECONDS
        try:
            if _free_bytes(self._path.parent) < REGAIN_BYTES:
                return
            self._make()
        except OSError:
            self._path.unlink(missing_ok=True)
            return
        self.missing = False
        logger.info("the disk of %s has space again: new jobs are accepted", self._path.parent)

    def _is_whole(self) -> bool:
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return False
        # A copy may have holes where there were zeros.
        return status.st_size == RESERVE_BYTES and status.st_blocks * 512 >= RESERVE_BYTES

    def _make(self) -> None:
        self._path.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(self._path, flags, 0o600)
        try:
            _allocate(descriptor)
        finally:
            os.close(descriptor)
        self._held = True


def _allocate(descriptor: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
        return
    left = RESERVE_BYTES
    while left > 0:
        left -= os.write(descriptor, _ZEROS[:left])


def _total_bytes(folder: Path) -> int:
    disk = os.statvfs(folder)
    return disk.f_blocks * disk.f_frsize


def _free_bytes(folder: Path) -> int:
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize
