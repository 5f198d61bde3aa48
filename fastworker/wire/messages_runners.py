"""Messages between a subworker and its runners, over a socketpair.

`fastworker.wire.messages` gives them out with all the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fastworker.wire.fields import U64, OptionMap, Pairs, Seconds, TaskRows, Text, U64Column
from fastworker.wire.messages_base import Message


@dataclass(slots=True)
class RunnerReady(Message):
    """The runner has imported its task modules. ``tasks`` and ``withheld`` as in `Register`.

    ``limits``: by task, where there is anything to say: [time limit in seconds or none, grace in
    seconds, whether its code must stop before its lease is lost, how late jobs are retried: none,
    or [times, backoff, factor, longest wait, jitter, budget or none]].
    """

    KIND: ClassVar[int] = 80
    pid: U64
    tasks: TaskRows
    withheld: OptionMap | None = None
    limits: OptionMap | None = None


@dataclass(slots=True)
class RunnerFailed(Message):
    """The runner cannot run (a task module does not import); one sentence."""

    KIND: ClassVar[int] = 81
    message: Text


@dataclass(slots=True)
class RunnerStop(Message):
    """Take nothing more; exit once what runs has ended.

    ``cancel_after``: what still runs after so many seconds is told to stop and is given back,
    uncounted. None: it is waited for.
    """

    KIND: ClassVar[int] = 82
    cancel_after: Seconds | None = None


@dataclass(slots=True)
class RunnerSlots(Message):
    """Slots given back by (positive) or returned to (negative) waiting tasks: [pool, change]."""

    KIND: ClassVar[int] = 83
    changes: Pairs


@dataclass(slots=True)
class LeaseLost(Message):
    """To a runner: these attempts may soon run elsewhere. Tasks with ``on_lease_lost="cancel"``
    are cancelled and handed back, the others go on and are fenced."""

    KIND: ClassVar[int] = 84
    tokens: U64Column
