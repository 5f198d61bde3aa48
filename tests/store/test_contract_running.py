"""What running jobs leave in every store: checkpoints and lines."""

from __future__ import annotations

from fastworker.core.records import CheckpointRow, LineRow, Saves, TaskStatus
from fastworker.store.contract import Retention, Store
from tests.store.builders import job_id, make_failure, make_finish, make_job

KEEP_ALL = Retention(results_seconds=1e12, failures_seconds=1e12, tombstone_seconds=1e12)
FORGET_RESULTS = KEEP_ALL._replace(results_seconds=0.0)
FORGET_ALL = Retention(results_seconds=0.0, failures_seconds=0.0, tombstone_seconds=0.0)


def line(key: int, number: int, text: str = "") -> LineRow:
    return LineRow(key, number, number // 1024, 1000.0, 20, text)


def texts(store: Store, key: int, *, after: int = 0, limit: int = 100) -> list[str]:
    found = store.reader().lines(job_id(key), after=after, limit=limit)
    return [row.text for row in found]


def test_a_checkpoint_is_replaced_and_removed(store: Store) -> None:
    store.save(Saves(inserts=[make_job(1), make_job(2)]))
    rows = [CheckpointRow(1, 7, 1.0, b"one"), CheckpointRow(2, 8, 1.0, b"two")]
    store.save(Saves(checkpoints=rows))
    store.save(Saves(checkpoints=[rows[0]._replace(value=b"a"), rows[0]._replace(value=b"b")]))
    assert store.reader().checkpoints([1, 2, 3]) == {1: b"b", 2: b"two"}
    assert store.load().checkpointed == {1, 2}
    store.save(Saves(left_checkpoints=[1]))
    assert store.reader().checkpoints([1, 2]) == {2: b"two"}


def test_lines_are_read_in_order_from_anywhere(store: Store) -> None:
    store.save(Saves(inserts=[make_job(1), make_job(2)]))
    store.save(Saves(lines=[line(1, 2050, "c"), line(1, 1024, "a"), line(2, 1024, "other")]))
    store.save(Saves(lines=[line(1, 1025, "b"), line(1, 1024, "a")]))
    assert texts(store, 1) == ["a", "b", "c"]
    assert texts(store, 1, after=1024) == ["b", "c"]
    assert texts(store, 1, after=1024, limit=1) == ["b"]
    assert texts(store, 3) == []
    whole = store.reader().lines(job_id(2), after=0, limit=1)
    assert whole == [line(2, 1024, "other")]


def test_lines_of_old_attempts_are_forgotten_on_demand(store: Store) -> None:
    store.save(Saves(inserts=[make_job(1)]))
    store.save(Saves(lines=[line(1, 1024, "old"), line(1, 2048, "new")], left_lines=[(1, 1)]))
    assert texts(store, 1) == ["new"]


def test_lines_go_with_the_result(store: Store) -> None:
    store.save(Saves(inserts=[make_job(1), make_job(2), make_job(3)]))
    store.save(Saves(lines=[line(key, 1024, "said") for key in (1, 2, 3)]))
    store.save(Saves(finishes=[make_finish(1), make_failure(2)]))
    store.prune(KEEP_ALL, now=10_000.0)
    assert [texts(store, key) for key in (1, 2, 3)] == [["said"]] * 3
    store.prune(FORGET_RESULTS, now=10_000.0)
    assert [texts(store, key) for key in (1, 2, 3)] == [[], ["said"], ["said"]]
    store.discard([2], now=10_000.0)
    assert [texts(store, key) for key in (1, 2, 3)] == [[], [], ["said"]]


def test_lines_of_a_job_without_a_result_go_with_its_tombstone(store: Store) -> None:
    store.save(Saves(inserts=[make_job(1)], lines=[line(1, 1024, "said")]))
    store.save(Saves(finishes=[make_finish(1, value=None, status=TaskStatus.SUCCESS)]))
    assert texts(store, 1) == ["said"]
    store.prune(FORGET_ALL, now=10_000.0)
    store.prune(FORGET_ALL, now=20_000.0)
    assert texts(store, 1) == []
