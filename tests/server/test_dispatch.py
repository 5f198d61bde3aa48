"""The loop around the core: saves first, refuses when full, asks again when in doubt."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from fastworker.core.commands import AnswerRegistration, AnswerSubmission, AssignJobs, Command
from fastworker.core.dispatcher import Dispatcher
from fastworker.core.facts import SaidLines
from fastworker.core.questions import Known, Questions
from fastworker.core.records import Now, Saves, TaskPriority
from fastworker.server.dispatch import FULL_STORE_PAUSE_SECONDS, dispatch_forever
from fastworker.server.inbox import Inbox
from fastworker.store.contract import DuplicateJob, NoSpace
from fastworker.store.memory import MemoryStore
from tests.core.harness import LEASE, new_ids, only, outcomes, registration, submission


def clock() -> Now:
    return Now(1000.0 + trio.current_time(), trio.current_time())


class SlowStore:
    """A store that takes its time, fails as often as it is told to, and cannot be cancelled."""

    def __init__(self, *, seconds: float = 0.0, failures: Sequence[Exception] = ()) -> None:
        self.store = MemoryStore()
        self.seconds = seconds
        self.failures = list(failures)

    async def recall(self, questions: Questions) -> Known:
        return self.store.recall(questions)

    async def save(self, saves: Saves) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(self.seconds)
        if self.failures:
            raise self.failures.pop(0)
        self.store.save(saves)


class Shell:
    """Notes what is to be done, and wakes the test."""

    def __init__(self) -> None:
        self.commands: list[Command] = []
        self.told = trio.Event()

    def heard(self) -> dict[bytes, float]:
        return {}

    def carry_out(self, commands: Sequence[Command]) -> None:
        self.commands += commands
        if only(self.commands, AnswerSubmission):
            self.told.set()

    def turn_ended(self, dispatcher: Dispatcher) -> None:
        pass


async def _answer(nursery: trio.Nursery, store: SlowStore) -> tuple[AnswerSubmission, SlowStore]:
    """Submit one job and return the answer to it."""
    inbox, shell = Inbox(), Shell()
    dispatcher = Dispatcher(store.store.load(), clock(), lease_seconds=LEASE)
    nursery.start_soon(dispatch_forever, dispatcher, inbox, store, shell, clock)
    inbox.offer(submission(new_ids(1)), 1)
    await shell.told.wait()
    return only(shell.commands, AnswerSubmission)[0], store


@pytest.mark.trio
async def test_job_is_stored_before_it_is_answered(nursery: trio.Nursery) -> None:
    answer, store = await _answer(nursery, SlowStore())
    assert answer.refused == []
    assert len(store.store.reader().views(answer.fact.ids)) == 1


@pytest.mark.trio
async def test_full_store_refuses_and_stores_nothing(nursery: trio.Nursery) -> None:
    answer, store = await _answer(nursery, SlowStore(failures=[NoSpace("full")]))
    assert [refusal.code for refusal in answer.refused] == ["storage_full"]
    assert store.store.reader().views(answer.fact.ids) == []


@pytest.mark.trio
async def test_first_try_that_was_none_is_asked_about(nursery: trio.Nursery) -> None:
    answer, store = await _answer(nursery, SlowStore(failures=[DuplicateJob("known")]))
    assert answer.refused == []
    assert len(store.store.reader().views(answer.fact.ids)) == 1


@pytest.mark.trio
async def test_slow_store_is_named_in_the_log(
    nursery: trio.Nursery, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="fastworker.server"):
        await _answer(nursery, SlowStore(seconds=2.5))
    assert "the store took 2.5 s to save 1 changes" in caplog.text


@pytest.mark.trio
@pytest.mark.parametrize("priority", TaskPriority)
async def test_jobs_are_on_their_way_before_they_are_accepted(
    nursery: trio.Nursery, priority: TaskPriority
) -> None:
    inbox, shell = Inbox(), Shell()
    store = SlowStore()
    dispatcher = Dispatcher(store.store.load(), clock(), lease_seconds=LEASE)
    nursery.start_soon(dispatch_forever, dispatcher, inbox, store, shell, clock)
    await inbox.put(registration(b"w" * 16, slots=1))
    await wait_all_tasks_blocked()
    inbox.offer(submission(new_ids(1), priority=priority), 1)
    await shell.told.wait()
    kinds = [type(each) for each in shell.commands]
    assert kinds.index(AssignJobs) < kinds.index(AnswerSubmission)


@pytest.mark.trio
async def test_time_that_is_up_as_a_job_comes_does_not_cut_its_turn_short(
    nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    inbox, shell = Inbox(), Shell()
    store = SlowStore()
    dispatcher = Dispatcher(store.store.load(), clock(), lease_seconds=LEASE)
    nursery.start_soon(dispatch_forever, dispatcher, inbox, store, shell, clock)
    for _ in range(3):
        await inbox.put(registration(b"w" * 16, slots=9))
        await wait_all_tasks_blocked()
        shell.told = trio.Event()
        shell.commands.clear()
        inbox.offer(submission(new_ids(1), priority=TaskPriority.CRITICAL), 3)
        mock_clock.jump(LEASE / 2)
        with trio.fail_after(LEASE):
            await wait_all_tasks_blocked()
        assert shell.told.is_set()


def given_up() -> NoSpace:
    error = NoSpace("full")
    error.room_made = True
    return error


@pytest.mark.trio
async def test_what_is_no_submission_is_saved_when_the_reserve_is_given_up(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    inbox, shell = Inbox(), Shell()
    store = SlowStore(failures=[NoSpace("full"), given_up()])
    dispatcher = Dispatcher(store.store.load(), clock(), lease_seconds=LEASE)
    nursery.start_soon(dispatch_forever, dispatcher, inbox, store, shell, clock)
    before = trio.current_time()
    inbox.offer(submission(new_ids(1)), 1)
    await inbox.put(registration(b"w" * 16, slots=1))
    await shell.told.wait()
    await wait_all_tasks_blocked()
    assert only(shell.commands, AnswerSubmission)[0].refused
    assert only(shell.commands, AnswerRegistration)
    assert trio.current_time() == before, "it was not put off"


@pytest.mark.trio
async def test_lines_are_given_up_before_anything_else_when_the_store_is_full(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    inbox, shell = Inbox(), Shell()
    store = SlowStore()
    dispatcher = Dispatcher(store.store.load(), clock(), lease_seconds=LEASE)
    await inbox.put(registration(b"w" * 16, slots=1))
    inbox.offer(submission(new_ids(1)), 1)
    nursery.start_soon(dispatch_forever, dispatcher, inbox, store, shell, clock)
    await shell.told.wait()
    await wait_all_tasks_blocked()
    (job,) = dispatcher.memory.jobs.values()
    store.failures.append(NoSpace("full"))
    lines = SaidLines(b"w" * 16, [job.id], [job.token], [0], [1], [1000.0], [20], ["said"])
    await inbox.put(lines)
    await inbox.put(outcomes(b"w" * 16, [job]))
    await trio.sleep(0.1)
    assert store.store.lines(job.id, after=0, limit=10) == []
    assert dispatcher.job(job.id) is None


@pytest.mark.trio
async def test_a_full_store_is_tried_again_at_intervals(
    nursery: trio.Nursery, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    inbox, shell = Inbox(), Shell()
    store = SlowStore(failures=[NoSpace("full")] * 3)
    dispatcher = Dispatcher(store.store.load(), clock(), lease_seconds=LEASE)
    nursery.start_soon(dispatch_forever, dispatcher, inbox, store, shell, clock)
    await inbox.put(registration(b"w" * 16, slots=1))
    await trio.sleep(2.5 * FULL_STORE_PAUSE_SECONDS)
    assert not only(shell.commands, AnswerRegistration)
    assert not store.failures
    await trio.sleep(FULL_STORE_PAUSE_SECONDS)
    assert only(shell.commands, AnswerRegistration)
    assert caplog.text.count("the store is full") == 1
