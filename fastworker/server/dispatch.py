"""The engine room: the one loop that touches the core. Save first, speak second.

While a transaction syncs, the next batch gathers; group commit falls out of that.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import trio

from fastworker.core.commands import (
    AnswerRegistration,
    AnswerSubmission,
    AssignJobs,
    Command,
    Refusal,
)
from fastworker.core.dispatcher import Dispatcher
from fastworker.core.facts import Fact, Renewals, SaidLines, Submission
from fastworker.core.questions import Known, Questions
from fastworker.core.records import Now, Saves
from fastworker.errors import InternalError
from fastworker.server.inbox import Inbox
from fastworker.store.contract import DuplicateJob, NoSpace

logger = logging.getLogger("fastworker.server")

SLOW_SAVE_SECONDS: Final = 1.0
"""A save usually takes milliseconds; one that takes this long is worth a line in the log."""

FULL_STORE_PAUSE_SECONDS: Final = 1.0
"""How long to wait before outcomes are offered to a full store again."""

WRITE_TURNS: Final = 2
"""Turns of the event loop from a queued message to its bytes on the socket."""


class AsyncStore(Protocol):
    """The store as the loop sees it: none of its calls can be cancelled."""

    async def recall(self, questions: Questions) -> Known: ...

    async def save(self, saves: Saves) -> None: ...


class Shell(Protocol):
    """Who carries out what the core decides."""

    def heard(self) -> dict[bytes, float]:
        """When subworkers were heard since the last call, if they were (monotonic)."""
        ...

    def carry_out(self, commands: Sequence[Command]) -> None: ...

    def turn_ended(self, dispatcher: Dispatcher) -> None:
        """Look at the new state after a turn."""
        ...


async def dispatch_forever(
    dispatcher: Dispatcher,
    inbox: Inbox,
    store: AsyncStore,
    shell: Shell,
    clock: Callable[[], Now],
) -> None:
    """Take turns until cancelled; cancellation takes effect between turns only.

    Raises:
        StoreBroken: a write failed indeterminately; nothing more may be acknowledged.
        InternalError: core and store disagree about which jobs there are.
    """
    kept_back: list[Fact] | None = None
    was_full = False
    facts: list[Fact] | None = None
    wake_at = math.inf
    while True:
        # One for many turns, and moved only to sooner: both would cost more than waking in vain.
        with trio.CancelScope(deadline=wake_at) as waiting:
            while True:
                if facts is None:
                    wake_at = (
                        _deadline(dispatcher, clock())
                        if kept_back is None
                        else trio.current_time() + FULL_STORE_PAUSE_SECONDS
                    )
                    if wake_at < waiting.deadline:
                        waiting.deadline = wake_at
                    await inbox.wait()
                    if waiting.cancel_called:
                        break  # time was up, too: whatever waits inside this scope is cancelled
                    facts = inbox.take_batch()
                # Nothing in a turn can be cancelled; if time runs out, the next wait ends at once.
                facts = (kept_back or []) + facts
                kept_back = await _take_turn(dispatcher, facts, store, shell, clock)
                facts = None
                if kept_back is not None and not was_full:
                    logger.error("the store is full; outcomes wait until space returns")
                was_full = kept_back is not None
        batch = inbox.take_batch()
        facts = batch if batch or trio.current_time() >= wake_at else None


def _deadline(dispatcher: Dispatcher, now: Now) -> float:
    monotonic, wall = dispatcher.next_wakeup()
    if wall is not None:
        monotonic = min(monotonic, now.monotonic + max(0.0, wall - now.wall))
    return monotonic


async def _take_turn(
    dispatcher: Dispatcher,
    facts: list[Fact],
    store: AsyncStore,
    shell: Shell,
    clock: Callable[[], Now],
) -> list[Fact] | None:
    """One turn; returns the facts that a full store could not take, None if it took all."""
    facts = [Renewals(shell.heard()), *facts]
    suspicious = False
    while True:
        now = clock()
        asked = dispatcher.questions(facts, now, suspicious=suspicious)
        known = await store.recall(asked) if asked else Known()
        staged = dispatcher.handle_all(facts, known, now, asked=asked)
        try:
            if staged.saves:
                await _save(store, staged.saves)
        except DuplicateJob:
            # A "first try" that was none, after all: ask about every id.
            dispatcher.drop(staged)
            if suspicious:
                raise InternalError("a job that the store has was taken for a new one") from None
            suspicious = True
        except NoSpace as full:
            dispatcher.drop(staged)
            if any(isinstance(fact, SaidLines) for fact in facts):
                # What space is left is for outcomes.
                facts = [fact for fact in facts if not isinstance(fact, SaidLines)]
            elif any(isinstance(fact, Submission) for fact in facts):
                facts = _refuse_submissions(facts, shell)
            elif not full.room_made:
                return [fact for fact in facts if not isinstance(fact, Renewals)]
        else:
            dispatcher.apply(staged)
            await _carry_out(staged.commands, shell)
            shell.turn_ended(dispatcher)
            return None


async def _save(store: AsyncStore, saves: Saves) -> None:
    begun = trio.current_time()
    await store.save(saves)
    took = trio.current_time() - begun
    if took > SLOW_SAVE_SECONDS:
        logger.warning(
            "the store took %.1f s to save %d changes and held everybody up; is the disk slow?",
            took,
            len(saves.inserts) + len(saves.updates) + len(saves.finishes),
        )


async def _carry_out(commands: Sequence[Command], shell: Shell) -> None:
    """Act in the order of the decisions, but put jobs on their way before accepting them.

    Strict priority is promised from the acceptance on, so what overtakes must be under way then;
    and what an idle system does first after a commit decides how soon a job runs. A registration
    is answered before anything is assigned.
    """
    assigned = [each for each in commands if isinstance(each, AssignJobs)]
    if assigned and not any(isinstance(each, AnswerRegistration) for each in commands):
        shell.carry_out(assigned)
        if any(each.urgent for each in assigned):
            for _ in range(WRITE_TURNS):
                await trio.lowlevel.cancel_shielded_checkpoint()
        commands = [each for each in commands if not isinstance(each, AssignJobs)]
    shell.carry_out(commands)


def _refuse_submissions(facts: Sequence[Fact], shell: Shell) -> list[Fact]:
    message = "the store of the control plane is full; nothing was stored"
    refused = [fact for fact in facts if isinstance(fact, Submission)]
    shell.carry_out(
        [
            AnswerSubmission(
                fact,
                refused=[Refusal(index, "storage_full", message) for index in range(len(fact.ids))],
            )
            for fact in refused
        ]
    )
    return [fact for fact in facts if not isinstance(fact, Submission)]
