"""What every store does: these tests run against all of them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from fastworker.core.records import CallbackTry, JobOptions, Saves, TaskStatus
from fastworker.errors import InternalError
from fastworker.store.contract import (
    INLINE_PAYLOAD_BYTES,
    CallbackFilter,
    DuplicateJob,
    JobFilter,
    Questions,
    RefillQuestion,
    Retention,
    Store,
)
from fastworker.store.opening import open_store
from tests.store.builders import (
    FAILED,
    LANE,
    OTHER_LANE,
    job_id,
    make_callback,
    make_failure,
    make_finish,
    make_job,
    run_job,
)

KEEP_ALL = Retention(results_seconds=1e12, failures_seconds=1e12, tombstone_seconds=1e12)


def statuses(store: Store) -> dict[str, int]:
    return {status: count for status, count in store.reader().counts().items() if count}


def test_a_new_store_is_empty(tmp_path: Path) -> None:
    for durability in ("memory", "power"):
        store = open_store(tmp_path, durability)
        snapshot = store.load()
        assert (snapshot.lanes, snapshot.queued, snapshot.running) == ([], {}, [])
        assert (snapshot.key_ceiling, snapshot.token_ceiling, snapshot.next_position) == (0, 0, 1)
        assert snapshot.next_due_at is None
        assert not any(store.reader().counts().values())
        store.close()


def test_load_gives_what_the_core_starts_from(store: Store) -> None:
    running = run_job(make_job(3))
    store.save(
        Saves(
            inserts=[
                make_job(1),
                make_job(2, lane=2),
                running,
                make_job(4, status=TaskStatus.SCHEDULED, position=None, due_at=50.0, ready_at=50.0),
                make_job(5, expires_at=40.0, due_at=40.0),
                make_job(6),
            ],
            finishes=[make_finish(6)],
            key_ceiling=1000,
            token_ceiling=500,
        )
    )
    snapshot = store.load()
    assert snapshot.lanes == [LANE, OTHER_LANE]
    assert snapshot.queued == {1: 2, 2: 1}
    assert snapshot.scheduled == 1
    assert snapshot.running == [running._replace(payload=None)]
    assert (snapshot.key_ceiling, snapshot.token_ceiling) == (1000, 500)
    assert snapshot.next_position == 1001
    assert snapshot.next_due_at == 40.0


def test_a_job_is_recalled_as_it_was_saved(store: Store) -> None:
    options = JobOptions(
        keep_result=False, callback="client:ab", callback_data=b"\x00", parent=b"p"
    )
    row = make_job(1, options=options, ready_at=1.5, expires_at=9.5, due_at=9.5, deaths=2)
    store.save(Saves(inserts=[row]))
    known = store.recall(Questions(ids=[row.id, job_id(99)]))
    assert known.jobs == {row.id: (row, None)}


@pytest.mark.parametrize("count", [1, 7, 40, 51, 300])
def test_batches_of_any_size_are_saved_and_recalled(store: Store, count: int) -> None:
    rows = [make_job(key) for key in range(1, count + 1)]
    store.save(Saves(inserts=rows))
    assert len(store.recall(Questions(ids=[row.id for row in rows])).jobs) == count
    store.save(Saves(updates=[run_job(row) for row in rows]))
    assert statuses(store) == {"running": count}
    store.save(Saves(finishes=[make_finish(row.key) for row in rows]))
    assert statuses(store) == {"success": count}
    assert store.reader().payloads([row.key for row in rows]) == {}


def test_an_update_changes_the_job_and_not_its_payload(store: Store) -> None:
    store.save(Saves(inserts=[make_job(1)]))
    changed = run_job(make_job(1))._replace(payload=None)
    store.save(Saves(updates=[changed]))
    known = store.recall(Questions(ids=[changed.id], refills=[RefillQuestion(1, -1, 10)]))
    assert known.jobs[changed.id].row == changed._replace(payload=b"arguments")
    assert known.refills == {1: []}


def test_of_two_updates_of_a_job_the_last_counts(store: Store) -> None:
    row = make_job(1)
    store.save(Saves(inserts=[row]))
    store.save(Saves(updates=[run_job(row), row._replace(position=8, attempts=1)]))
    assert store.recall(Questions(ids=[row.id])).jobs[row.id].row == row._replace(
        position=8, attempts=1
    )
    assert statuses(store) == {"queued": 1}


def test_refills_come_in_order_of_position_after_the_last_one(store: Store) -> None:
    store.save(Saves(inserts=[make_job(key, position=100 - key) for key in range(1, 10)]))
    store.save(Saves(inserts=[make_job(20, lane=2, position=5)]))
    store.save(Saves(updates=[run_job(make_job(4))]))

    def positions(after: int, limit: int) -> list[int | None]:
        known = store.recall(Questions(refills=[RefillQuestion(1, after, limit)]))
        return [row.position for row in known.refills[1]]

    assert positions(-1, 100) == [91, 92, 93, 94, 95, 97, 98, 99]
    assert positions(94, 2) == [95, 97]
    assert positions(99, 10) == []
    both = store.recall(Questions(refills=[RefillQuestion(1, 98, 9), RefillQuestion(2, -1, 9)]))
    assert {lane: [row.key for row in found] for lane, found in both.refills.items()} == {
        1: [1],
        2: [20],
    }


def test_large_payloads_are_left_in_the_store(store: Store) -> None:
    small, large = b"s" * INLINE_PAYLOAD_BYTES, b"l" * (INLINE_PAYLOAD_BYTES + 1)
    store.save(Saves(inserts=[make_job(1, payload=small), make_job(2, payload=large)]))
    known = store.recall(Questions(refills=[RefillQuestion(1, -1, 10)], ids=[job_id(2)]))
    assert [row.payload for row in known.refills[1]] == [small, None]
    assert known.jobs[job_id(2)].row.payload is None
    assert store.reader().payloads([1, 2, 3]) == {1: small, 2: large}


def test_due_jobs_come_in_order_and_the_next_moment_is_told(store: Store) -> None:
    moments = {1: 30.0, 2: 10.0, 3: 20.0, 4: 40.0}
    store.save(
        Saves(
            inserts=[
                make_job(key, status=TaskStatus.SCHEDULED, position=None, due_at=at)
                for key, at in moments.items()
            ]
        )
    )

    def due(before: float, limit: int = 1000) -> tuple[list[int], float | None]:
        known = store.recall(Questions(due_before=before, due_limit=limit))
        return [row.key for row in known.due], known.next_due_at

    assert due(5.0) == ([], 10.0)
    assert due(30.0) == ([2, 3, 1], 40.0)
    assert due(30.0, limit=1) == ([2], 20.0)
    assert due(99.0) == ([2, 3, 1, 4], None)
    store.save(Saves(updates=[make_job(2)], finishes=[make_finish(3)]))
    assert due(30.0) == ([1], 40.0)


def test_an_end_is_recorded_with_its_value(store: Store) -> None:
    row = run_job(make_job(1))
    store.save(Saves(inserts=[row]))
    finish = make_finish(1)
    store.save(Saves(finishes=[finish]))
    known = store.recall(Questions(ids=[row.id])).jobs[row.id]
    assert known.finish == finish
    assert (known.row.status, known.row.position, known.row.payload) == ("success", None, None)
    (view,) = store.reader().views([row.id])
    assert (view.task, view.queue, view.priority) == ("shop.order", "default", 1)
    assert (view.status, view.value, view.result_kept) == (TaskStatus.SUCCESS, b"value", True)
    assert (view.started_at, view.finished_at, view.token) == (2000.0, 3001.0, 7)


def test_a_failure_keeps_its_text_and_its_arguments(store: Store) -> None:
    store.save(Saves(inserts=[make_job(1)], finishes=[make_failure(1)]))
    known = store.recall(Questions(ids=[job_id(1)])).jobs[job_id(1)]
    assert known.finish == make_failure(1)
    assert store.reader().payloads([1]) == {1: b"arguments"}
    (view,) = store.reader().views([job_id(1)])
    assert (view.failure, view.reason, view.result_kept) == (FAILED, "raised", True)


def test_a_success_without_a_value_is_known_and_not_kept(store: Store) -> None:
    store.save(Saves(inserts=[make_job(1)], finishes=[make_finish(1, value=None)]))
    (view,) = store.reader().views([job_id(1)])
    assert (view.status, view.result_kept, view.value) == (TaskStatus.SUCCESS, False, None)


def test_a_cancelled_job_without_a_failure_is_kept(store: Store) -> None:
    finish = make_finish(1, status=TaskStatus.CANCELLED, value=None)
    store.save(Saves(inserts=[make_job(1)], finishes=[finish]))
    assert store.recall(Questions(ids=[job_id(1)])).jobs[job_id(1)].finish == finish
    assert store.reader().views([job_id(1)])[0].result_kept


def test_a_duplicate_refuses_the_whole_transaction(store: Store) -> None:
    store.save(Saves(inserts=[make_job(1)]))
    again = make_job(2, id=job_id(1))
    with pytest.raises(DuplicateJob):
        store.save(Saves(inserts=[make_job(3), again], finishes=[make_finish(1)], key_ceiling=5))
    assert statuses(store) == {"queued": 1}
    assert store.load().key_ceiling == 0
    with pytest.raises(DuplicateJob):
        store.save(Saves(inserts=[make_job(4), make_job(5, id=job_id(4))]))
    store.save(Saves(inserts=[make_job(3)]))
    assert statuses(store) == {"queued": 2}


def test_a_terminal_state_never_changes(store: Store) -> None:
    store.save(Saves(inserts=[make_job(1), make_job(2)], finishes=[make_finish(1)]))
    for refused in (
        Saves(finishes=[make_failure(1)]),
        Saves(updates=[make_job(2), make_job(1)]),
        Saves(finishes=[make_finish(99)]),
        Saves(finishes=[make_finish(2), make_finish(2)]),
    ):
        with pytest.raises(InternalError):
            store.save(refused)
    assert statuses(store) == {"success": 1, "queued": 1}


def test_jobs_are_listed_newest_first_without_values(store: Store) -> None:
    rows = [make_job(key, lane=1 + key % 2) for key in range(1, 7)]
    store.save(Saves(inserts=rows, finishes=[make_finish(6)]))
    reader = store.reader()

    def keys(criteria: JobFilter) -> list[int]:
        return [key for key, _ in reader.jobs(criteria)]

    assert keys(JobFilter()) == [6, 5, 4, 3, 2, 1]
    assert keys(JobFilter(limit=2, before_key=5)) == [4, 3]
    assert keys(JobFilter(status="success")) == [6]
    assert keys(JobFilter(task="shop.mail", status="queued")) == [5, 3, 1]
    assert keys(JobFilter(queue="nowhere")) == []
    assert reader.jobs(JobFilter(limit=1))[0][1].value is None


def test_old_results_leave_a_tombstone_that_goes_later(store: Store) -> None:
    store.save(
        Saves(
            inserts=[make_job(1), make_job(2)],
            finishes=[make_finish(1, finished_at=100.0), make_finish(2, finished_at=500.0)],
        )
    )
    retention = Retention(results_seconds=100.0, tombstone_seconds=1000.0)
    assert store.prune(retention, now=199.0) == (0, 0, False)
    assert store.prune(retention, now=250.0) == (1, 0, False)
    first, second = sorted(store.reader().views([job_id(1), job_id(2)]))
    assert (first.result_kept, first.value, first.status) == (False, None, TaskStatus.SUCCESS)
    assert second.result_kept
    with pytest.raises(DuplicateJob):
        store.save(Saves(inserts=[make_job(9, id=job_id(1))]))
    assert store.prune(retention, now=1249.0) == (1, 0, False)
    assert store.prune(retention, now=1250.0) == (0, 1, False)
    assert [view.id for view in store.reader().views([job_id(1), job_id(2)])] == [job_id(2)]
    assert statuses(store) == {"success": 1}


def test_results_are_bounded_by_count_and_by_bytes_oldest_first(store: Store) -> None:
    keys = range(1, 11)
    store.save(
        Saves(
            inserts=[make_job(key) for key in keys],
            finishes=[make_finish(11 - key, value=b"v" * 100) for key in keys],
        )
    )

    def kept() -> list[int]:
        return [key for key, view in store.reader().jobs(JobFilter()) if view.result_kept]

    store.prune(KEEP_ALL._replace(results_count=8), now=0.0)
    assert kept() == [8, 7, 6, 5, 4, 3, 2, 1]
    store.prune(KEEP_ALL._replace(results_bytes=599), now=0.0)
    assert kept() == [5, 4, 3, 2, 1]
    store.prune(KEEP_ALL._replace(tombstones_count=3), now=0.0)
    assert statuses(store) == {"success": 8}


def test_pruning_goes_in_bounded_rounds(store: Store) -> None:
    keys = range(1, 26)
    store.save(
        Saves(inserts=[make_job(key) for key in keys], finishes=[make_finish(key) for key in keys])
    )
    retention = Retention(results_seconds=1.0)
    rounds = [store.prune(retention, now=9000.0, limit=10) for _ in range(3)]
    assert rounds == [(10, 0, True), (10, 0, True), (5, 0, False)]


def test_failures_are_kept_longer_and_drop_their_arguments_at_last(store: Store) -> None:
    dead = make_failure(2, status=TaskStatus.DEAD, finished_at=110.0)
    store.save(
        Saves(
            inserts=[make_job(key) for key in (1, 2, 3)],
            finishes=[make_failure(1, finished_at=100.0), dead, make_finish(3, finished_at=100.0)],
        )
    )
    retention = Retention(results_seconds=10.0, failures_seconds=1000.0, results_count=0)
    assert store.prune(retention, now=500.0).results == 1
    assert store.recall(Questions(ids=[dead.id])).jobs[dead.id].finish == dead
    assert store.prune(retention, now=1105.0).results == 1
    assert store.reader().payloads([1, 2]) == {2: b"arguments"}
    assert not store.reader().views([job_id(1)])[0].result_kept


def test_callbacks_wait_until_they_are_due_and_settled(store: Store) -> None:
    early, late = make_callback(1, at=10.0), make_callback(2, at=20.0)
    assert store.next_callback_at() is None
    store.save(Saves(inserts=[make_job(1)], finishes=[make_finish(1)], callbacks=[late, early]))
    assert store.next_callback_at() == 10.0
    assert store.next_callback_at(after=10.0) == 20.0
    assert store.next_callback_at(after=20.0) is None
    assert store.due_callbacks(now=9.0) == []
    assert store.due_callbacks(now=20.0) == [early, late]
    assert store.due_callbacks(now=20.0, limit=1) == [early]
    store.settle_callbacks([early.delivery], [CallbackTry(late.delivery, 60.0, 1, "no answer")])
    assert store.next_callback_at() == 60.0
    tried = late._replace(next_attempt_at=60.0, attempts=1, problem="no answer")
    assert store.due_callbacks(now=60.0) == [tried]


def test_a_callback_that_is_given_up_is_shown_for_as_long_as_a_dead_letter(store: Store) -> None:
    one = make_callback(1, at=10.0)._replace(data=b"data", tenant="shop")
    other = make_callback(2, at=20.0)
    store.save(Saves(inserts=[make_job(1)], finishes=[make_finish(1)], callbacks=[one, other]))
    given_up = CallbackTry(one.delivery, math.inf, 30, "no answer", given_up_at=100.0)
    store.settle_callbacks([], [given_up])
    assert store.due_callbacks(now=1e12) == [other]
    assert store.next_callback_at() == 20.0
    store.settle_callbacks([], [CallbackTry(other.delivery, 30.0, 1, "refused")])

    reader = store.reader()
    shown = one._replace(**given_up._asdict(), data=None)
    tried = other._replace(next_attempt_at=30.0, attempts=1, problem="refused")
    assert reader.callbacks(CallbackFilter()) == [tried, shown]
    assert reader.callbacks(CallbackFilter(limit=1)) == [tried]
    assert reader.callbacks(CallbackFilter(tenant="shop")) == [shown]
    assert reader.callbacks(CallbackFilter(tenant="shop", given_up=False)) == []
    assert reader.callbacks(CallbackFilter(given_up=True)) == [shown]

    store.settle_callbacks([other.delivery], [])
    assert store.next_callback_at() is None
    retention = Retention(failures_seconds=1000.0)
    store.prune(retention, now=1099.0)
    assert reader.callbacks(CallbackFilter()) == [shown]
    store.prune(retention, now=1100.0)
    assert reader.callbacks(CallbackFilter()) == []
