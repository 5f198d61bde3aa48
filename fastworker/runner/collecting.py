"""Collects what jobs log and print, wherever they do it, without keeping it from its usual way.

A handler of the root logger, and something in front of ``sys.stdout`` and ``sys.stderr``. Both
look at `current_job`: what is said outside of jobs passes by.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any, Final, TextIO

from fastworker.runner.assignment import Assignment
from fastworker.runner.context import current_job
from fastworker.runner.reports import Reports

STDOUT: Final = 1
STDERR: Final = 2


class CollectingHandler(logging.Handler):
    """Gives records to the job that they were made by."""

    def handle(self, record: logging.LogRecord) -> bool:
        """Without the handler's lock: `Reports` has its own."""
        wanted = bool(self.filter(record))
        if wanted:
            self.emit(record)
        return wanted

    def emit(self, record: logging.LogRecord) -> None:
        """Collect one record: its message, and its traceback in lines of its own."""
        speaks = _speaker()
        if speaks is None:
            return
        reports, assignment = speaks
        try:
            text = record.getMessage()
            if record.exc_info and not record.exc_text:
                record.exc_text = _PLAIN.formatException(record.exc_info)
        except Exception:  # the user's arguments do not fit the message, or have no text
            # The other handlers of the root logger say so.
            return
        if record.exc_text:
            text = f"{text}\n{record.exc_text}"
        reports.line(assignment, record.levelno, text)


_PLAIN: Final = logging.Formatter()


class CollectingStream:
    """A text stream that passes everything on, and collects what jobs write.

    Everything but `write` and `writelines` is the stream's own.
    """

    def __init__(self, stream: TextIO, number: int) -> None:
        self._stream = stream
        self._number = number

    def write(self, text: str) -> int:
        """Pass it on, and collect it."""
        written = self._stream.write(text)
        speaks = _speaker()
        if speaks is not None:
            reports, assignment = speaks
            reports.printed(assignment, self._number, text)
        return written

    def writelines(self, lines: Any) -> None:
        """Each of them as `write` does."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _speaker() -> tuple[Reports, Assignment] | None:
    """The job whose code is calling, unless in a forked child, and who collects for it."""
    assignment = current_job.get()
    if assignment is None or assignment.reports is None:
        return None
    reports = assignment.reports
    return (reports, assignment) if os.getpid() == reports.pid else None


def start_collecting() -> None:
    """From now on what jobs of this process say is collected; a second call does nothing.

    To be called when the task modules are loaded: they may set up logging of their own.
    """
    root = logging.getLogger()
    if not any(isinstance(handler, CollectingHandler) for handler in root.handlers):
        root.addHandler(CollectingHandler())
    if sys.stdout is not None and not isinstance(sys.stdout, CollectingStream):
        sys.stdout = CollectingStream(sys.stdout, STDOUT)
    if sys.stderr is not None and not isinstance(sys.stderr, CollectingStream):
        sys.stderr = CollectingStream(sys.stderr, STDERR)


def stop_collecting() -> None:
    """Leave everything as it was before `start_collecting`, but for what others put in front."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, CollectingHandler):
            root.removeHandler(handler)
    if isinstance(sys.stdout, CollectingStream):
        sys.stdout = sys.stdout._stream
    if isinstance(sys.stderr, CollectingStream):
        sys.stderr = sys.stderr._stream
