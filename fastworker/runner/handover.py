"""Handing things to another thread in batches: many items, one wake-up."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Handover(Generic[Item]):
    """Items put by any thread, taken in order by the thread behind ``post``.

    Waking a loop costs a system call, so only the first item since the last drain does it.
    """

    def __init__(
        self, post: Callable[[Callable[[], None]], None], take: Callable[[Item], None]
    ) -> None:
        """Args:
        post: has a function called in the receiving thread, from any thread.
        take: called there for each item.
        """
        self._post = post
        self._take = take
        self._items: deque[Item] = deque()
        self._posted = False

    def put(self, item: Item) -> None:
        """Hand over an item; never waits. Raises what ``post`` raises if its loop has ended."""
        self._items.append(item)
        if not self._posted:
            self._posted = True
            self._post(self._drain)

    def _drain(self) -> None:
        # Cleared first: an item put from here on is either seen below or posted anew.
        self._posted = False
        items = self._items
        while items:
            self._take(items.popleft())
