"""How long to wait before the next try: exponential, with jitter, forgotten after success."""

from __future__ import annotations

from random import Random
from typing import Final

FIRST_SECONDS: Final = 0.1
LONGEST_SECONDS: Final = 5.0


class Backoff:
    """Waits of 0.1 s doubling up to a longest one, each shortened by up to half at random.

    Args:
        longest_seconds: 5 unless said otherwise.
    """

    def __init__(self, random: Random, *, longest_seconds: float = LONGEST_SECONDS) -> None:
        self._random = random
        self._longest = longest_seconds
        self._next = FIRST_SECONDS

    def next_seconds(self, *, stood_seconds: float = 0.0) -> float:
        """The next wait.

        Args:
            stood_seconds: how long the last try held; as long as the longest wait is a success.
        """
        if stood_seconds >= self._longest:
            self._next = FIRST_SECONDS
        wait = self._next
        self._next = min(wait * 2, self._longest)
        return wait * self._random.uniform(0.5, 1.0)
