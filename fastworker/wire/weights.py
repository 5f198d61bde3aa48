"""About how large a message is, before it is encoded: only of those that can be large."""

from __future__ import annotations

from operator import attrgetter
from typing import Final

from fastworker.wire import messages as m
from fastworker.wire.messages import Message

ITEM_BYTES: Final = 8
"""What is counted for a number, and for a place in a list or map."""

_HEAVY: Final[dict[type[Message], attrgetter[object]]] = {
    m.Finished: attrgetter("ids", "values", "failures"),
    m.Fetched: attrgetter("jobs", "request"),
    m.Report: attrgetter("body", "request"),
    m.Followed: attrgetter("texts", "at"),
    m.Streamed: attrgetter("items", "first"),
    m.Cancelled: attrgetter("outcomes", "stacks"),
    m.Roster: attrgetter("workers", "tasks"),
    m.Submitted: attrgetter("refused", "existing"),
    m.Callback: attrgetter("body", "delivery"),
}
"""Kinds with results, lines or tables in them, and where those are. What goes to subworkers is
bounded by what they hold."""


def weight_of(message: Message) -> int:
    """Its size in bytes, roughly; 0 for a kind that is always small."""
    heavy = _HEAVY.get(type(message))
    return 0 if heavy is None else size_of(heavy(message))


def size_of(value: object) -> int:
    """The size of a field's value in bytes, roughly."""
    if isinstance(value, (bytes, str)):
        return ITEM_BYTES + len(value)
    if isinstance(value, (list, tuple)):
        return ITEM_BYTES + sum(map(size_of, value))
    if isinstance(value, dict):
        return ITEM_BYTES + sum(map(size_of, value)) + sum(map(size_of, value.values()))
    return ITEM_BYTES
