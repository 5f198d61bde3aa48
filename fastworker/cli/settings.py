"""``fastworker config show``."""

from __future__ import annotations

from typing import Annotated

import typer

from fastworker.cli.flags import AsJson, with_settings
from fastworker.cli.output import plain, show_json, show_table
from fastworker.config import Resolved, configured_token
from fastworker.config.settings import OPTIONS
from fastworker.config.tenants import tenants_map
from fastworker.core.tenants import Tenants


@with_settings(*(name for name, option in OPTIONS.items() if option.has_flag))
def show_settings(
    resolved: Resolved,
    origin: Annotated[bool, typer.Option("--origin", help="also where each came from")] = False,
    as_json: AsJson = False,
) -> None:
    """Print every setting in force; the token only as set or not set."""
    configured_token(resolved.settings)  # say now what is wrong with it, not at the next start
    values = {name: _shown(resolved, name) for name in OPTIONS}
    if as_json:
        show_json(
            {
                name: {"value": value, "origin": resolved.origins[name]}
                for name, value in values.items()
            }
            if origin
            else values
        )
        return
    headers = ["setting", "value", "origin"] if origin else ["setting", "value"]
    rows = [[name, value, resolved.origins[name]][: len(headers)] for name, value in values.items()]
    show_table(headers, rows)


def _shown(resolved: Resolved, name: str) -> object:
    value = getattr(resolved.settings, name)
    if name == "token":
        return "not set" if value is None else "set"
    if isinstance(value, Tenants):
        return tenants_map(value) or None
    return None if value == () else plain(value)
