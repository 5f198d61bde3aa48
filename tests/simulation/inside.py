"""The client inside jobs: on the channel of their runner, as it is in a real one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastworker.client.ambient import set_transport_opener
from fastworker.client.client import Client
from fastworker.runner.ambient import RelayedTransport, Relays
from fastworker.runner.service import RunnerService
from tests.simulation.ledgers import RunnerPlace
from tests.simulation.submitting import submit_child

if TYPE_CHECKING:
    from tests.simulation.world import World


class Inside:
    """The client that the jobs of one runner share, started by the first that uses it."""

    def __init__(self, world: World, place: RunnerPlace, service: RunnerService) -> None:
        self.relays = Relays(service)
        self._world = world
        self._place = place
        self._client: Client | None = None

    async def submit_children(self, key: str, moment: str) -> None:
        """What this job is to submit at this moment."""
        parent = next(entry for entry in self._world.entries if entry.key == key)
        for child in parent.children:
            if child.moment == moment and self._place.alive:
                self._world.record.count("child submitted again", child.state != "intent")
                self._world.record.count("child submitted at the end", moment == "last")
                await submit_child(self._world, self._started(), child)

    def close(self) -> None:
        """The process has ended."""
        self.relays.end_all()
        if self._client is not None:
            self._client.stop()

    def _started(self) -> Client:
        if self._client is None:
            self._client = Client(submit_timeout=10.0)
            # It keeps what it finds when it starts; the clients of applications must not find it.
            set_transport_opener(self._open)
            try:
                self._client._start_nowait(announce=False)
            finally:
                set_transport_opener(None)
        return self._client

    async def _open(self) -> RelayedTransport:
        if not self._place.alive:
            raise ConnectionError("simulated: this process is dead")
        return await self.relays.open()
