"""The thread that user code cannot hold up, and the ways in which this process ends itself."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Callable

from fastworker.errors import InternalError, ProtocolError
from fastworker.runner.channel import FrameBuffer, framed
from fastworker.wire.codec import decode, encode
from fastworker.wire.messages import Beat, BeatAck

_log = logging.getLogger("fastworker.runner")

EXIT_BROKEN = 70
"""Something of ours or a loop has failed; the log says what."""

_RECEIVE_BYTES = 4096


def end_process_group() -> None:
    """SIGKILL this process and everything it has started. Does not return.

    A runner leads a session of its own. One that was started in another way ends alone: the
    group would be somebody else's.
    """
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def end_broken() -> None:
    """End this process at once, with the exception being handled in the log. Does not return.

    A runner that has lost a loop would keep its jobs for ever and look alive; its end is noticed,
    and its jobs are given to another.
    """
    _log.critical("this runner is broken and ends", exc_info=True)
    logging.shutdown()
    os._exit(EXIT_BROKEN)


def start_loop_thread(run: Callable[[], object], *, name: str) -> None:
    """Run an event loop that lasts as long as the process in a thread of its own."""

    def run_or_end() -> None:
        try:
            run()
            raise InternalError(f"the loop of {name} has ended")
        except BaseException:
            end_broken()

    threading.Thread(target=run_or_end, name=name, daemon=True).start()


def start_watchdog(control: socket.socket) -> threading.Thread:
    """Watch ``control`` until it ends; then end the process group.

    Answers `Beat` at once, whatever user code does, as long as the interpreter runs.
    """
    control.setblocking(True)
    thread = threading.Thread(
        target=_watch, args=(control,), name="fastworker-watchdog", daemon=True
    )
    thread.start()
    return thread


def _watch(control: socket.socket) -> None:
    buffer = FrameBuffer()
    try:
        while data := control.recv(_RECEIVE_BYTES):
            for frame in buffer.feed(data):
                _answer(control, frame)
    except (OSError, ProtocolError) as error:
        _log.error("the control channel failed: %s", error)
    end_process_group()


def _answer(control: socket.socket, frame: bytes) -> None:
    for message in decode(frame):
        if isinstance(message, Beat):
            control.sendall(framed(encode([BeatAck(number=message.number)])))
