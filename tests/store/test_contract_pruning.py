"""How every store forgets attempts, idempotency keys and workers: in bounded rounds."""

from __future__ import annotations

from fastworker.core.records import Saves
from fastworker.store.contract import Questions, Retention, Store
from tests.store.builders import (
    job_id,
    make_attempt,
    make_failure,
    make_finish,
    make_job,
    make_key,
    make_worker,
    run_job,
)

KEEP_ALL = Retention(results_seconds=1e12, failures_seconds=1e12, tombstone_seconds=1e12)
FORGET_ALL = Retention(results_seconds=0.0, failures_seconds=0.0, tombstone_seconds=0.0)


def known(store: Store, *names: str) -> list[str]:
    asked = [make_key(name, 1)[:3] for name in names]
    return sorted(key for _, _, key in store.recall(Questions(keys=asked)).keys)


def test_a_key_goes_when_its_time_is_up_and_its_job_has_ended(store: Store) -> None:
    keys = [
        make_key("early, ended", 1, until=100.0),
        make_key("early, waits", 2, until=100.0),
        make_key("late, ended", 1, until=101.0),
        make_key("early, job unknown", 99, until=50.0),
    ]
    store.save(Saves(inserts=[make_job(1), make_job(2)], finishes=[make_finish(1)], keys=keys))
    names = [row.key for row in keys]
    store.prune(KEEP_ALL, now=49.0)
    assert known(store, *names) == sorted(names)
    store.prune(KEEP_ALL, now=100.0)
    assert known(store, *names) == ["early, waits", "late, ended"]
    store.save(Saves(finishes=[make_finish(2)]))
    store.prune(KEEP_ALL, now=200.0)
    assert known(store, *names) == []


def test_a_key_that_was_given_again_is_kept_for_its_new_time(store: Store) -> None:
    store.save(
        Saves(
            inserts=[make_job(1), make_job(2)],
            finishes=[make_finish(1), make_finish(2)],
            keys=[make_key("a", 1, until=100.0)],
        )
    )
    store.save(Saves(keys=[make_key("a", 2, until=300.0)]))
    store.prune(KEEP_ALL, now=200.0)
    assert known(store, "a") == ["a"]


def test_keys_of_waiting_jobs_do_not_keep_others_from_going(store: Store) -> None:
    waiting = [make_key(f"w{number}", 1, until=10.0) for number in range(7)]
    ended = [make_key(f"z{number}", 2, until=20.0) for number in range(5)]
    store.save(
        Saves(
            inserts=[make_job(1), make_job(2)],
            finishes=[make_finish(2)],
            keys=[*waiting, *ended],
        )
    )
    names = [row.key for row in (*waiting, *ended)]
    left = []
    for _ in range(5):
        report = store.prune(KEEP_ALL, now=100.0, limit=3)
        left.append(len(known(store, *names)))
        if not report.more:
            break
    assert left[0] >= 9
    assert known(store, *names) == [row.key for row in waiting]
    assert not store.prune(KEEP_ALL, now=101.0, limit=100).more


def test_attempts_go_with_the_last_trace_of_their_job(store: Store) -> None:
    store.save(
        Saves(
            inserts=[make_job(1), run_job(make_job(2), token=30)],
            finishes=[make_failure(1, token=20)],
            attempts=[make_attempt(1, 10), make_attempt(2, 11)],
        )
    )
    retention = KEEP_ALL._replace(failures_seconds=100.0, tombstone_seconds=100.0)
    assert store.prune(retention, now=3200.0) == (1, 0, False)
    assert len(store.reader().attempts(job_id(1))) == 2
    assert store.prune(retention, now=3300.0) == (0, 1, False)
    assert store.reader().attempts(job_id(1)) == []
    assert len(store.reader().attempts(job_id(2))) == 2
    # The same job again: nothing of the old one is left.
    store.save(Saves(inserts=[make_job(1)]))
    assert store.reader().attempts(job_id(1)) == []


def test_jobs_of_many_attempts_are_forgotten_in_bounded_rounds(store: Store) -> None:
    attempts = [make_attempt(key, token) for key in (1, 2, 3) for token in range(10, 35)]
    store.save(
        Saves(
            inserts=[make_job(key) for key in (1, 2, 3)],
            finishes=[make_failure(key, token=99) for key in (1, 2, 3)],
            attempts=attempts,
        )
    )
    rounds = 1
    while store.prune(FORGET_ALL, now=9000.0, limit=10).more:
        rounds += 1
        assert rounds < 30
    assert store.reader().views([job_id(key) for key in (1, 2, 3)]) == []
    assert not any(store.reader().counts().values())


def test_workers_are_forgotten_when_no_attempt_can_name_them(store: Store) -> None:
    old, new = make_worker(seen_at=100.0), make_worker(b"n" * 16, label="shop-2", seen_at=900.0)
    store.save(
        Saves(
            workers=[old, new],
            inserts=[run_job(make_job(1)), run_job(make_job(2))._replace(session=b"n" * 16)],
        )
    )
    retention = Retention(results_seconds=10, failures_seconds=500.0, tombstone_seconds=100.0)

    def labels() -> list[str | None]:
        reader = store.reader()
        return [view.worker for key in (1, 2) for view in reader.attempts(job_id(key))]

    assert store.prune(retention, now=699.0) == (0, 0, False)
    assert labels() == ["shop-1", "shop-2"]
    assert store.prune(retention, now=700.0, limit=1) == (0, 0, True)
    assert store.prune(retention, now=700.0, limit=1) == (0, 0, False)
    assert labels() == [None, "shop-2"]


def test_discarded_dead_letters_count_as_tombstones(store: Store) -> None:
    keys = (1, 2, 3)
    store.save(
        Saves(inserts=[make_job(key) for key in keys], finishes=[make_failure(key) for key in keys])
    )
    assert store.discard(keys, now=5000.0) == 3
    assert store.prune(KEEP_ALL._replace(tombstones_count=2), now=5001.0) == (0, 1, False)
    assert store.prune(KEEP_ALL._replace(tombstones_count=0), now=5001.0) == (0, 2, False)
    assert not any(store.reader().counts().values())
