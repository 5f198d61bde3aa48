"""Fair shares: whose turn it is among the tenants that wait at one priority.

Each job that is handed out moves its tenant's *virtual time* on by one job divided by the tenant's
weight, and the tenant that is furthest behind is next. The clock of all stands where the last job
was handed out; who is behind it, because he did not wait or could not be served, is taken to be
there: nobody saves up. What is counted is the hand-out: jobs sent ahead count, and those that
come back count again. Nothing of this is stored: after a restart all begin alike.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

ONE_JOB: Final = 720_720 * 1_000_000
"""Virtual time of a job at weight 1: a multiple of all small weights, so that shares are exact."""

FORGET_BEYOND: Final = 64
"""More entries than that are looked through for tenants that the clock has passed."""


class Shares:
    """Virtual time at one priority. Only `ShareDraft.apply` changes it."""

    __slots__ = ("clock", "ends", "forget_at")

    def __init__(self) -> None:
        self.clock = 0
        self.ends: dict[str, int] = {}
        """Where each tenant's last job ended, at least of those that are ahead of the clock."""
        self.forget_at = FORGET_BEYOND


class ShareDraft:
    """What one turn of the loop wants to do to shares: memory follows only when it is stored."""

    __slots__ = ("_shares", "clock", "ends")

    def __init__(self, shares: Shares) -> None:
        self._shares = shares
        self.clock = shares.clock
        self.ends: dict[str, int] = {}

    def turn_of(self, tenant: str) -> tuple[int, int]:
        """What tenants are compared by: who has the least is next.

        Of those that the clock has passed, the one that was served longest ago is next: otherwise
        tenants whose subworkers are slower than those of others could starve each other.
        """
        end = self.ends.get(tenant)
        if end is None:
            end = self._shares.ends.get(tenant, 0)
        return max(end, self.clock), end

    def charge(self, tenant: str, jobs: int, weight: int) -> tuple[int, int]:
        """Count jobs that were handed out one after another; the tenant's next turn."""
        each = max(1, ONE_JOB // max(1, weight))
        begin, _ = self.turn_of(tenant)
        end = self.ends[tenant] = begin + jobs * each
        self.clock = end - each
        return end, end

    def apply(self, waiting: Collection[str]) -> None:
        """Make it so.

        Args:
            waiting: tenants that still wait: of them, the end is kept in any case. While nobody
                does, everybody has all he asked for: they begin alike again.
        """
        shares = self._shares
        if not waiting:
            shares.clock = 0
            shares.ends = {}
            return
        shares.clock = self.clock
        shares.ends.update(self.ends)
        if len(shares.ends) > shares.forget_at:
            shares.ends = {
                tenant: end
                for tenant, end in shares.ends.items()
                if end > self.clock or tenant in waiting
            }
            shares.forget_at = FORGET_BEYOND + 2 * len(shares.ends)
