"""How long to wait before the next try: exponential, with jitter, forgotten after success."""

from __future__ import annotations

from random import Random
from typing import Final

FIRST_SECONDS: Final = 0.1
LONGEST_SECONDS: Final = 5.0


class Backoff:
    """Waits of 0.1 s doubling to 5 s, each shortened by up to half at random."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._next = FIRST_SECONDS

    def next_seconds(self, *, stood_seconds: float = 0.0) -> float:
        """The next wait.

        Args:
            stood_seconds: how long the last try held; as long as the longest wait is a success.
        """
        if stood_seconds >= LONGEST_SECONDS:
            self._next = FIRST_SECONDS
        wait = self._next
        self._next = min(wait * 2, LONGEST_SECONDS)
        return wait * self._random.uniform(0.5, 1.0)
