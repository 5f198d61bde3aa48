"""What every store does about attempts, dead letters, idempotency keys and paused queues."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastworker.core.records import (
    AttemptView,
    BacklogRow,
    Failure,
    JobOptions,
    PauseRow,
    Saves,
    TaskStatus,
)
from fastworker.store.contract import (
    INLINE_PAYLOAD_BYTES,
    DeadFilter,
    DuplicateJob,
    JobFilter,
    KnownKey,
    Questions,
    RefillQuestion,
    Store,
)
from fastworker.store.opening import open_store
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

POISONED = Failure("", "killed by signal 9", "", "poison")


def told(store: Store, key: int) -> list[AttemptView]:
    return store.reader().attempts(job_id(key))


def dead_keys(store: Store, criteria: DeadFilter | None = None) -> list[int]:
    return [key for key, _ in store.reader().dead(criteria or DeadFilter())]


def test_a_retry_changes_the_counts_and_a_lease_keeps_them(store: Store) -> None:
    row = make_job(1)
    store.save(Saves(inserts=[row]))
    waiting = row._replace(
        status=TaskStatus.SCHEDULED,
        position=None,
        ready_at=70.0,
        due_at=70.0,
        token=7,
        session=b"s" * 16,
        attempts=1,
        failures=1,
        first_started_at=60.0,
    )
    store.save(Saves(updates=[waiting]))
    assert store.recall(Questions(ids=[row.id])).jobs[row.id].row == waiting
    leased = run_job(waiting, token=8)._replace(attempts=2, started_at=None)
    store.save(Saves(updates=[leased]))
    assert store.recall(Questions(ids=[row.id])).jobs[row.id].row == leased


def test_a_retry_and_the_next_lease_in_one_turn_are_both_counted(store: Store) -> None:
    row = make_job(1)
    store.save(Saves(inserts=[row], updates=[run_job(row)]))
    again = run_job(row, token=8)._replace(
        attempts=2, started_at=None, ready_at=60.0, failures=1, first_started_at=50.0
    )
    store.save(Saves(updates=[again], attempts=[make_attempt(1, 7)]))
    assert store.recall(Questions(ids=[row.id])).jobs[row.id].row == again


def test_the_attempts_of_a_job_are_told_first_to_last_with_their_workers(store: Store) -> None:
    other = make_worker(b"o" * 16, label="shop-2", host="host-b", pid=12)
    store.save(
        Saves(
            inserts=[run_job(make_job(1), token=9)._replace(session=b"o" * 16, attempts=3)],
            attempts=[
                make_attempt(1, 8, session=b"gone".ljust(16), outcome="runner_died", error="kill"),
                make_attempt(1, 7),
            ],
            workers=[make_worker(), other],
        )
    )
    first = AttemptView(
        *(7, "shop-1", "host-a", 4711, 1500.0, 1600.0, "retried", "ValueError: no such order")
    )
    second = AttemptView(8, None, None, None, 1500.0, 1600.0, "runner_died", "kill")
    running = AttemptView(9, "shop-2", "host-b", 12, 2000.0, None, "running", "")
    assert told(store, 1) == [first, second, running]
    store.save(Saves(finishes=[make_failure(1, token=9)], workers=[other._replace(label="new")]))
    failed = running._replace(
        worker="new",
        finished_at=3001.0,
        outcome="failure",
        error="ValueError: no such order",
    )
    assert told(store, 1) == [first, second, failed]


def test_a_job_that_never_started_has_no_attempts(store: Store) -> None:
    expired = make_finish(
        2, status=TaskStatus.EXPIRED, token=0, attempts=0, started_at=None, value=None
    )
    store.save(Saves(inserts=[make_job(1), make_job(2)], finishes=[expired]))
    assert (told(store, 1), told(store, 2), told(store, 99)) == ([], [], [])


def test_an_attempt_that_was_given_back_is_told_once(store: Store) -> None:
    row = make_job(1)
    waiting = row._replace(token=7, session=b"s" * 16, attempts=1)
    store.save(Saves(inserts=[row], updates=[waiting], attempts=[make_attempt(1, 7)]))
    assert [view.outcome for view in told(store, 1)] == ["retried"]
    cancelled = make_finish(1, status=TaskStatus.CANCELLED, started_at=None, value=None)
    store.save(Saves(finishes=[cancelled]))
    assert [view.outcome for view in told(store, 1)] == ["retried"]


def test_a_last_attempt_that_is_recorded_by_itself_is_told_once(store: Store) -> None:
    dead = make_failure(1, status=TaskStatus.DEAD, failure=POISONED)
    died = make_attempt(1, dead.token, outcome="runner_died")
    store.save(Saves(inserts=[make_job(1)], finishes=[dead], attempts=[died]))
    assert [view.outcome for view in told(store, 1)] == ["runner_died"]


def test_a_late_outcome_that_ended_the_job_counts_more_than_its_expired_lease(
    store: Store,
) -> None:
    row = make_job(1)
    store.save(Saves(inserts=[row]))
    store.save(Saves(updates=[run_job(row, token=7)]))
    expired = make_attempt(1, 7, outcome="lease_expired")
    store.save(Saves(attempts=[expired], updates=[row._replace(token=7)]))
    store.save(Saves(finishes=[make_finish(1)]))
    assert [(view.token, view.outcome) for view in told(store, 1)] == [(7, "success")]


def test_dead_letters_are_listed_newest_first_and_filtered(store: Store) -> None:
    poisoned = make_failure(3, status=TaskStatus.DEAD, failure=POISONED, token=9, finished_at=50.0)
    store.save(
        Saves(
            inserts=[make_job(key, lane=1 + key % 2) for key in range(1, 9)],
            finishes=[
                make_failure(5, finished_at=70.0),
                make_failure(1, finished_at=60.0, failure=Failure("KeyError", "", "", "raised")),
                poisoned,
                make_finish(6),
                make_finish(7, status=TaskStatus.CANCELLED, value=None, failure=POISONED),
                make_failure(2, finished_at=80.0, failure=None),
                make_failure(
                    8,
                    status=TaskStatus.DEAD,
                    finished_at=40.0,
                    failure=POISONED._replace(reason="a fpoison"),
                ),
            ],
        )
    )
    assert dead_keys(store) == [8, 5, 3, 2, 1]
    assert dead_keys(store, DeadFilter(limit=2)) == [8, 5]
    assert dead_keys(store, DeadFilter(limit=2, before_key=3)) == [2, 1]
    assert dead_keys(store, DeadFilter(task="shop.order")) == [8, 2]
    assert dead_keys(store, DeadFilter(error="KeyError")) == [1]
    assert dead_keys(store, DeadFilter(error="Key")) == []
    assert dead_keys(store, DeadFilter(error="poison")) == [3]
    # A reason that ends in the same bytes is another reason; that of a FAILURE is none.
    assert dead_keys(store, DeadFilter(error="raised")) == []
    assert dead_keys(store, DeadFilter(ended_before=70.0)) == [8, 3, 1]
    assert dead_keys(store, DeadFilter(ended_after=70.0)) == [5, 2]
    (letter,) = store.reader().dead(DeadFilter(error="poison"))
    assert letter[1] == store.reader().views([job_id(3)])[0]


def test_a_replayed_dead_letter_points_to_its_repetition_and_back(store: Store) -> None:
    store.save(Saves(inserts=[make_job(1)], finishes=[make_failure(1)]))
    again = make_job(2, options=JobOptions(replay_of=job_id(1)))
    store.save(Saves(inserts=[again], replays=[(1, again.id)]))
    assert dead_keys(store) == []
    old, new = store.reader().views([job_id(1), job_id(2)])
    assert (old.replay_of, old.replayed_by) == (None, again.id)
    assert (new.replay_of, new.replayed_by) == (job_id(1), None)
    listed = dict(store.reader().jobs(JobFilter()))
    assert (listed[1], listed[2]) == (old, new)
    assert store.recall(Questions(ids=[again.id])).jobs[again.id].row == again
    assert store.discard([1], now=5000.0) == 0
    assert store.reader().payloads([1]) == {1: b"arguments"}


def test_discarded_dead_letters_become_tombstones(store: Store) -> None:
    dead = make_failure(2, status=TaskStatus.DEAD, failure=POISONED)
    store.save(
        Saves(
            inserts=[make_job(key) for key in range(1, 6)],
            finishes=[make_failure(1), dead, make_finish(3), make_failure(4)],
            attempts=[make_attempt(1, 5)],
        )
    )
    assert store.discard([2, 1, 1, 3, 5, 99], now=5000.0) == 2
    assert store.discard([1], now=5001.0) == 0
    assert dead_keys(store) == [4]
    assert store.reader().payloads([1, 2, 4, 5]) == {4: b"arguments", 5: b"arguments"}
    first, second, third = store.reader().views([job_id(1), job_id(2), job_id(3)])
    assert (first.status, first.result_kept, first.failure) == (TaskStatus.FAILURE, False, None)
    assert (second.status, second.result_kept) == (TaskStatus.DEAD, False)
    assert third.result_kept
    assert [view.outcome for view in told(store, 1)] == ["retried", "failure"]


def test_an_idempotency_key_is_known_with_whether_its_job_ended(store: Store) -> None:
    first, second = make_key("a", 1), make_key("a", 2, task="shop.mail")
    store.save(Saves(inserts=[make_job(1), make_job(2)], keys=[first, second]))
    names = [first[:3], second[:3], ("default", "shop.order", "b")]
    assert store.recall(Questions(keys=names)).keys == {
        first[:3]: KnownKey(first, ended=False),
        second[:3]: KnownKey(second, ended=False),
    }
    newer = make_key("a", 3, until=9000.0)
    store.save(
        Saves(inserts=[make_job(3)], keys=[newer], finishes=[make_finish(2), make_failure(3)])
    )
    assert store.recall(Questions(keys=names)).keys == {
        first[:3]: KnownKey(newer, ended=True),
        second[:3]: KnownKey(second, ended=True),
    }
    many = [make_key(str(number), 1) for number in range(600)]
    store.save(Saves(keys=many))
    assert len(store.recall(Questions(keys=[row[:3] for row in many])).keys) == 600


def test_queues_are_paused_until_they_are_resumed(store: Store) -> None:
    assert store.load().paused == frozenset()
    mail, images = PauseRow("default", "mail", True), PauseRow("default", "images", True)
    store.save(Saves(pauses=[mail, images, mail]))
    store.save(Saves(pauses=[mail._replace(paused=False)]))
    assert store.load().paused == {("default", "images")}
    store.save(Saves(pauses=[images._replace(paused=False), mail, images]))
    assert store.load().paused == {("default", "images"), ("default", "mail")}


def test_backlogs_are_as_they_were_written_last(store: Store) -> None:
    assert store.load().backlogs == []
    first, other = BacklogRow("default", 2, 18), BacklogRow("acme", 1, 9)
    store.save(Saves(inserts=[make_job(1), make_job(2)], backlogs=[first, other]))
    store.save(Saves(backlogs=[first._replace(jobs=1, size=9)]))
    assert sorted(store.load().backlogs) == [other, BacklogRow("default", 1, 9)]
    # With a transaction that is refused they stay.
    with pytest.raises(DuplicateJob):
        store.save(Saves(inserts=[make_job(1)], backlogs=[BacklogRow("default", 9, 99)]))
    assert sorted(store.load().backlogs) == [other, BacklogRow("default", 1, 9)]


def test_rows_tell_how_large_arguments_are_that_are_not_loaded(store: Store) -> None:
    large = make_job(1, payload=bytes(INLINE_PAYLOAD_BYTES + 1))
    leased = run_job(make_job(2, payload=b"12345"))
    put_off = make_job(3, status=TaskStatus.SCHEDULED, position=None, ready_at=7.0, due_at=7.0)
    store.save(Saves(inserts=[large, leased, put_off]))
    asked = Questions(ids=[large.id], refills=[RefillQuestion(1, -1, 10)], due_before=8.0)
    known = store.recall(asked)
    rows = [known.jobs[large.id].row, known.refills[1][0], known.due[0], *store.load().running]
    sizes = [INLINE_PAYLOAD_BYTES + 1, INLINE_PAYLOAD_BYTES + 1, 9, 5]
    assert [row.size for row in rows] == sizes
    assert [row.payload for row in rows] == [None, None, b"arguments", None]


@pytest.mark.parametrize("durability", ["power", "process"])
def test_history_is_there_after_a_restart(tmp_path: Path, durability: str) -> None:
    store = open_store(tmp_path, durability)
    store.save(
        Saves(
            inserts=[run_job(make_job(1), token=9)],
            attempts=[make_attempt(1, 7)],
            workers=[make_worker()],
            keys=[make_key("a", 1)],
            pauses=[PauseRow("default", "mail", True)],
        )
    )
    before = told(store, 1)
    store.close()
    store = open_store(tmp_path, durability)
    assert store.load().paused == {("default", "mail")}
    assert told(store, 1) == before
    known = store.recall(Questions(keys=[make_key("a", 1)[:3]])).keys
    assert [key.row for key in known.values()] == [make_key("a", 1)]
    store.close()
