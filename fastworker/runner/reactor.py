"""What the runner's service asks of the event loop in the main thread, whichever it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from fastworker.runner.assignment import Assignment
from fastworker.runner.attempt import Ending
from fastworker.tasks.lifespans import Lifespan

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


@dataclass(frozen=True, slots=True)
class Wired:
    """What the loop in the main thread is to do with a service.

    Args:
        lifespans: entered before anything else.
        announce: called once they are.
        on_readable: called from then on whenever the channel has bytes.
        leave: called when the service has stopped and they have been left.
        failure: why none of this can be, in a sentence.
    """

    lifespans: Sequence[Lifespan[Any]]
    announce: Callable[[], None]
    on_readable: Callable[[], None]
    leave: Callable[[], None]
    failure: str | None = None


WireUp: TypeAlias = Callable[[Reactor, Callable[[Finish], Start]], Wired]
"""Gets the reactor and a maker of starters for its loop."""
