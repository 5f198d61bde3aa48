"""The token that makes one machine work without settings: a 0600 file per listening port.

A control plane that was given no token writes one here; clients and subworkers of the same user
find it by the port they dial. The folder belongs to the user alone, and is checked, because
``/tmp`` is anybody's: whoever could put a token there could be dialled in the control plane's
place.
"""

from __future__ import annotations

import base64
import contextlib
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from fastworker.errors import CannotCreate

TOKEN_BYTES: Final = 32
"""256 random bits: 43 characters of text."""

LARGEST_FILE_BYTES: Final = 256
_OTHERS: Final = 0o077


def new_token(random: Callable[[int], bytes] = os.urandom, *, name: str = "local") -> str:
    """Return a new token ``name.secret``; ``random`` gives so many random bytes."""
    secret = base64.urlsafe_b64encode(random(TOKEN_BYTES)).rstrip(b"=").decode("ascii")
    return f"{name}.{secret}"


def token_path(port: int, *, folder: Path) -> Path:
    """Return the file of a port's token."""
    return folder / f"{port}.token"


def read_local_token(port: int, *, folder: Path) -> str | None:
    """Return the port's token; None if there is no file that only this user could have written.

    Raises:
        CannotCreate: the folder is not this user's alone.
    """
    if not os.path.lexists(folder):
        return None
    _check_folder(folder)
    try:
        number = os.open(token_path(port, folder=folder), _READ_FLAGS)
    except OSError:
        return None
    with os.fdopen(number, "rb") as file:
        if not _is_ours_alone(os.fstat(number), stat.S_ISREG):
            return None
        content = file.read(LARGEST_FILE_BYTES + 1)
    return _token_in(content)


def write_local_token(port: int, token: str, *, folder: Path) -> Path:
    """Write the port's token, replacing what is there, and return its path.

    Raises:
        CannotCreate: the folder or file cannot be written, or is not this user's alone.
    """
    path = token_path(port, folder=folder)
    try:
        _write_new(path, token, replace=True)
    except OSError as error:
        raise _cannot_write(path, error) from error
    return path


def ensure_local_token(
    port: int, *, folder: Path, random: Callable[[int], bytes] = os.urandom
) -> str:
    """Return the port's token, made and written first if there is no valid one.

    The same token is used again after a restart, so connected clients come back by themselves.

    Raises:
        CannotCreate: the folder or file cannot be written, or is not this user's alone.
    """
    token = read_local_token(port, folder=folder)
    if token is not None:
        return token
    fresh = new_token(random, name=f"local-{port}")
    path = token_path(port, folder=folder)
    try:
        _write_new(path, fresh, replace=False)
    except FileExistsError:
        # Written by a second control plane just now, or not valid: then ours replaces it.
        token = read_local_token(port, folder=folder)
        if token is not None:
            return token
        write_local_token(port, fresh, folder=folder)
    except OSError as error:
        raise _cannot_write(path, error) from error
    return fresh


_READ_FLAGS: Final = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_WRITE_FLAGS: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)


def _write_new(path: Path, token: str, *, replace: bool) -> None:
    with contextlib.suppress(FileExistsError):
        path.parent.mkdir(mode=0o700)
    _check_folder(path.parent)
    # Written whole under a name of its own, then moved: nobody ever reads half a token.
    draft = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    number = os.open(draft, _WRITE_FLAGS, 0o600)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(token.encode("ascii") + b"\n")
        if replace:
            os.replace(draft, path)
        else:
            os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _check_folder(folder: Path) -> None:
    found = os.lstat(folder)
    if not _is_ours_alone(found, stat.S_ISDIR):
        raise CannotCreate(
            f"the folder of local tokens {str(folder)!a} is not a folder of yours alone (mode "
            f"{stat.S_IMODE(found.st_mode):04o}, owner {found.st_uid}); remove it, or set "
            "XDG_RUNTIME_DIR or FASTWORKER_TOKEN"
        )


def _is_ours_alone(found: os.stat_result, is_kind: Callable[[int], bool]) -> bool:
    if not is_kind(found.st_mode):
        return False
    if sys.platform == "win32":
        return True
    return found.st_uid == os.getuid() and not stat.S_IMODE(found.st_mode) & _OTHERS


def _token_in(content: bytes) -> str | None:
    token = content.strip()
    if len(content) > LARGEST_FILE_BYTES or len(token) < TOKEN_BYTES:
        return None
    if not token.isascii() or not token.decode("ascii").isprintable():
        return None
    return token.decode("ascii")


def _cannot_write(path: Path, error: OSError) -> CannotCreate:
    return CannotCreate(
        f"cannot write the local token {str(path)!a}: {error.strerror or error}; "
        "set FASTWORKER_TOKEN, or XDG_RUNTIME_DIR to a folder of yours"
    )
