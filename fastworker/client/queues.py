"""Queues and tenants as a client sees them: what waits, and whether queues are paused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fastworker.client.base import ClientBase
from fastworker.client.moments import moment
from fastworker.client.tenants import TenantState, tenant_state
from fastworker.core.names import check_name
from fastworker.core.records import DEFAULT_TENANT, TaskPriority
from fastworker.errors import ProtocolError
from fastworker.wire.messages import Manage


@dataclass(frozen=True, slots=True)
class QueueState:
    """A queue that has been used, or is paused.

    Args:
        queue: its name.
        queued: about how many of its jobs are ready and wait.
        by_priority: the same, for each priority.
        paused: whether it hands out nothing.
        oldest_at: when the first in line was submitted; None if nothing waits, or it is not
            known without asking the store.
        tenant: whose jobs; a token of one tenant sees its own.
    """

    queue: str
    queued: int
    by_priority: dict[TaskPriority, int]
    paused: bool
    oldest_at: datetime | None
    tenant: str = DEFAULT_TENANT


class QueueCalls(ClientBase):
    """The part of `Client` that is about queues and tenants."""

    async def queues(self) -> list[QueueState]:
        """The queues, by name, with the jobs of each tenant that the client's token sees.

        Raises:
            ControlPlaneUnavailable: nobody answered within ``submit_timeout``.
        """
        rows = (await self._query("queues")).get("queues")
        if not isinstance(rows, list):
            raise ProtocolError("the report has no list of queues")
        return [_state(row) for row in rows]

    async def tenants(self) -> list[TenantState]:
        """What tenants use and may use, by name: all of them with an administrator's token, else
        the token's own.

        Raises:
            ControlPlaneUnavailable: nobody answered within ``submit_timeout``.
        """
        rows = (await self._query("tenants")).get("tenants")
        if not isinstance(rows, list):
            raise ProtocolError("the report has no list of tenants")
        return [tenant_state(row) for row in rows]

    async def pause(self, queue: str, *, tenant: str | None = None) -> None:
        """Let a queue hand out nothing; it goes on accepting, and jobs handed out go on.

        Stored: it outlasts restarts. A second call does nothing.

        Args:
            tenant: nothing of this tenant's only; None: of nobody's.

        Raises:
            InvalidName: no queue can be called that.
            ControlPlaneUnavailable: nobody answered within ``submit_timeout``.
        """
        await self._set_pause("pause", queue, tenant)

    async def resume(self, queue: str, *, tenant: str | None = None) -> None:
        """Let a paused queue hand out again; one that is not paused stays as it is.

        Args:
            tenant: end what was paused for this tenant only; None: all that was paused.

        Raises:
            InvalidName: no queue can be called that.
            ControlPlaneUnavailable: nobody answered within ``submit_timeout``.
        """
        await self._set_pause("resume", queue, tenant)

    async def _set_pause(self, what: str, queue: str, tenant: str | None) -> None:
        options = {"queue": check_name("queue", queue)}
        if tenant is not None:
            options["tenant"] = check_name("tenant", tenant)
        await self._ask_report(lambda number: Manage(number, what, options))


def _state(row: Mapping[str, Any]) -> QueueState:
    try:
        return QueueState(
            queue=str(row["queue"]),
            queued=int(row["queued"]),
            by_priority=dict(zip(TaskPriority, map(int, row["priorities"]), strict=True)),
            paused=row.get("paused") is True,
            oldest_at=moment(row.get("oldest_at")),
            tenant=str(row.get("tenant", DEFAULT_TENANT)),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ProtocolError(f"the report of a queue cannot be read: {error!r}") from error
