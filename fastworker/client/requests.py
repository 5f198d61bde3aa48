"""Questions that wait for their answers: `Fetch`, `Cancel`, `Query`. Pure.

All of them may be repeated without harm, so they are sent again on every new connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fastworker.client.failures import error_from_code
from fastworker.core.ids import id_text
from fastworker.errors import FastWorkerError
from fastworker.wire.messages import Message, Problem


class Request:
    """One question; ``on_done`` is called once, when ``answer`` or ``error`` is there."""

    __slots__ = ("answer", "error", "message", "number", "on_done", "sent")

    def __init__(self, number: int, message: Message) -> None:
        self.number = number
        self.message = message
        self.sent = False
        self.answer: Message | None = None
        self.error: FastWorkerError | None = None
        self.on_done: Callable[[], None] | None = None

    def finish(
        self, *, answer: Message | None = None, error: FastWorkerError | None = None
    ) -> None:
        """Record the answer and tell the caller."""
        self.answer, self.error = answer, error
        if self.on_done is not None:
            self.on_done()


class Requests:
    """The open questions of one client.

    Args:
        numbers: request numbers, shared with the outbox.
    """

    def __init__(self, numbers: Iterator[int]) -> None:
        self._numbers = numbers
        self._open: dict[int, Request] = {}
        self._unsent: list[Request] = []

    def ask(self, build: Callable[[int], Message]) -> Request:
        """Open a question; ``build`` makes its message from its number."""
        number = next(self._numbers)
        request = Request(number, build(number))
        self._open[number] = request
        self._unsent.append(request)
        return request

    def close(self, request: Request) -> None:
        """Nobody waits for it any more; closing it twice does nothing."""
        self._open.pop(request.number, None)

    def take(self) -> list[Message]:
        """What to send now."""
        taken, self._unsent = self._unsent, []
        for request in taken:
            request.sent = True
        return [request.message for request in taken if request.number in self._open]

    def connection_lost(self) -> None:
        """Everything open is sent again."""
        self._unsent = list(self._open.values())

    def answered(self, number: int, answer: Message) -> None:
        """Take an answer; those nobody waits for are passed over."""
        request = self._open.pop(number, None)
        if request is not None:
            request.finish(answer=answer)

    def problem(self, problem: Problem) -> None:
        """Take a refusal."""
        request = self._open.pop(-1 if problem.request is None else problem.request, None)
        if request is None:
            return
        existing = problem.existing_id
        error = error_from_code(
            problem.code,
            problem.message,
            retry_after=problem.retry_after,
            existing_id=None if existing is None else id_text(existing),
        )
        request.finish(error=error)

    def fail_all(self, error: Callable[[], FastWorkerError]) -> None:
        """The client stops: no answer will come."""
        waiting, self._open, self._unsent = self._open, {}, []
        for request in waiting.values():
            request.finish(error=error())
