"""Every authenticated connection: who it speaks for, and how to end it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio

from fastworker.errors import FastWorkerError
from fastworker.server.identity import Identity


@dataclass(slots=True, eq=False)
class Connection:
    """One of them; it is served inside ``scope``."""

    identity: Identity
    host: str | None
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    ended_for: FastWorkerError | None = None
    """Why it is ended from here; its peer is told."""

    def end(self, why: FastWorkerError) -> None:
        """Have it told why, and closed. Returns at once; a second call changes nothing."""
        if self.ended_for is None:
            self.ended_for = why
            self.scope.cancel()


class Connections:
    """Those that stand now."""

    def __init__(self) -> None:
        self._open: set[Connection] = set()

    def __len__(self) -> int:
        return len(self._open)

    @contextmanager
    def standing(self, connection: Connection) -> Iterator[None]:
        """Count it for the length of the block.

        Raises:
            Rejected: there are too many already.
        """
        self._open.add(connection)
        try:
            yield
        finally:
            self._open.discard(connection)

    def end_those(
        self, unwanted: Callable[[Identity], bool], why: Callable[[], FastWorkerError]
    ) -> int:
        """End the connections of these identities; returns how many there were."""
        gone = [connection for connection in self._open if unwanted(connection.identity)]
        for connection in gone:
            connection.end(why())
        return len(gone)
