"""The store in front of Trio: order, cancellation, errors, and the end of the threads."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
import trio
import trio.testing

from fastworker.core.records import JobView, Saves
from fastworker.errors import StoreBroken
from fastworker.store import thread
from fastworker.store.contract import DeadFilter, DuplicateJob, JobFilter, Questions, Retention
from fastworker.store.opening import open_store
from fastworker.store.thread import ThreadCaller, Valve, open_store_thread
from tests.store.builders import LANE, job_id, make_callback, make_failure, make_finish, make_job


@pytest.mark.trio
@pytest.mark.parametrize("durability", ["memory", "process"])
async def test_every_call_is_answered(tmp_path: Path, durability: str) -> None:
    async with open_store_thread(open_store(tmp_path, durability)) as store:
        assert (await store.load()).key_ceiling == 0
        callback = make_callback(1, at=5.0)
        await store.save(Saves(lanes=[LANE], inserts=[make_job(1)], callbacks=[callback]))
        assert list((await store.recall(Questions(ids=[job_id(1)]))).jobs) == [job_id(1)]
        assert await store.payloads([1]) == {1: b"arguments"}
        assert (await store.counts())["queued"] == 1
        await store.save(Saves(finishes=[make_finish(1)]))
        views: list[JobView] = await store.views([job_id(1)])
        assert [view.value for view in views] == [b"value"]
        assert [key for key, _ in await store.jobs(JobFilter())] == [1]
        assert await store.next_callback_at() == 5.0
        assert await store.due_callbacks(now=5.0) == [callback]
        await store.settle_callbacks([callback.delivery], [])
        assert await store.next_callback_at() is None
        assert (await store.prune(Retention(), now=1e9)).results == 1
        await store.save(Saves(inserts=[make_job(2)], finishes=[make_failure(2)]))
        assert [key for key, _ in await store.dead(DeadFilter())] == [2]
        assert [view.outcome for view in await store.attempts(job_id(2))] == ["failure"]
        assert await store.discard([2], now=1e9) == 1
        with pytest.raises(DuplicateJob):
            await store.save(Saves(inserts=[make_job(1)]))


@pytest.mark.trio
async def test_the_store_is_closed_and_the_threads_end_with_the_block(tmp_path: Path) -> None:
    with trio.CancelScope() as scope:
        async with open_store_thread(open_store(tmp_path, "process")) as store:
            threads = [t for t in threading.enumerate() if t.name.startswith("fastworker-")]
            assert len(threads) == 2
            scope.cancel()
            await store.save(Saves(lanes=[LANE], inserts=[make_job(1)]))
    for ended in threads:
        ended.join(timeout=5)
    assert not any(ended.is_alive() for ended in threads)
    reopened = open_store(tmp_path, "process")
    assert reopened.load().queued == {1: 1}
    reopened.close()


@pytest.mark.trio
async def test_a_cancelled_caller_still_hears_the_answer() -> None:
    caller = ThreadCaller("fastworker-test", Valve())
    release = threading.Event()
    heard: list[bool] = []

    async def ask() -> None:
        heard.append(await caller.call(release.wait, 5))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        release.set()
    assert heard == [True]
    await caller.stop(release.is_set)


@pytest.mark.trio
async def test_a_disk_that_hangs_breaks_the_store(
    autojump_clock: trio.testing.MockClock,
) -> None:
    caller = ThreadCaller("fastworker-test", Valve())
    release = threading.Event()
    before = trio.current_time()
    with pytest.raises(StoreBroken, match="did not answer"):
        await caller.call(release.wait, 5)
    assert trio.current_time() - before == pytest.approx(thread.CALL_SECONDS)
    with pytest.raises(StoreBroken, match="did not answer"):
        await caller.call(release.is_set)
    release.set()


@pytest.mark.trio
async def test_calls_run_in_the_order_in_which_they_were_made() -> None:
    caller = ThreadCaller("fastworker-test", Valve())
    release = threading.Event()
    seen: list[int] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(caller.call, release.wait, 5)
        for number in range(5):
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(caller.call, seen.append, number)
        await trio.testing.wait_all_tasks_blocked()
        release.set()
    assert seen == [0, 1, 2, 3, 4]
    await caller.stop(release.is_set)


def test_the_valve_pauses_a_busy_loop_only_while_an_old_call_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    pauses: list[float] = []
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    monkeypatch.setattr(time, "sleep", pauses.append)
    valve = Valve()
    valve.before_io_wait(0)
    valve.begin()
    valve.before_io_wait(0)
    now += thread.VALVE_AFTER_SECONDS
    valve.before_io_wait(0.5)
    assert pauses == []
    valve.before_io_wait(0)
    valve.before_io_wait(0)
    assert pauses == [thread.VALVE_PAUSE_SECONDS]
    now += thread.VALVE_EVERY_SECONDS
    valve.before_io_wait(0)
    assert len(pauses) == 2
    valve.end()
    now += 1
    valve.before_io_wait(0)
    assert len(pauses) == 2


@pytest.mark.trio
async def test_a_pause_of_the_whole_process_is_not_taken_for_a_disk_that_hangs(
    mock_clock: trio.testing.MockClock,
) -> None:
    released = threading.Event()
    caller = ThreadCaller("fastworker-test", Valve())
    answers: list[bool] = []

    async def call() -> None:
        answers.append(await caller.call(released.wait, 10.0))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(call)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(10 * thread.CALL_SECONDS)
        await trio.testing.wait_all_tasks_blocked()
        released.set()
    assert answers == [True]
    await caller.stop(lambda: None)
