"""Messages with what jobs say while they run: progress, log lines, checkpoints, and following them.

`fastworker.wire.messages` gives them out with all the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fastworker.wire.fields import (
    U64,
    BlobColumn,
    Flag,
    FloatColumn,
    Id16,
    Ids,
    MaybeNumberColumn,
    NumberColumn,
    OptionMap,
    Seconds,
    TextColumn,
    U64Column,
)
from fastworker.wire.messages_base import Message

# --- runner to subworker to control plane --------------------------------------------------


@dataclass(slots=True)
class Progress(Message):
    """How far attempts are: the latest of each. ``total`` None: not known."""

    KIND: ClassVar[int] = 62
    ids: Ids
    tokens: U64Column
    done: NumberColumn
    total: MaybeNumberColumn
    messages: TextColumn
    at: FloatColumn


@dataclass(slots=True)
class Lines(Message):
    """What attempts have logged or printed: ``counts[i]`` lines of attempt *i*, the first of them
    number ``firsts[i]`` of that attempt (from 0). The other columns hold all lines in that order.

    ``levels`` as in `logging`; 0: printed.
    """

    KIND: ClassVar[int] = 63
    ids: Ids
    tokens: U64Column
    firsts: U64Column
    counts: U64Column
    at: FloatColumn
    levels: U64Column
    texts: TextColumn


@dataclass(slots=True)
class Checkpoint(Message):
    """What the next attempts at these jobs are to begin with, sealed; replaces what was before."""

    KIND: ClassVar[int] = 64
    ids: Ids
    tokens: U64Column
    values: BlobColumn


# --- client to control plane, and back -----------------------------------------------------


@dataclass(slots=True)
class Follow(Message):
    """What is new of a job? Answered by one `Followed` as soon as there is something.

    ``lines``: lines after number ``after``. ``progress``: progress other than that of ``seen_at``.
    ``wait`` False: answered at once in any case. Whoever wants more asks again.
    """

    KIND: ClassVar[int] = 35
    request: U64
    id: Id16
    after: U64 = 0
    seen_at: Seconds | None = None
    lines: Flag = True
    progress: Flag = True
    wait: Flag = True


@dataclass(slots=True)
class Unfollow(Message):
    """No answer to that `Follow` is wanted any more."""

    KIND: ClassVar[int] = 36
    request: U64


@dataclass(slots=True)
class Followed(Message):
    """Answer to `Follow`. Lines as columns, in order; ``numbers`` only grow over a job's life.

    ``progress``: a map as in a job's view. ``ended``: the job has ended, and this is all of it.
    """

    KIND: ClassVar[int] = 37
    request: U64
    numbers: U64Column
    at: FloatColumn
    levels: U64Column
    texts: TextColumn
    progress: OptionMap | None = None
    ended: Flag = False
