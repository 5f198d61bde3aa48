"""Queues that are paused and resumed: from the message to the fact, and from its end to the answer.

Nothing here knows the plane, so that the roster may know this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastworker.core.facts import QueuePause
from fastworker.core.names import check_name
from fastworker.core.records import ALL_TENANTS
from fastworker.errors import InvalidOption
from fastworker.server.criteria import named_tenant
from fastworker.wire.messages import Manage, Report

if TYPE_CHECKING:
    from fastworker.server.roster import Watcher


class PauseOrigin:
    """One ``pause`` or ``resume`` until it is stored."""

    def __init__(self, peer: Watcher, request: int, queue: str, *, paused: bool) -> None:
        self._peer = peer
        self._report = Report(request, {"queue": queue, "paused": paused})

    def answer(self) -> None:
        """It is stored, and in force."""
        self._peer.send(self._report)


def queue_pause(peer: Watcher, message: Manage) -> QueuePause:
    """The fact that a ``pause`` or ``resume`` is: for the jobs of the tenant that is named, or of
    all that the peer sees.

    Raises:
        InvalidOption: it names no queue, or a tenant whose jobs the peer does not see.
        InvalidName: the queue's name, or the tenant's, cannot be one.
    """
    options = message.options or {}
    queue, tenant = options.get("queue"), named_tenant(options, peer.sees)
    if queue is None:
        raise InvalidOption(f"{message.what} needs a queue; name one")
    name = check_name("queue", queue)
    paused = message.what == "pause"
    origin = PauseOrigin(peer, message.request, name, paused=paused)
    whose = ALL_TENANTS if tenant is None else check_name("tenant", tenant)
    return QueuePause(origin, name, paused, whose)
