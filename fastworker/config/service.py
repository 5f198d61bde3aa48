"""What a service manager (systemd) tells the processes that it starts: where to report to."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

SOCKET_VARIABLE: Final = "NOTIFY_SOCKET"
WATCHDOG_VARIABLE: Final = "WATCHDOG_USEC"
WATCHDOG_PID_VARIABLE: Final = "WATCHDOG_PID"


@dataclass(frozen=True, slots=True)
class ServiceManager:
    """Somebody who started this process and wants to hear from it.

    Args:
        socket: path of a datagram socket; ``@`` stands for Linux's abstract names.
        watchdog: it ends this process if it hears nothing for so long; None: never.
    """

    socket: str
    watchdog: timedelta | None


def take_service_manager(
    environ: MutableMapping[str, str] | None = None,
) -> ServiceManager | None:
    """Who wants to hear from this process; None if nobody does.

    What it starts from then on, the runners with the code of tasks above all, does not inherit the
    variables, so it cannot speak for this process.

    Args:
        environ: the environment; None: this process's.
    """
    given = os.environ if environ is None else environ
    socket = given.pop(SOCKET_VARIABLE, "")
    microseconds = given.pop(WATCHDOG_VARIABLE, "")
    pid = given.pop(WATCHDOG_PID_VARIABLE, "")
    if not socket.startswith(("/", "@")) or len(socket) < 2:
        return None
    mine = pid in ("", str(os.getpid()))
    length = int(microseconds) if microseconds.isascii() and microseconds.isdigit() else 0
    watchdog = timedelta(microseconds=length) if mine and 0 < length < 10**15 else None
    return ServiceManager(socket, watchdog)
