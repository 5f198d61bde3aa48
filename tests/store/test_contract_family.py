"""What every store does about jobs that belong to other jobs or to clients."""

from __future__ import annotations

from fastworker.core.records import FamilyRow, Saves, TaskStatus
from fastworker.store.contract import Store
from tests.store.builders import LANE, job_id, make_finish, make_job

OWNER, OTHER = b"o" * 16, b"p" * 16


def member(
    key: int, parent: int | None = None, owner: bytes | None = None, owned: float = 0.0
) -> FamilyRow:
    return FamilyRow(key, job_id(key), None if parent is None else job_id(parent), owner, owned)


def save(store: Store, *rows: FamilyRow) -> None:
    jobs = [make_job(row.key) for row in rows]
    store.save(Saves(lanes=[LANE], inserts=jobs, family=list(rows)))


def test_children_are_read_in_pages(store: Store) -> None:
    rows = [member(key, parent=1 if key % 2 else 2) for key in range(10, 20)]
    save(store, *rows, member(20, parent=3))
    reader = store.reader()
    parents = [job_id(1), job_id(2)]
    assert reader.children(parents) == rows
    assert reader.children(parents, limit=4) == rows[:4]
    assert reader.children(parents, after_key=rows[3].key, limit=100) == rows[4:]
    assert reader.children([job_id(2)], after_key=15) == rows[6::2]
    assert reader.children([job_id(9)]) == []


def test_owned_jobs_by_how_long_they_outlive_their_client(store: Store) -> None:
    rows = [member(key, owner=OWNER, owned=float(key)) for key in (1, 2, 3)]
    save(store, *rows, member(4, parent=1, owner=OTHER, owned=2.0), member(5, parent=1))
    reader = store.reader()
    assert reader.owned(OWNER, at_most=2.0) == rows[:2]
    assert reader.owned(OWNER, at_most=float("inf"), after_key=1, limit=1) == [rows[1]]
    assert reader.owners() == [(OWNER, 1.0), (OWNER, 2.0), (OWNER, 3.0), (OTHER, 2.0)]


def test_who_has_ended_has_left(store: Store) -> None:
    save(store, member(1, parent=9, owner=OWNER), member(2, parent=9))
    finishes = [make_finish(1), make_finish(2)]
    store.save(Saves(finishes=finishes, left_family=[1, 2, 77]))
    reader = store.reader()
    assert (reader.children([job_id(9)]), reader.owners()) == ([], [])


def test_job_that_ends_in_the_turn_of_its_arrival_stays_in_no_family(store: Store) -> None:
    job, row = make_job(1), member(1, parent=9)
    ended = make_finish(1)
    store.save(Saves(lanes=[LANE], inserts=[job], finishes=[ended], family=[row], left_family=[1]))
    assert store.reader().children([job_id(9)]) == []


def test_cancelled_jobs_with_children_left(store: Store) -> None:
    save(store, member(1, parent=9), member(2, parent=1), member(3, parent=2), member(4, parent=1))
    cancelled = make_finish(1, status=TaskStatus.CANCELLED)
    store.save(Saves(finishes=[cancelled, make_finish(2)], left_family=[1, 2]))
    assert store.reader().cancelled_parents() == [job_id(1)]
