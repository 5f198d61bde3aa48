"""``callbacks``: deliveries that have not been taken."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from fastworker.cli.flags import CONNECTION, AsJson, with_settings
from fastworker.cli.output import say, show_json, show_table
from fastworker.config import Resolved

_COLUMNS = ("task_id", "address", "tenant", "attempts", "problem", "next_attempt", "given_up")


@with_settings(*CONNECTION)
def list_callbacks(
    resolved: Resolved,
    given_up: Annotated[bool, typer.Option("--given-up", help="only those given up")] = False,
    limit: Annotated[
        int, typer.Option(metavar="NUMBER", help="at most so many", min=1, max=1000)
    ] = 100,
    as_json: AsJson = False,
) -> None:
    """List callbacks not delivered yet, or given up."""
    from fastworker.cli.connecting import connected_client

    with connected_client(resolved.settings) as client:
        found = client.callback_deliveries(given_up=given_up or None, limit=limit)
    if as_json:
        show_json(found)
    elif not found:
        say("every callback has been delivered")
    else:
        rows = [
            (
                *(one.task_id, one.address, one.tenant, one.attempts, one.problem),
                _moment(one.next_attempt_at),
                _moment(one.given_up_at),
            )
            for one in found
        ]
        show_table(_COLUMNS, rows)


def _moment(at: datetime | None) -> str | None:
    return None if at is None else f"{at:%Y-%m-%d %H:%M:%SZ}"
