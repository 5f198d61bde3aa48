"""What a program owes that is the first one of a container: to look after orphans.

The kernel gives process 1 every process that has lost its parent, and expects it to take note of
their ends; where nobody does, dead ones fill the table of processes. Task code may start programs
of its own, and a runner that is killed leaves them behind. So process 1 does nothing else: the
server runs in a child of it, which hears every signal that was meant for it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Final

FIRST: Final = 1
KILLED: Final = 128
"""Plus the signal's number: the exit code of a server that a signal has ended."""

PASSED_ON: Final = frozenset(
    {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2}
)


def serve_as_first_process(serve: Callable[[], int]) -> int:
    """Run a server, in a child if this is the first process of a container.

    Call it before anything has started a thread.

    Returns:
        The server's exit code.
    """
    return serve() if os.getpid() != FIRST else serve_in_child(serve)


def serve_in_child(serve: Callable[[], int]) -> int:
    """Run a server in a child, pass signals on to it, and reap everybody until it has ended.

    In the child this returns what ``serve`` does, like in the parent.
    """
    # Blocked, so that none is lost before it is waited for; and process 1 gets no others.
    waited_for = {*PASSED_ON, signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited_for)
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return serve()
    while True:
        told = signal.sigwaitinfo(waited_for)
        if told.si_signo == signal.SIGCHLD:
            code = _reap(child)
            if code is not None:
                return code
        elif told.si_code <= 0:
            # Sent by somebody; what comes from the terminal has reached the child by itself.
            os.kill(child, told.si_signo)


def _reap(child: int) -> int | None:
    """Take note of all who have ended; the exit code of ``child`` if it is among them."""
    code = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return code
        if pid == 0:
            return code
        if pid == child:
            ended = os.waitstatus_to_exitcode(status)
            code = ended if ended >= 0 else KILLED - ended
