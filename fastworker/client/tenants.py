"""Tenants as a client sees them: what they use, and what they may use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastworker.errors import ProtocolError


@dataclass(frozen=True, slots=True)
class TenantState:
    """What a tenant uses now, and its limits; a limit that is None is not set.

    Args:
        tenant: its name.
        queued: its jobs that wait: accepted and not handed out, scheduled and retried ones too.
        queued_bytes: bytes of their arguments.
        connections: clients and subworkers that are connected with its tokens.
        weight: its share while others wait, too.
        max_queued_jobs, max_queued_bytes, max_connections: the most there may be of each.
        max_submissions_per_second: jobs.
    """

    tenant: str
    queued: int
    queued_bytes: int
    connections: int
    weight: int
    max_queued_jobs: int | None
    max_queued_bytes: int | None
    max_connections: int | None
    max_submissions_per_second: float | None


def tenant_state(row: Mapping[str, Any]) -> TenantState:
    """Read one row of the report.

    Raises:
        ProtocolError: it cannot be one.
    """
    try:
        rate = row.get("max_submissions_per_second")
        return TenantState(
            tenant=str(row["tenant"]),
            queued=int(row["queued"]),
            queued_bytes=int(row["queued_bytes"]),
            connections=int(row["connections"]),
            weight=int(row["weight"]),
            max_queued_jobs=_whole(row, "max_queued_jobs"),
            max_queued_bytes=_whole(row, "max_queued_bytes"),
            max_connections=_whole(row, "max_connections"),
            max_submissions_per_second=None if rate is None else float(rate),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ProtocolError(f"the report of a tenant cannot be read: {error!r}") from error


def _whole(row: Mapping[str, Any], name: str) -> int | None:
    value = row.get(name)
    return None if value is None else int(value)
