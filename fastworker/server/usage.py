"""What each tenant uses of what it may use: for reports. Nothing is asked of the store."""

from __future__ import annotations

import dataclasses

from fastworker.core.records import ALL_TENANTS, DEFAULT_TENANT
from fastworker.server.plane import Plane
from fastworker.wire.fields import OptionMap


def tenant_maps(plane: Plane, sees: str | None) -> list[OptionMap]:
    """One map a tenant: what waits, what is connected, its limits; those that are None left out.

    Args:
        sees: the only tenant to tell of; None: the default one, and all that are named in the
            settings, are connected, or have had jobs waiting.
    """
    memory = plane.dispatcher.memory
    if sees is None:
        tenants = memory.tenants.by_name.keys() | memory.backlogs.by_tenant.keys()
        tenants |= plane.connections.by_tenant.keys() | {DEFAULT_TENANT}
        names = sorted(tenants - {ALL_TENANTS})
    else:
        names = [sees]
    return [_tenant_map(plane, name) for name in names]


def _tenant_map(plane: Plane, tenant: str) -> OptionMap:
    memory = plane.dispatcher.memory
    backlog = memory.backlogs.of(tenant)
    limits = dataclasses.asdict(memory.tenants.limits(tenant))
    return {
        "tenant": tenant,
        "queued": backlog.jobs,
        "queued_bytes": backlog.size,
        "connections": plane.connections.by_tenant[tenant],
        **{name: value for name, value in limits.items() if value is not None},
    }
