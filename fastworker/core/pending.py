"""A cancel that waits for a running job to end."""

from __future__ import annotations

from dataclasses import dataclass, field

from fastworker.core.facts import CancelRequest


@dataclass(slots=True)
class PendingCancel:
    """A cancel of a leased job, until that has ended: it is never started again."""

    reason: str
    grace: float | None
    """Seconds that its code has to unwind; None: as the job's options say, or its task."""
    waiting: list[tuple[CancelRequest, int]] = field(default_factory=list)
