"""Where the shared token comes from: a variable, or a file that only its owner can read."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from fastworker.config.settings import Settings
from fastworker.errors import InvalidOption
from fastworker.wire.handshake import (
    CERTIFICATE_ID,
    MAX_TOKEN_CHARACTERS,
    check_token,
    token_id_of,
)

INSECURE_TOKEN: Final = "insecure-no-token-was-configured-here"
"""What everybody uses where ``insecure`` is set and no token is; it keeps nobody out."""

_OTHERS: Final = 0o077
"""Permission bits of everybody but the owner."""


def configured_token(settings: Settings) -> str | None:
    """Return the token that was configured, None if none was.

    Raises:
        InvalidOption: it is too short or malformed, or its file cannot be read or is open to
            other users. The token is never repeated in the message.
    """
    if settings.token is not None:
        return _checked(settings.token, "FASTWORKER_TOKEN")
    if settings.token_file is not None:
        return _checked(_read_token_file(settings.token_file), _named(settings.token_file))
    return None


def _checked(token: str, origin: str) -> str:
    try:
        checked = check_token(token.strip())
    except InvalidOption as error:
        raise InvalidOption(f"{origin}: {error}") from error
    if token_id_of(checked) == CERTIFICATE_ID:
        raise InvalidOption(
            f"{origin}: no token can have the id {CERTIFICATE_ID!r}, which stands for those who "
            "come with a certificate; give it another name before its first dot"
        )
    return checked


def runtime_folder(environ: Mapping[str, str]) -> Path:
    """Return the folder of this user's local token files; it need not exist."""
    base = environ.get("XDG_RUNTIME_DIR", "")
    if base and Path(base).is_absolute() and Path(base).is_dir():
        return Path(base) / "fastworker"
    if sys.platform == "win32":
        return Path(tempfile.gettempdir()) / "fastworker"
    # Not tempfile's folder: TMPDIR may differ between the processes that must find each other.
    return Path("/tmp") / f"fastworker-{os.getuid()}"


def _read_token_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            content = file.read(2 * MAX_TOKEN_CHARACTERS)
    except OSError as error:
        reason = error.strerror or error
        raise InvalidOption(f"cannot read {_named(path)}: {reason}") from error
    if sys.platform != "win32" and mode & _OTHERS:
        raise InvalidOption(
            f"{_named(path)} can be read or written by other users (mode "
            f"{stat.S_IMODE(mode):04o}); make it yours alone: chmod 600 {str(path)!a}"
        )
    return content.decode("ascii", errors="replace")


def _named(path: Path) -> str:
    return f"token file {str(path)!a}"
