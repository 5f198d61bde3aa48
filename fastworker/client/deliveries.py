"""Callbacks that have not been taken yet, as a client sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fastworker.client.base import ClientBase
from fastworker.client.moments import moment
from fastworker.core.ids import id_text
from fastworker.errors import ProtocolError


@dataclass(frozen=True, slots=True)
class CallbackDelivery:
    """A callback that waits to be delivered, or that was given up. Times are aware UTC.

    Args:
        task_id: the job that has ended.
        address: whom it is for; of a webhook, without path and query.
        tenant: whose job it is.
        made_at: when the job ended.
        attempts: how often it was tried.
        problem: what was wrong the last time, such as ``no answer``; None: not tried yet.
        next_attempt_at: None once it is given up.
        given_up_at: None while it is tried.
    """

    task_id: str
    address: str
    tenant: str
    made_at: datetime
    attempts: int
    problem: str | None
    next_attempt_at: datetime | None
    given_up_at: datetime | None


class DeliveryCalls(ClientBase):
    """The part of `Client` that is about deliveries."""

    async def callback_deliveries(
        self, *, given_up: bool | None = None, limit: int = 100
    ) -> list[CallbackDelivery]:
        """Callbacks that have not been taken, newest first.

        Args:
            given_up: only those that are given up, or only those that are not; None: both.
            limit: at most so many, up to 1,000.

        Raises:
            InvalidOption: a limit that cannot be one.
            ControlPlaneUnavailable: nobody answered within ``submit_timeout``.
        """
        options: dict[str, Any] = {"limit": limit}
        if given_up is not None:
            options["given_up"] = given_up
        rows = (await self._query("callbacks", options)).get("callbacks")
        if not isinstance(rows, list):
            raise ProtocolError("the report has no list of callbacks")
        return [_delivery(row) for row in rows]


def _delivery(row: Mapping[str, Any]) -> CallbackDelivery:
    try:
        made_at = moment(float(row["made_at"]))
        assert made_at is not None
        return CallbackDelivery(
            task_id=id_text(row["id"]),
            address=str(row["address"]),
            tenant=str(row["tenant"]),
            made_at=made_at,
            attempts=int(row["attempts"]),
            problem=row.get("problem"),
            next_attempt_at=moment(row.get("next_attempt_at")),
            given_up_at=moment(row.get("given_up_at")),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ProtocolError(f"the report of a callback cannot be read: {error!r}") from error
