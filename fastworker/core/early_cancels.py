"""Cancels that have overtaken the submission they are about: kept for a while, by tenant."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

EARLY_CANCEL_SECONDS: Final = 60.0
"""How long a cancel waits for the submission it has overtaken."""

EARLY_CANCELS: Final = 10_000
"""How many of them for each tenant; its oldest are forgotten first."""

REASON_CHARACTERS: Final = 500
"""What is kept of why."""


class EarlyCancels:
    """What is to be cancelled as soon as it is submitted. Nobody's cancels concern another tenant,
    or make room at its cost; those of whoever sees everybody's jobs (None) concern all."""

    def __init__(self) -> None:
        self._by_tenant: dict[str | None, OrderedDict[bytes, tuple[float, str]]] = {}

    def __bool__(self) -> bool:
        return bool(self._by_tenant)

    def note(self, tenant: str | None, job_id: bytes, reason: str, *, now: float) -> None:
        """Remember a cancel of a job that is not known (``now``: monotonic seconds)."""
        early = self._by_tenant.setdefault(tenant, OrderedDict())
        early[job_id] = (now + EARLY_CANCEL_SECONDS, reason[:REASON_CHARACTERS])
        while len(early) > EARLY_CANCELS or next(iter(early.values()))[0] < now:
            early.popitem(last=False)

    def reason(self, tenant: str, job_id: bytes, *, now: float) -> str | None:
        """Why a new job of this tenant is cancelled already; None: it is not."""
        for whose in (tenant, None):
            until, reason = self._by_tenant.get(whose, _NONE).get(job_id, _LONG_AGO)
            if until > now:
                return reason
        return None

    def forget(self, job_id: bytes) -> None:
        """The job has come, and was cancelled."""
        for whose, early in list(self._by_tenant.items()):
            early.pop(job_id, None)
            if not early:
                del self._by_tenant[whose]


_NONE: Final[OrderedDict[bytes, tuple[float, str]]] = OrderedDict()
_LONG_AGO: Final = (float("-inf"), "")
