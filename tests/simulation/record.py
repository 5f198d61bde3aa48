"""What a run leaves behind: its trace, line by line, and how often each rare path was taken."""

from __future__ import annotations

import hashlib
import logging
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import trio

BUGS = re.compile(
    r"\b(InternalError|IllegalTransition|AssertionError|AttributeError|IndexError|KeyError|"
    r"NameError|RuntimeError|TypeError|ValueError|ZeroDivisionError)\b"
)
"""In a line of the log: something broke that no fault explains."""


class Record(logging.Handler):
    """The trace of one run; as a log handler it also takes what the product says."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []
        self.counters: Counter[str] = Counter()
        self.bugs: list[str] = []

    def note(self, what: str, text: str) -> None:
        """Add one line, at the time of the run."""
        self.lines.append(f"{trio.current_time():12.6f} {what:<9} {text}")

    def count(self, path: str, times: int = 1) -> None:
        """A path was taken."""
        if times:
            self.counters[path] += times

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        text = record.getMessage()
        if record.exc_info is not None:
            error = record.exc_info[1]
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            text += f" [{error!r}]"
        self.note("log", f"{record.levelname} {text}")
        if record.exc_info is not None or BUGS.search(text):
            self.bugs.append(f"the log shows a bug: {text}")

    @contextmanager
    def listening(self) -> Iterator[None]:
        """What the product logs meanwhile is told to this record and to nobody else."""
        logger = logging.getLogger("fastworker")
        before = logger.propagate
        logger.addHandler(self)
        logger.propagate = False
        try:
            yield
        finally:
            logger.removeHandler(self)
            logger.propagate = before

    def digest(self) -> str:
        """The whole trace in one word."""
        return hashlib.sha256("\n".join(self.lines).encode()).hexdigest()
