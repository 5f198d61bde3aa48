"""Tells a service manager what a server is doing: ``Type=notify`` of systemd, and its watchdog.

The protocol is one datagram of ``NAME=value`` lines; see sd_notify(3). Nothing here may hurt the
server: a manager that does not listen is mentioned once.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio

from fastworker.config.service import ServiceManager

log = logging.getLogger("fastworker.cli")

BEATS_PER_WATCHDOG: Final = 2
"""As systemd asks for: one beat may come late."""


class Notifier:
    """Speaks to a service manager; to nobody if there is none.

    It is given to a server as its ``task_status``: a server that has started is ready.
    """

    def __init__(self, manager: ServiceManager | None) -> None:
        self._manager = manager
        self._failed = False

    def started(self, value: Any = None) -> None:
        """The server serves now."""
        self._send("READY=1", "STATUS=serving")
        # A control plane says itself when it begins to stop.
        listeners: list[Callable[[], None]] = getattr(value, "on_draining", [])
        listeners.append(self.stopping)

    def stopping(self) -> None:
        """The server has begun to stop: it takes nothing new, and ends what runs."""
        self._send("STOPPING=1", "STATUS=stopping: what runs may end")

    async def beat_forever(self) -> None:
        """Show that the event loop turns, as often as the manager wants to see it."""
        if self._manager is None or self._manager.watchdog is None:
            return
        pause = self._manager.watchdog.total_seconds() / BEATS_PER_WATCHDOG
        while True:
            self._send("WATCHDOG=1")
            await trio.sleep(pause)

    def _send(self, *lines: str) -> None:
        if self._manager is None:
            return
        path = self._manager.socket
        address = "\0" + path[1:] if path.startswith("@") else path
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                # The manager reads at once; one that does not must not hold up the event loop.
                sender.setblocking(False)
                sender.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            if not self._failed:
                self._failed = True
                log.warning("cannot tell the service manager at %a: %s", path, error)


async def run_notifying(
    run: Callable[[Notifier], Awaitable[int]], manager: ServiceManager | None
) -> int:
    """Run a server and tell the service manager of it; returns the server's exit code.

    Args:
        run: runs the server until it has ended; the notifier is for it to use.
    """
    notifier = Notifier(manager)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(notifier.beat_forever)
            code = await run(notifier)
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        # The server's own error, which has an exit code; sending a beat raises nothing.
        raise (group.exceptions[0] if len(group.exceptions) == 1 else group) from None
    return code
