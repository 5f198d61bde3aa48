"""What may be said of a delivery that failed: one of a few words.

Nothing that the other side has answered is among them, and no text of an exception, which may
quote it: whoever submits could otherwise read through the control plane what only that can reach.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import trio


class Trouble(StrEnum):
    """Why an attempt to deliver has failed."""

    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    NO_ANSWER = "no answer"
    TLS = "TLS failed"
    NOT_ACKNOWLEDGED = "not acknowledged"
    NOT_UNDERSTOOD = "answer not understood"
    REDIRECT = "status 3xx"
    STATUS_4XX = "status 4xx"
    STATUS_5XX = "status 5xx"
    GONE = "status 410"
    NOT_ALLOWED = "not allowed"
    NO_TOKEN = "token not valid"
    NOT_CONNECTED = "client not connected"
    NO_EXTRA = "extra webhooks not installed"
    JOB_GONE = "result no longer kept"
    UNREADABLE = "result damaged"


@dataclass(frozen=True, slots=True)
class Undelivered:
    """One attempt that failed.

    Args:
        retry_after: seconds that the receiver has asked for.
        for_good: it will not be tried again.
    """

    trouble: Trouble
    retry_after: float | None = None
    for_good: bool = False


def trouble_of(error: BaseException) -> Trouble:
    """What an exception of dialling or talking comes down to."""
    causes = list(_causes(error))
    for kind, trouble in (
        (ConnectionRefusedError, Trouble.REFUSED),
        (ssl.SSLError, Trouble.TLS),
        (trio.TooSlowError, Trouble.NO_ANSWER),
        (OSError, Trouble.UNREACHABLE),
    ):
        if any(isinstance(cause, kind) for cause in causes):
            return trouble
    return Trouble.NOT_UNDERSTOOD


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The exception, what is in its group, and what they came from."""
    found: set[int] = set()
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if id(one) in found:
            continue
        found.add(id(one))
        yield one
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions
        waiting += [inner for inner in (one.__cause__, one.__context__) if inner is not None]
