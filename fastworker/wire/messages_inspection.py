"""Messages about what runs just now: from the control plane to subworkers, from those to runners.

`fastworker.wire.messages` gives them out with all the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fastworker.wire.fields import (
    U64,
    Flag,
    Id16,
    InspectedRows,
    Name,
    Seconds,
    StackRows,
    Text,
    U64Column,
)
from fastworker.wire.messages_base import Message


@dataclass(slots=True)
class Inspect(Message):
    """What are these attempts doing? ``tokens`` None: all whose code runs. Answered by
    `Inspected`. ``stacks``: with the stack of each."""

    KIND: ClassVar[int] = 65
    request: U64
    tokens: U64Column | None = None
    stacks: Flag = False


@dataclass(slots=True)
class Inspected(Message):
    """Answer to `Inspect`. ``rows``: [token, runner, its pid, kind, results waited for, start or
    null, stack]; attempts whose code does not run are left out. ``complete``: nothing else was.

    Numbers of runners that run one job at a time are negative. ``kind``: ``asyncio``, ``trio``,
    ``thread``, ``process``, or ``unknown`` if its runner has not answered.
    """

    KIND: ClassVar[int] = 66
    request: U64
    rows: InspectedRows
    complete: Flag = True


# --- on the control channel between subworker and runner ----------------------------------


@dataclass(slots=True)
class AskStacks(Message):
    """What do these attempts do? ``tokens`` None: all that run. Answered by `Stacks` whatever the
    loops do, as long as the interpreter runs. ``stacks``: with the stack of each."""

    KIND: ClassVar[int] = 86
    request: U64
    tokens: U64Column | None = None
    stacks: Flag = True


@dataclass(slots=True)
class Stacks(Message):
    """Answer to `AskStacks`. ``rows``: [token, kind, results waited for, start or null, stack];
    attempts that do not run are left out."""

    KIND: ClassVar[int] = 87
    request: U64
    rows: StackRows


@dataclass(slots=True)
class LoopBlocked(Message):
    """An event loop of the runner has not turned for so long, or (``ended``) turns again.

    ``token``, ``id`` and ``task``: the job whose code is on its thread's stack; None and "" if
    that is not known. ``place``: file and line.
    """

    KIND: ClassVar[int] = 88
    loop: Name
    seconds: Seconds
    token: U64 | None = None
    id: Id16 | None = None
    task: Text = ""
    place: Text = ""
    stack: Text = ""
    ended: Flag = False
