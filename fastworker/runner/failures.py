"""An exception as text that can always travel, however hostile the exception is."""

from __future__ import annotations

import traceback
from types import TracebackType

from fastworker.core.records import Failure

MAX_MESSAGE_BYTES = 8 * 1024
MAX_TRACEBACK_BYTES = 64 * 1024
MAX_TYPE_NAME = 1000

_CUT = "\n… cut …\n"


def failure_from(error: BaseException, *, advice: str = "") -> Failure:
    """Type name, message and traceback of what user code raised.

    Args:
        advice: a sentence to put behind the message.
    """
    message = _shortened(_message(error), MAX_MESSAGE_BYTES)
    if advice:
        message = f"{message}; {advice}" if message else advice
    text = _shortened(_traceback(error), MAX_TRACEBACK_BYTES)
    return Failure(type_name(error), message, text, "")


def failure_said(name: str, message: str, *, reason: str = "") -> Failure:
    """A failure that is ours to tell: no traceback would help the reader."""
    return Failure(name, _shortened(message, MAX_MESSAGE_BYTES), "", reason)


def type_name(error: BaseException) -> str:
    """``ValueError`` for builtins, ``package.module.Name`` for all others."""
    kind = type(error)
    # A class body may assign anything to its __module__.
    module, name = str(kind.__module__), kind.__qualname__
    return _short_name(name if module == "builtins" else f"{module}.{name}")


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as another:  # the user's __str__ is user code
        return f"<no message: its __str__ raised {type_name(another)}>"


def _traceback(error: BaseException) -> str:
    try:
        user_code = _without_our_frames(error.__traceback__)
        lines = traceback.TracebackException(type(error), error, user_code, compact=True)
        return "".join(lines.format())
    except BaseException as another:  # __notes__, __cause__ and __repr__ are user code too
        return f"<no traceback: formatting it raised {type_name(another)}>"


def _without_our_frames(frames: TracebackType | None) -> TracebackType | None:
    while frames is not None and frames.tb_frame.f_globals.get("__name__", "").startswith(
        "fastworker.runner."
    ):
        frames = frames.tb_next
    return frames


def _short_name(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")[:MAX_TYPE_NAME]


def _shortened(text: str, limit_bytes: int) -> str:
    """At most so many bytes of UTF-8; a cut keeps a quarter in front and the end, which tells
    more."""
    data = text.encode("utf-8", "backslashreplace")
    if len(data) <= limit_bytes:
        return data.decode("utf-8")
    room = limit_bytes - len(_CUT.encode("utf-8"))
    head, tail = data[: room // 4], data[-(room - room // 4) :]
    return head.decode("utf-8", "ignore") + _CUT + tail.decode("utf-8", "ignore")
