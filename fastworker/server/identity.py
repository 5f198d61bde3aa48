"""Who a connection speaks for: from its token or certificate, never from what it says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from fastworker.core.records import ALL_TENANTS, DEFAULT_TENANT
from fastworker.errors import Forbidden


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

    def in_job(self, tenant: str | None = None) -> Identity:
        """For whom the code of a job speaks that a subworker with this identity runs: it may
        submit, on a lease's authority, and sees that one tenant's jobs.

        Args:
            tenant: of the job; None: no lease has been shown yet.
        """
        return replace(self, tenant=tenant or self.submits_as, roles=frozenset({Role.SUBMIT}))

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

    def check_connects_as(self, role: str) -> None:
        """See that it may connect as a ``client`` or ``subworker``.

        Raises:
            Forbidden: its token is for something else.
        """
        if role == "subworker" and not self.may_work:
            raise Forbidden(f"{self.described}; a subworker needs a token with the role worker")
        if role == "client" and not self.may_read:
            raise Forbidden(
                f"{self.described}; a client needs a token with the role submit, read or admin"
            )

    @property
    def described(self) -> str:
        """The token and its roles, for the sentence of a refusal."""
        words = ", ".join(sorted(self.roles))
        return f"the token {self.token_id!a:.80} has the role{'s' * (len(self.roles) > 1)} {words}"
