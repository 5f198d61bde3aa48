"""What a runner process gives to clients that are used inside tasks, and a test to all clients.

In a runner there is no control plane to dial: the runner's own channel carries the client
protocol, and the job that is running is the authority for what it submits. The runner sets the
first three hooks below once, before it runs the first job. Everywhere else they stay unset.

A test that runs everything in its own process sets a `StandIn` for the control plane and the
clock that all clients of the process go by.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from fastworker.core.records import DEFAULT_TENANT
from fastworker.wire.addresses import Address


class Transport(Protocol):
    """Carries whole frames to and from the control plane."""

    async def send(self, frame: bytes) -> None:
        """Send one frame; raises `ConnectionError` when the connection has ended."""
        ...

    async def receive(self) -> bytes:
        """The next frame; raises `ConnectionError` when no more will come."""
        ...

    async def aclose(self) -> None:
        """Close; a second call does nothing."""
        ...


TransportOpener: TypeAlias = Callable[[], Awaitable[Transport]]
Lease: TypeAlias = tuple[bytes, int]
"""Id and lease token of a job."""

JobContext: TypeAlias = Callable[[], "Lease | None"]
SecondsLeft: TypeAlias = Callable[[], "float | None"]
WaitHook: TypeAlias = Callable[[], None]


@dataclass(frozen=True, slots=True)
class StandIn:
    """The control plane of clients that are given no address.

    Args:
        address: where it listens, or what to call it.
        open_transport: connects to it; None: over the network.
        check: called by a client that is started; raises if it cannot be used there.
    """

    address: Address
    token: str = field(repr=False)
    open_transport: TransportOpener | None = None
    check: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class Tenancy:
    """Whose jobs a runner runs.

    Args:
        tenant: of the job whose code is calling, called in its context; None: no job's is.
        lease_of: the lease of any job of that tenant that runs here now, if there is one.
    """

    tenant: Callable[[], str | None]
    lease_of: Callable[[str], Lease | None]


@dataclass(slots=True)
class _Ambient:
    opener: TransportOpener | None = None
    jobs_only: bool = False
    stand_in: StandIn | None = None
    wall: Callable[[], float] = time.time
    job_context: JobContext | None = None
    seconds_left: SecondsLeft | None = None
    tenancy: Tenancy | None = None
    enter_wait: WaitHook | None = None
    leave_wait: WaitHook | None = None


_ambient = _Ambient()


def set_transport_opener(opener: TransportOpener | None, *, jobs_only: bool = False) -> None:
    """Every `Client` started from now on dials through ``opener`` and skips the handshake.

    It is called on the loop of the client that dials, which may be a thread of its own.

    Args:
        jobs_only: this holds only for clients that the code of a job starts.
    """
    _ambient.opener = opener
    _ambient.jobs_only = jobs_only


def transport_opener() -> TransportOpener | None:
    """The opener of the runner whose code is calling, or None outside runners."""
    if _ambient.jobs_only and calling_job() is None:
        return None
    return _ambient.opener


def set_stand_in(stand_in: StandIn | None, wall: Callable[[], float] = time.time) -> None:
    """Every `Client` started from now on without an address talks to this control plane.

    Args:
        wall: the time of day in seconds, for what clients count from now: countdowns and ids.
    """
    _ambient.stand_in = stand_in
    _ambient.wall = wall


def stand_in() -> StandIn | None:
    """The control plane of this process's tests, or None."""
    return _ambient.stand_in


def wall_seconds() -> float:
    """The time of day, as clients of this process see it."""
    return _ambient.wall()


def set_job_context(
    job_context: JobContext | None, seconds_left: SecondsLeft | None = None
) -> None:
    """``job_context()`` gives (id, lease token) of the job whose code is calling, or None.

    Both are called in the context (`contextvars`) of the caller.

    Args:
        seconds_left: gives the time until that job's deadline, or None.
    """
    _ambient.job_context = job_context
    _ambient.seconds_left = seconds_left


def set_tenancy(tenancy: Tenancy | None) -> None:
    """Clients that jobs start from now on are their tenant's, and show a lease for that."""
    _ambient.tenancy = tenancy


def calling_tenant() -> str | None:
    """Whose job's code is calling now; None: no job's."""
    tenancy = _ambient.tenancy
    return None if tenancy is None else tenancy.tenant()


def is_served_here(tenant: str | None) -> bool:
    """Whether a job of this tenant runs in this process now."""
    tenancy = _ambient.tenancy
    return tenant is None or tenancy is None or tenancy.lease_of(tenant) is not None


def lease_to_show(tenant: str | None) -> Lease | None:
    """What proves that a client here may see this tenant's jobs. One that no job has started
    shows none, and sees none until it has submitted something for a job.

    Raises:
        ConnectionError: no job of that tenant runs here now.
    """
    if _ambient.tenancy is None or tenant is None:
        return None
    lease = _ambient.tenancy.lease_of(tenant)
    if lease is None and tenant != DEFAULT_TENANT:
        raise ConnectionError("no job of the tenant whose job started this client runs here now")
    return lease


def calling_job() -> Lease | None:
    """The job whose code is calling now: id and lease token."""
    return None if _ambient.job_context is None else _ambient.job_context()


def calling_job_seconds() -> float:
    """The time until the deadline of the job whose code is calling now; infinite if none."""
    left = None if _ambient.seconds_left is None else _ambient.seconds_left()
    return math.inf if left is None else left


def set_wait_hooks(enter: WaitHook | None, leave: WaitHook | None) -> None:
    """Called when code starts and stops waiting for a result, in the context of the caller.

    The runner gives the job's slot back in between, so that recursion cannot deadlock.
    """
    _ambient.enter_wait = enter
    _ambient.leave_wait = leave


@contextmanager
def waiting_for_results() -> Iterator[None]:
    """Around every wait for a result."""
    enter, leave = _ambient.enter_wait, _ambient.leave_wait
    if enter is None or leave is None:
        yield
        return
    enter()
    try:
        yield
    finally:
        leave()
