"""The report of callbacks that have not been taken."""

from __future__ import annotations

from typing import Final

from fastworker.core.records import CallbackRow
from fastworker.errors import InvalidOption
from fastworker.server.callbacks import shown_address
from fastworker.server.criteria import named_tenant
from fastworker.server.plane import Plane
from fastworker.store.contract import CallbackFilter
from fastworker.wire.fields import OptionMap

MAX_CALLBACKS_PER_REPORT: Final = 1000


async def callback_maps(plane: Plane, options: OptionMap, sees: str | None) -> list[OptionMap]:
    """Those that wait or are given up, newest first.

    Raises:
        InvalidOption: an option that it does not have.
    """
    limit, given_up = options.get("limit", 100), options.get("given_up")
    if type(limit) is not int or not 1 <= limit <= MAX_CALLBACKS_PER_REPORT:
        raise InvalidOption(f"limit is {limit!r:.40}; expected 1 to {MAX_CALLBACKS_PER_REPORT}")
    if given_up is not None and type(given_up) is not bool:
        raise InvalidOption(f"given_up is {given_up!r:.40}; expected true or false")
    criteria = CallbackFilter(named_tenant(options, sees), given_up, limit)
    return [_callback_map(row) for row in await plane.store.callbacks(criteria)]


def _callback_map(row: CallbackRow) -> OptionMap:
    found: OptionMap = {
        "id": row.job_id,
        "address": shown_address(row.address),
        "tenant": row.tenant,
        "made_at": row.made_at,
        "attempts": row.attempts,
    }
    if row.problem:
        found["problem"] = row.problem
    if row.given_up_at is None:
        found["next_attempt_at"] = row.next_attempt_at
    else:
        found["given_up_at"] = row.given_up_at
    return found
