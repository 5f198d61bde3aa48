"""What each tenant may use: its share while others wait, and its quotas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fastworker.core.records import ALL_TENANTS


@dataclass(frozen=True, slots=True)
class TenantLimits:
    """The limits of one tenant; None: no limit of its own.

    Args:
        weight: how many jobs it is handed for each one of a tenant of weight 1, at one priority,
            while both wait.
        max_queued_jobs, max_queued_bytes: of accepted jobs that have not been handed out, the
            bytes being those of their arguments.
        max_connections: clients and subworkers connected at once.
        max_submissions_per_second: jobs, with a burst of as many.
    """

    weight: int = 1
    max_queued_jobs: int | None = None
    max_queued_bytes: int | None = None
    max_connections: int | None = None
    max_submissions_per_second: float | None = None


@dataclass(frozen=True, slots=True)
class Tenants:
    """The limits of all tenants; those of ``*`` hold for each one that has none of its own."""

    by_name: Mapping[str, TenantLimits] = field(default_factory=dict)

    def limits(self, tenant: str) -> TenantLimits:
        """The limits of one tenant."""
        found = self.by_name.get(tenant)
        return self.by_name.get(ALL_TENANTS, _NO_LIMITS) if found is None else found


_NO_LIMITS = TenantLimits()
