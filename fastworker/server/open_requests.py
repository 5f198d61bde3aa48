"""Requests of one connection that have no answer yet: each has a number of its own."""

from __future__ import annotations

from fastworker.errors import ProtocolError
from fastworker.server.limits import MAX_OPEN_REQUESTS
from fastworker.wire.messages import Message, Unfollow


class OpenRequests:
    """Their numbers."""

    __slots__ = ("_numbers",)

    def __init__(self) -> None:
        self._numbers: set[int] = set()

    def asked(self, message: Message) -> None:
        """A message has come; perhaps it is a request.

        Raises:
            ProtocolError: its number is that of a request which is open, or too many are.
        """
        number: int | None = getattr(message, "request", None)
        if number is None:
            return
        if isinstance(message, Unfollow):
            # It takes a request back, which then has no answer.
            self._numbers.discard(number)
            return
        if number in self._numbers:
            raise ProtocolError(
                f"message {type(message).__name__}, field request: expected a number that no "
                f"open request has, got {number} again"
            )
        if len(self._numbers) >= MAX_OPEN_REQUESTS:
            raise ProtocolError(f"more than {MAX_OPEN_REQUESTS} requests are open at once")
        self._numbers.add(number)

    def answered(self, message: Message) -> None:
        """A message leaves; perhaps it is an answer."""
        number = getattr(message, "request", None)
        if number is not None:
            self._numbers.discard(number)
