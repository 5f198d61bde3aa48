"""``tenants``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastworker.cli.flags import CONNECTION, AsJson, with_settings
from fastworker.cli.output import show_json, show_table
from fastworker.config import Resolved

if TYPE_CHECKING:
    from fastworker.client.tenants import TenantState


@with_settings(*CONNECTION)
def tenants(resolved: Resolved, as_json: AsJson = False) -> None:
    """List tenants: what they use, and what they may use."""
    from fastworker.cli.connecting import connected_client

    with connected_client(resolved.settings) as client:
        found = client.tenants()
    if as_json:
        show_json(found)
    else:
        headers = ("tenant", "queued", "bytes", "connections", "jobs/s", "weight")
        show_table(headers, [_cells(one) for one in found])


def _cells(one: TenantState) -> tuple[object, ...]:
    rate = one.max_submissions_per_second
    return (
        one.tenant,
        _used(one.queued, one.max_queued_jobs),
        _used(one.queued_bytes, one.max_queued_bytes),
        _used(one.connections, one.max_connections),
        None if rate is None else f"{rate:g}",
        one.weight,
    )


def _used(count: int, most: int | None) -> str:
    return str(count) if most is None else f"{count} of {most}"
