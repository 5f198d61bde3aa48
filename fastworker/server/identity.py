"""Who a connection speaks for: from its token or certificate, never from what it says."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from fastworker.core.records import ALL_TENANTS, DEFAULT_TENANT


class Role(StrEnum):
    """What the holder of a token may do. One token may have several roles."""

    SUBMIT = "submit"
    """Submit, cancel and replay its tenant's jobs, and read them."""
    READ = "read"
    """See its tenant's jobs, results, logs and stacks."""
    WORKER = "worker"
    """Connect as a subworker: run its tenant's jobs and see their arguments."""
    ADMIN = "admin"
    """All of it, in every tenant, and what concerns everybody: queues, dead letters."""


EVERY_ROLE: Final = frozenset(Role)


@dataclass(frozen=True, slots=True)
class Identity:
    """The holder of one token.

    Args:
        token_id: the public part of the token.
        tenant: whose jobs these are; ``*`` (every tenant) for workers and administrators only.
        roles: what it may do.
        expires_at: wall seconds; None: never.
    """

    token_id: str
    tenant: str = DEFAULT_TENANT
    roles: frozenset[Role] = EVERY_ROLE
    expires_at: float | None = None

    @property
    def submits_as(self) -> str:
        """The tenant of the jobs it submits."""
        return DEFAULT_TENANT if self.tenant == ALL_TENANTS else self.tenant

    @property
    def sees(self) -> str | None:
        """The tenant whose jobs it may see and change; None: every tenant's."""
        if self.tenant == ALL_TENANTS or Role.ADMIN in self.roles:
            return None
        return self.tenant

    @property
    def may_submit(self) -> bool:
        """Whether it may submit, cancel and replay jobs."""
        return Role.SUBMIT in self.roles or Role.ADMIN in self.roles

    @property
    def may_read(self) -> bool:
        """Whether it may see jobs."""
        return Role.READ in self.roles or self.may_submit

    @property
    def may_work(self) -> bool:
        """Whether it may connect as a subworker."""
        return Role.WORKER in self.roles or Role.ADMIN in self.roles

    @property
    def may_administer(self) -> bool:
        """Whether it may change what concerns everybody."""
        return Role.ADMIN in self.roles
