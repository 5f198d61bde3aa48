"""Exit codes, and which of our errors ends with which."""

from __future__ import annotations

from typing import Final

from fastworker.errors import (
    AuthenticationFailed,
    CallerError,
    ClientNotReady,
    ControlPlaneUnavailable,
    FastWorkerError,
    Forbidden,
    InternalError,
    ResultExpired,
    StoreError,
    UnknownJob,
)
from fastworker.logs import escape_controls

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
UNREACHABLE: Final = 3
NOT_FOUND: Final = 4
REFUSED: Final = 5
INTERRUPTED: Final = 130

_CODES: Final[tuple[tuple[type[FastWorkerError], int], ...]] = (
    (ClientNotReady, FAILED),
    (CallerError, USAGE),
    (ControlPlaneUnavailable, UNREACHABLE),
    (UnknownJob, NOT_FOUND),
    (ResultExpired, NOT_FOUND),
    (Forbidden, REFUSED),
    (AuthenticationFailed, REFUSED),
)
"""The first class that fits decides; a store's errors carry their own codes."""


def exit_code(error: Exception) -> int:
    """Return the exit code of one of our errors."""
    if isinstance(error, StoreError):
        return error.exit_code
    return next((code for kind, code in _CODES if isinstance(error, kind)), FAILED)


def describe(error: Exception) -> str:
    """Return the one sentence for the user, safe for a terminal."""
    text = str(error) or type(error).__name__
    if error.__class__ is TimeoutError and not str(error):
        text = "the time-out passed before the job ended; it goes on"
    return escape_controls(text)


def user_error(error: BaseException) -> Exception | None:
    """Return the error to show as a sentence, None if a traceback is due.

    A group counts if everything in it is ours; the one with the most telling code is returned.
    """
    if isinstance(error, BaseExceptionGroup):
        found = [user_error(inner) for inner in error.exceptions]
        ours = [one for one in found if one is not None]
        return max(ours, key=exit_code) if len(ours) == len(found) else None
    if isinstance(error, InternalError):
        return None
    return error if isinstance(error, FastWorkerError | TimeoutError) else None


def stop_code(error: BaseException) -> int | None:
    """Return the exit code of a ``SystemExit`` or ``KeyboardInterrupt`` inside a group.

    That is how a second signal, raised in a nursery, arrives here.
    """
    if isinstance(error, BaseExceptionGroup):
        codes = (stop_code(inner) for inner in error.exceptions)
        return next((code for code in codes if code is not None), None)
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else FAILED
    return None
