"""``queues list``, ``pause`` and ``resume``."""

from __future__ import annotations

from typing import Annotated

import typer

from fastworker.cli.flags import CONNECTION, AsJson, with_settings
from fastworker.cli.output import say, show, show_json, show_table
from fastworker.config import Resolved
from fastworker.core.names import check_name
from fastworker.core.records import DEFAULT_TENANT

QueueName = Annotated[str, typer.Argument(metavar="NAME", help="the queue", show_default=False)]

TenantName = Annotated[
    str | None, typer.Option("--tenant", metavar="NAME", help="only this tenant's jobs")
]


@with_settings(*CONNECTION)
def list_queues(resolved: Resolved, as_json: AsJson = False) -> None:
    """List queues: what waits, since when, what is paused."""
    from fastworker.cli.connecting import connected_client

    with connected_client(resolved.settings) as client:
        found = client.queues()
    if as_json:
        show_json(found)
    elif not found:
        say("no queue has been used")
    else:
        several = any(one.tenant != DEFAULT_TENANT for one in found)
        rows = [
            (
                one.queue,
                *((one.tenant,) if several else ()),
                one.queued,
                "paused" if one.paused else "open",
                None if one.oldest_at is None else f"{one.oldest_at:%Y-%m-%d %H:%M:%SZ}",
            )
            for one in found
        ]
        tenant = ("tenant",) if several else ()
        show_table(("queue", *tenant, "queued", "state", "oldest"), rows)


@with_settings(*CONNECTION)
def pause(
    resolved: Resolved, queue: QueueName, tenant: TenantName = None, as_json: AsJson = False
) -> None:
    """Hand out nothing of a queue; it goes on accepting."""
    check_name("queue", queue)
    from fastworker.cli.connecting import connected_client

    with connected_client(resolved.settings) as client:
        client.pause(queue, tenant=tenant)
    show_json({"queue": queue, "paused": True}) if as_json else show(
        f"{_which(queue, tenant)} is paused"
    )


@with_settings(*CONNECTION)
def resume(
    resolved: Resolved, queue: QueueName, tenant: TenantName = None, as_json: AsJson = False
) -> None:
    """Let a paused queue go on."""
    check_name("queue", queue)
    from fastworker.cli.connecting import connected_client

    with connected_client(resolved.settings) as client:
        client.resume(queue, tenant=tenant)
    show_json({"queue": queue, "paused": False}) if as_json else show(
        f"{_which(queue, tenant)} goes on"
    )


def _which(queue: str, tenant: str | None) -> str:
    return queue if tenant is None else f"{queue} of {tenant}"
