"""What a test may choose about the control plane and the subworker it runs with."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from fastworker.errors import InvalidOption

LEASE: Final = timedelta(hours=1)
"""Heartbeats three times as often are what a virtual clock has to stop at: the 15 seconds of
production make a virtual hour take a second, these make it a few milliseconds."""


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """How an in-process cluster is set up.

    Args:
        task_modules: imported before the start; tasks that are registered already are served too.
        concurrency: async jobs at once. 1 makes the order of jobs visible.
        threads: sync jobs at once; in a Trio test they run one after another all the same.
        starts_at: the time of day at the start (an aware datetime); None: the real one.
        lease: how long a subworker that is not heard of keeps its jobs; 15 seconds in production.

    Raises:
        InvalidOption: a value an option cannot have; the option is named.
    """

    task_modules: tuple[str, ...] = ()
    concurrency: int = 100
    threads: int = 32
    starts_at: datetime | None = None
    lease: timedelta = LEASE

    def __post_init__(self) -> None:
        if self.concurrency < 1 or self.threads < 1:
            raise InvalidOption("concurrency and threads are at least 1")
        if self.lease <= timedelta(0):
            raise InvalidOption(f"lease is longer than nothing, not {self.lease}")
        if self.starts_at is not None and self.starts_at.utcoffset() is None:
            raise InvalidOption(
                f"starts_at has no time zone: {self.starts_at.isoformat()}; "
                "make it aware, as datetime(2026, 1, 1, tzinfo=UTC) is"
            )
