"""The subworker's end of a runner's control channel, where a thread answers whatever loops do.

That the channel ends tells the runner that its subworker is gone. Otherwise it carries questions
about what jobs are doing, and reports of event loops that do not turn.
"""

from __future__ import annotations

import itertools
import logging
import socket
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Self

import trio

from fastworker.errors import ProtocolError
from fastworker.wire.codec import MAX_FRAME_BYTES, decode, encode
from fastworker.wire.messages import AskStacks, LoopBlocked, Message, Stacks

ANSWER_SECONDS: Final = 1.0
"""The thread that answers does nothing else: if it does not, the interpreter is not to be had."""

MAX_REPORTS: Final = 16
"""Reports of blocked loops that nobody has read; what comes then is dropped, and comes again."""

MAX_UNSENT_BYTES: Final = 1024 * 1024
"""Of questions that a runner has left unread: beyond it, nothing more is asked."""

RECEIVE_BYTES: Final = 65_536
LENGTH_BYTES: Final = 4

_log = logging.getLogger("fastworker.worker")


@dataclass(slots=True)
class _Question:
    answered: trio.Event = field(default_factory=trio.Event)
    answer: Stacks | None = None


class ControlChannel:
    """Asks and hears. Start `read_forever` in a nursery; ``async with`` closes it."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        self._unsent = bytearray()
        self._numbers = itertools.count(1)
        self._questions: dict[int, _Question] = {}
        self._reports, self._reported = trio.open_memory_channel[LoopBlocked](MAX_REPORTS)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stream.aclose()

    async def ask(self, tokens: Collection[int] | None, *, with_stacks: bool) -> Stacks | None:
        """What these attempts (None: all) are doing; None: no answer within `ANSWER_SECONDS`."""
        number = next(self._numbers)
        question = self._questions[number] = _Question()
        self._send(AskStacks(number, None if tokens is None else list(tokens), with_stacks))
        try:
            with trio.move_on_after(ANSWER_SECONDS):
                await question.answered.wait()
        finally:
            del self._questions[number]
        return question.answer

    async def wait_blocked(self) -> LoopBlocked:
        """The next report of a loop that does not turn, or turns again."""
        return await self._reported.receive()

    async def read_forever(self) -> None:
        """Take what the runner says until it ends, or cancelled."""
        received = bytearray()
        try:
            while data := await self._stream.receive_some(RECEIVE_BYTES):
                received += data
                for frame in _cut(received):
                    for message in decode(frame):
                        self._take(message)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        except ProtocolError as error:
            _log.error("a runner's control channel is not read any more: %s", error)
        for question in self._questions.values():
            question.answered.set()

    def _send(self, message: Message) -> None:
        """Never waits: who asks waits for the answer only so long."""
        if len(self._unsent) > MAX_UNSENT_BYTES:
            return
        frame = encode([message])
        self._unsent += len(frame).to_bytes(LENGTH_BYTES, "big") + frame
        # One that is gone, or does not read, does not answer either.
        with suppress(OSError):
            del self._unsent[: self._socket.send(self._unsent)]

    def _take(self, message: Message) -> None:
        if isinstance(message, Stacks):
            question = self._questions.get(message.request)
            if question is not None:
                question.answer = message
                question.answered.set()
        elif isinstance(message, LoopBlocked):
            try:
                self._reports.send_nowait(message)
            except trio.WouldBlock:
                _log.debug("dropped a report of a blocked loop: nobody reads them")


def _cut(received: bytearray) -> list[bytes]:
    """Take the whole frames out of what has arrived.

    Raises:
        ProtocolError: one would be too long.
    """
    frames = []
    while len(received) >= LENGTH_BYTES:
        length = int.from_bytes(received[:LENGTH_BYTES], "big")
        if length > MAX_FRAME_BYTES:
            raise ProtocolError(f"a frame of {length} bytes was announced")
        end = LENGTH_BYTES + length
        if len(received) < end:
            break
        frames.append(bytes(received[LENGTH_BYTES:end]))
        del received[:end]
    return frames


def texts_of(tokens: Collection[int], answer: Stacks | None, *, pid: int) -> dict[int, str]:
    """A text for each token: its stack, or why there is none."""
    if answer is None:
        return dict.fromkeys(tokens, silence_of(pid))
    found = {int(str(row[0])): str(row[-1]) for row in answer.rows}
    return {token: found.get(token, "it does not run (any more)") for token in tokens}


def silence_of(pid: int) -> str:
    """What is said of jobs whose runner does not answer."""
    return (
        f"no stack: the interpreter of process {pid} has not answered within {ANSWER_SECONDS:g} s; "
        "C code may be holding it (kill -USR1 makes the process write its stacks to its stderr)"
    )
