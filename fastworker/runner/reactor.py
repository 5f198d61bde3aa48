"""What the runner's service asks of the event loop in the main thread, whichever it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

from fastworker.runner.assignment import Assignment
from fastworker.runner.attempt import Ending

Start: TypeAlias = Callable[[Assignment], None]
"""Starts an attempt; never waits."""

Finish: TypeAlias = Callable[[Assignment, Ending], None]
"""Takes the ending of an attempt."""


class Reactor(Protocol):
    """Calls functions in the main thread. A function that raises ends the runner."""

    def soon(self, function: Callable[[], None]) -> None:
        """Call it in the next turn of the loop. Main thread only."""
        ...

    def post(self, function: Callable[[], None]) -> None:
        """Call it in the main thread soon. Any thread."""
        ...

    def later(self, seconds: float, function: Callable[[], None]) -> None:
        """Call it once after that time. Main thread only."""
        ...

    def watch_writable(self, on_writable: Callable[[], None] | None) -> None:
        """Call it whenever the data channel has room; None: no longer. Main thread only."""
        ...

    def stop(self) -> None:
        """End the loop; a second call does nothing. Main thread only."""
        ...
