"""Every authenticated connection: who it speaks for, how many there may be, how to end it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import trio

from fastworker.core.records import ALL_TENANTS
from fastworker.core.tenants import Tenants
from fastworker.errors import FastWorkerError, Overloaded
from fastworker.server.identity import Identity

FULL_RETRY_SECONDS: Final = 1.0
"""What a refused peer is told: connections come and go."""


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
    """Those that stand now.

    Args:
        tenants: how many connections a tenant may have. Whoever is bound to none is not counted.
    """

    def __init__(self, tenants: Tenants) -> None:
        self._tenants = tenants
        self._open: set[Connection] = set()
        self.by_tenant: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._open)

    @contextmanager
    def standing(self, connection: Connection) -> Iterator[None]:
        """Count it for the length of the block.

        Raises:
            Overloaded: its tenant has as many as it may have.
        """
        tenant = connection.identity.tenant
        most = self._tenants.limits(tenant).max_connections
        if tenant != ALL_TENANTS and most is not None and self.by_tenant[tenant] >= most:
            raise Overloaded(
                f"tenant {tenant!r} has {self.by_tenant[tenant]} connections and may have {most}; "
                "close some, or have its max-connections raised (--tenants)",
                retry_after=FULL_RETRY_SECONDS,
            )
        self._open.add(connection)
        self.by_tenant[tenant] += 1
        try:
            yield
        finally:
            self._open.discard(connection)
            self.by_tenant[tenant] -= 1
            if not self.by_tenant[tenant]:
                del self.by_tenant[tenant]

    def end_those(
        self, unwanted: Callable[[Identity], bool], why: Callable[[], FastWorkerError]
    ) -> int:
        """End the connections of these identities; returns how many there were."""
        gone = [connection for connection in self._open if unwanted(connection.identity)]
        for connection in gone:
            connection.end(why())
        return len(gone)
