"""Messages with the items of streamed jobs, between all that stand on their way.

`fastworker.wire.messages` gives them out with all the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fastworker.wire.fields import U64, BlobColumn, Flag, Id16
from fastworker.wire.messages_base import Message

# --- client to control plane, and back -----------------------------------------------------


@dataclass(slots=True)
class StreamPull(Message):
    """Push the items of this streamed job, up to ``limit``; the latest one holds.

    ``next``: items below it are taken and need not be kept. ``limit``: items below it may be sent.
    ``again``: send from ``next`` on again, for what was sent before may be lost. Sent again on
    every new connection.
    """

    KIND: ClassVar[int] = 33
    id: Id16
    next: U64
    limit: U64
    again: Flag = False


@dataclass(slots=True)
class Streamed(Message):
    """Items of a streamed job, sealed, from the one numbered ``first`` on.

    ``total``: how many there are in all, once that is known.
    """

    KIND: ClassVar[int] = 34
    id: Id16
    first: U64
    items: BlobColumn
    total: U64 | None = None


# --- control plane to subworker to runner, and back ----------------------------------------


@dataclass(slots=True)
class Pull(Message):
    """`StreamPull`, for the attempt that holds the job. Also spoken from subworker to runner."""

    KIND: ClassVar[int] = 60
    id: Id16
    token: U64
    next: U64
    limit: U64
    again: Flag = False


@dataclass(slots=True)
class StreamItems(Message):
    """`Streamed`, from the attempt that made them. Also spoken from runner to subworker.

    Without items and ``total`` it asks for the latest `Pull`: the attempt has begun.
    """

    KIND: ClassVar[int] = 61
    id: Id16
    token: U64
    first: U64
    items: BlobColumn
    total: U64 | None = None
