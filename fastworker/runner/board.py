"""Where a runner notes which jobs have started, for those who come after its death.

Memory shared with the subworker: places of one token each. A job is given a place when it is
about to start, its token is written there by the thread that runs it, right before its first
line, and the place is cleared once the outcome has left for the subworker whole. So a token that
is still there when the runner is dead belongs to a job whose code began; a job that the subworker
still misses and whose token is not there never began. An outcome that was lost on the way counts
as begun, since its place was not cleared.

Beside each token stands the moment of its start, on the clock that both processes share, so that
time limits hold whatever the runner does. It is written first, and means nothing by itself.

Place 0 is for what found no other one. While it is not zero, nothing is known of any job.
"""

from __future__ import annotations

from typing import Final, Protocol

NO_PLACE: Final = 0


class Cells(Protocol):
    """Numbers by place."""

    def __len__(self) -> int: ...

    def __setitem__(self, place: int, token: int, /) -> None: ...


class Moments(Protocol):
    """Seconds of the system's monotonic clock, by place."""

    def __setitem__(self, place: int, moment: float, /) -> None: ...


class Board:
    """Gives out places and takes them back. Main thread only; writing a token needs no lock.

    Args:
        cells: shared with the subworker, or with nobody.
        starts: likewise; not given: nobody asks for them.
    """

    def __init__(self, cells: Cells, starts: Moments | None = None) -> None:
        self.cells = cells
        self.starts: Moments = [0.0] * len(cells) if starts is None else starts
        self._free = list(range(len(cells) - 1, NO_PLACE, -1))
        self._without_place = 0
        self._framed: list[int] = []
        self.ended: list[int] = []
        """Add the places of jobs that have ended, once what is said of them is in the batch."""

    def take(self, now: float) -> int:
        """A place for a job that is about to start."""
        if self._free:
            place = self._free.pop()
            self.starts[place] = now
            return place
        self._without_place += 1
        self.cells[NO_PLACE] = 1
        return NO_PLACE

    def framed(self) -> None:
        """The batch is in a frame; what ends from now on will be in the next one."""
        self._framed += self.ended
        self.ended.clear()

    def sent(self) -> None:
        """All frames have left, whole: the subworker reads them even if we die now."""
        cells, framed = self.cells, self._framed
        if self._without_place:
            self._without_place -= framed.count(NO_PLACE)
            framed = [place for place in framed if place != NO_PLACE]
            if not self._without_place:
                cells[NO_PLACE] = 0
        for place in framed:
            cells[place] = 0
        self._free += framed
        self._framed.clear()
