"""What a runner process gives to clients that are used inside tasks.

In a runner there is no control plane to dial: the runner's own channel carries the client
protocol, and the job that is running is the authority for what it submits. The runner sets the
three hooks below once, before it runs the first job. Everywhere else they stay unset.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeAlias


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
JobContext: TypeAlias = Callable[[], "tuple[bytes, int] | None"]
WaitHook: TypeAlias = Callable[[], None]


@dataclass(slots=True)
class _Ambient:
    opener: TransportOpener | None = None
    job_context: JobContext | None = None
    enter_wait: WaitHook | None = None
    leave_wait: WaitHook | None = None


_ambient = _Ambient()


def set_transport_opener(opener: TransportOpener | None) -> None:
    """Every `Client` started from now on dials through ``opener`` and skips the handshake.

    It is called on the loop of the client that dials, which may be a thread of its own.
    """
    _ambient.opener = opener


def transport_opener() -> TransportOpener | None:
    """The runner's opener, or None outside runners."""
    return _ambient.opener


def set_job_context(job_context: JobContext | None) -> None:
    """``job_context()`` gives (id, lease token) of the job whose code is calling, or None.

    It is called in the context (`contextvars`) of the caller.
    """
    _ambient.job_context = job_context


def calling_job() -> tuple[bytes, int] | None:
    """The job whose code is calling now: id and lease token."""
    return None if _ambient.job_context is None else _ambient.job_context()


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
