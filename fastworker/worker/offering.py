"""What a subworker offers the control plane: which tasks, and room for how many of their jobs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fastworker.core.records import PROCESS_POOL
from fastworker.wire.messages import Capacity, Message, Offered, RunnerReady
from fastworker.worker.held import HeldJobs

SENT_AHEAD_JOBS: Final = 2000
"""Jobs taken beyond the slots, for each runner, while they are so short that this many end within
a round trip; of longer ones the control plane sends fewer. They wait here, where a more urgent
job overtakes them; what no longer can be overtaken so cheaply, a runner's window, is far less."""


class Offering:
    """The tasks of the code that came up last, and the slots of the runners that are ready.

    Args:
        tell: sends to the control plane.
    """

    def __init__(self, held: HeldJobs, tell: Callable[[Message], None]) -> None:
        self._held = held
        self._tell = tell
        self._announced: tuple[list[int], list[int]] | None = None
        self.closed = False
        """No more jobs are taken."""
        self.tasks: list[list[object]] = []
        """Rows of `Register`."""
        self.withheld: dict[str, object] | None = None
        """The same of `Register.withheld`."""
        self.dropped: set[object] = set()
        """Tasks that were offered, and no longer are since the code has changed."""

    def link_up(self) -> None:
        """A control plane that has not been told anything but what `Register` says."""
        self._announced = None
        self.announce()

    def change_tasks(self, ready: RunnerReady) -> bool:
        """Offer the tasks of a runner that has come up; False if they are as before."""
        tasks = [list(row) for row in ready.tasks]
        if (tasks, ready.withheld) == (self.tasks, self.withheld):
            return False
        # Jobs of these may still be on their way.
        self.dropped |= {row[0] for row in self.tasks}
        self.dropped -= {row[0] for row in tasks}
        self.tasks, self.withheld = tasks, ready.withheld
        self._tell(Offered(tasks=tasks, withheld=ready.withheld))
        return True

    def announce(self) -> None:
        """Tell the control plane how much room there is, if that is news."""
        slots, prefetch = pools = self.pools()
        if pools != self._announced:
            self._announced = pools
            self._tell(Capacity(pools=slots, prefetch=prefetch))

    def pools(self) -> tuple[list[int], list[int]]:
        """Slots, and jobs taken beyond them, by pool; all zero once it is closed."""
        slots = self._held.slots()
        ahead = SENT_AHEAD_JOBS * len(self._held.runners)
        prefetch = [ahead if count else 0 for count in slots]
        if any(pool == PROCESS_POOL for _, pool, _ in self.tasks):
            processes = self._held.processes.slots()
            slots.append(processes)
            prefetch.append(processes)
        if self.closed:
            return [0] * len(slots), [0] * len(slots)
        return slots, prefetch
