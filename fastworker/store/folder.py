"""The folder of a store: made, locked by one process, and watched for being taken away."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from pathlib import Path
from typing import Final

from fastworker.errors import CannotCreate, StoreLocked, StoreUnusable
from fastworker.store.reserve import Reserve

DATABASE: Final = "fastworker.db"
NEW_DATABASE: Final = "fastworker.db.new"
"""A database is made under this name and renamed when it is whole: `DATABASE` is never empty."""

_SQLITE_MAGIC: Final = b"SQLite format 3\x00"


class StoreFolder:
    """One folder, held by this process until `release`."""

    def __init__(self, path: Path) -> None:
        """Make the folder if it is not there, and lock it.

        Raises:
            CannotCreate: the folder or a file in it cannot be made or written.
            StoreLocked: another process holds it.
        """
        self.path = path
        self.database = path / DATABASE
        self.reserve = Reserve(path)
        self._watched: dict[Path, tuple[int, int]] = {}
        self._written: tuple[int, int] | None = None
        try:
            make_folder(path)
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise cannot_write(path, error) from error
        try:
            self._take_lock()
        except BaseException:
            os.close(self._lock)
            raise

    def has_database(self) -> bool:
        """Whether there is a database to open, rather than one to make.

        Raises:
            StoreUnusable: the database is damaged at first sight, or was there and is gone.
            CannotCreate: it cannot be read or written.
        """
        try:
            with self.database.open("r+b") as file:
                if file.read(len(_SQLITE_MAGIC)) == _SQLITE_MAGIC:
                    return True
        except FileNotFoundError:
            if not self._was_used():
                return False
            raise StoreUnusable(
                f"{self.database} is gone, though {self.path} has been used; restore it from a "
                "backup, or delete the whole folder to start with an empty store"
            ) from None
        except OSError as error:
            raise cannot_write(self.database, error) from error
        raise StoreUnusable(
            f"{self.database} is not a database: it is damaged or of another program; restore it "
            "from a backup, or choose another folder with --store"
        )

    def claim(self) -> None:
        """Write who holds the folder, for whoever is refused, and as a sign that it is in use."""
        try:
            text = f"process {os.getpid()} on {socket.gethostname()}\n".encode()
            # In this order, it works on a full disk too.
            os.pwrite(self._lock, text, 0)
            os.ftruncate(self._lock, len(text))
        except OSError as error:
            raise cannot_write(self.path / "lock", error) from error

    def watch(self, *paths: Path) -> None:
        """Remember which files these are now, for `check_present`."""
        for path in paths:
            self._watched[path] = _identity(path)
        self.note_written()

    def note_written(self) -> None:
        """Remember what the database looks like after a write of ours, for `check_untouched`."""
        with contextlib.suppress(OSError):
            self._written = _content(self.database)

    def check_untouched(self) -> None:
        """See that nobody else has written the database, for example by copying another over it.

        Raises:
            StoreUnusable: somebody has, so what is in it now is not what we know.
        """
        with contextlib.suppress(OSError):  # not there: that is for `check_present` to say
            if self._written is not None and _content(self.database) != self._written:
                raise StoreUnusable(
                    f"{self.database} was overwritten by another program while it was in use; "
                    "stop everything that uses it and restore a backup with: fastworker store "
                    "restore"
                )

    def check_present(self) -> None:
        """See that the watched files are still the ones that are open.

        Raises:
            StoreUnusable: one was deleted or replaced, so what is written now will be lost.
        """
        for path, identity in self._watched.items():
            try:
                same = _identity(path) == identity
            except OSError:
                same = False
            if not same:
                raise StoreUnusable(
                    f"{path} was deleted or replaced while it was in use; put it back or restore "
                    "a backup, then start again"
                )

    def sync(self) -> None:
        """Make names in the folder durable."""
        _sync_names(self.path)

    def release(self) -> None:
        """Give the folder up. A second call does nothing."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _take_lock(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = self._holder() or "another process"
            raise StoreLocked(
                f"the store in {self.path} is held by {holder}; stop it, or choose another folder "
                "with --store"
            ) from None
        except OSError as error:
            raise cannot_write(self.path / "lock", error) from error

    def _holder(self) -> str:
        return os.pread(self._lock, 300, 0).decode(errors="replace").strip()

    def _was_used(self) -> bool:
        journal = self.database.with_name(DATABASE + "-wal")
        return bool(self._holder()) or journal.exists()


def cannot_write(path: Path, error: OSError) -> CannotCreate:
    """The error to raise when a path cannot be made or written."""
    if isinstance(error, FileExistsError):
        return CannotCreate(f"{path} is not a folder; choose another one with --store")
    return CannotCreate(
        f"cannot create or write {path}: {error.strerror}; check its owner and mode, or choose "
        "another folder with --store"
    )


def _identity(path: Path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _content(path: Path) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns


def make_folder(path: Path) -> None:
    """Make the folder of a store if it is not there, and keep what is in it out of git.

    Raises:
        OSError: that cannot be done.
    """
    _make_durably(path)
    with contextlib.suppress(FileExistsError), (path / ".gitignore").open("x") as file:
        file.write("*\n")


def _make_durably(path: Path) -> None:
    """Make a folder and what is missing above it, each name synced: a database that survives in a
    folder that does not is lost."""
    missing = [each for each in (path, *path.parents) if not each.exists()]
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    for made in reversed(missing):
        _sync_names(made.parent)


def _sync_names(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
