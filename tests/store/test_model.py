"""Any sequence of operations gives the same answers from memory and from SQLite, which is closed
and opened again in between; and jobs that have not ended are always as they were last written."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fastworker.core.records import (
    FamilyRow,
    FinishRow,
    JobOptions,
    JobRow,
    PauseRow,
    Saves,
    TaskStatus,
)
from fastworker.errors import FastWorkerError, InternalError
from fastworker.store.contract import (
    INLINE_PAYLOAD_BYTES,
    DeadFilter,
    DuplicateJob,
    JobFilter,
    Known,
    Questions,
    RefillQuestion,
    Retention,
    Store,
    StoreReader,
)
from fastworker.store.opening import open_store
from tests.store.builders import (
    FAILED,
    LANE,
    OTHER_LANE,
    job_id,
    make_attempt,
    make_failure,
    make_finish,
    make_job,
    make_key,
    make_worker,
)

T = TypeVar("T")

SESSIONS = (b"a" * 16, b"b" * 16, b"never registered")
OWNERS = (b"o" * 16, b"p" * 16)
KEY_NAMES = ("k1", "k2", "k3")
LETTERS = (TaskStatus.FAILURE, TaskStatus.DEAD)
few = st.integers(min_value=1, max_value=4)
retentions = st.builds(
    Retention,
    results_seconds=st.sampled_from([0.0, 40.0, 1e9]),
    results_count=st.sampled_from([0, 2, 1000]),
    failures_seconds=st.sampled_from([0.0, 40.0, 1e9]),
    tombstone_seconds=st.sampled_from([0.0, 40.0, 1e9]),
    tombstones_count=st.sampled_from([0, 2, 1000]),
)


class TwoStores(RuleBasedStateMachine):
    """The same operations on both; ``live`` holds what jobs that have not ended must look like."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.memory = open_store(None, "memory")
        self.open_sqlite()
        self.now = 1000.0
        self.numbers = 0
        self.live: dict[int, JobRow] = {}
        self.all_keys: list[int] = []
        self.replayed: list[int] = []
        self.save(Saves(lanes=[LANE, OTHER_LANE]))

    def open_sqlite(self) -> None:
        self.sqlite = open_store(Path(self.folder.name), "process")
        self.reader = self.sqlite.reader()

    def teardown(self) -> None:
        self.sqlite.close()
        self.folder.cleanup()

    # --- asking both ---------------------------------------------------------------------------

    def both(self, ask: Callable[[Store], T]) -> T:
        """The answer, which must be the same; an error is one too."""
        return same(lambda: ask(self.memory), lambda: ask(self.sqlite))

    def both_read(self, ask: Callable[[StoreReader], T]) -> T:
        """As `both`, of reads."""
        return same(lambda: ask(self.memory.reader()), lambda: ask(self.reader))

    def save(self, saves: Saves) -> None:
        self.both(lambda store: store.save(saves))
        self.live.update((row.key, row) for row in saves.inserts)
        self.live.update((row.key, row) for row in saves.updates)
        for finish in saves.finishes:
            del self.live[finish.key]
        self.all_keys += [row.key for row in saves.inserts]

    def number(self) -> int:
        """Keys, positions and tokens, none of which is ever given twice."""
        self.numbers += 1
        return self.numbers

    def some(self, data: st.DataObject, *statuses: TaskStatus) -> list[JobRow]:
        """One to three live jobs, in order of their keys."""
        rows = [row for row in self.live.values() if not statuses or row.status in statuses]
        chosen = st.lists(st.sampled_from(rows), min_size=1, max_size=3, unique_by=lambda r: r.key)
        return sorted(data.draw(chosen), key=lambda row: row.key)

    def has(self, *statuses: TaskStatus) -> bool:
        return any(row.status in statuses for row in self.live.values())

    # --- what the core does --------------------------------------------------------------------

    @rule(seconds=st.sampled_from([1.0, 30.0, 100.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(
        count=few,
        lane=st.sampled_from([1, 2]),
        delay=st.sampled_from([None, 20.0]),
        expiry=st.sampled_from([None, 50.0]),
        payload=st.sampled_from([b"small", b"l" * (INLINE_PAYLOAD_BYTES + 1)]),
        key=st.sampled_from([None, *KEY_NAMES]),
        on_lost=st.sampled_from(["retry", "fail"]),
        parent=st.sampled_from([None, None, 1, 2, 5]),
        owner=st.sampled_from([None, None, *OWNERS]),
    )
    def submit(
        self,
        count: int,
        lane: int,
        delay: float | None,
        expiry: float | None,
        payload: bytes,
        key: str | None,
        on_lost: str,
        parent: int | None,
        owner: bytes | None,
    ) -> None:
        numbers = [self.number() for _ in range(count)]
        expires_at = None if expiry is None else self.now + expiry
        row = make_job(
            0,
            lane=lane,
            payload=payload,
            submitted_at=self.now,
            expires_at=expires_at,
            due_at=expires_at,
            options=JobOptions(on_lost=on_lost),
        )
        if delay is not None:
            due = self.now + delay
            row = row._replace(status=TaskStatus.SCHEDULED, ready_at=due, due_at=due, position=None)
        rows = [
            row._replace(key=n, id=job_id(n), position=n if delay is None else None)
            for n in numbers
        ]
        keys = [] if key is None else [make_key(key, numbers[0], until=self.now + 60.0)]
        family = []
        if parent is not None or owner is not None:
            above = None if parent is None else job_id(parent)
            family = [FamilyRow(n, job_id(n), above, owner, float(n % 3)) for n in numbers]
        self.save(Saves(inserts=rows, keys=keys, family=family, key_ceiling=numbers[-1]))

    @precondition(lambda self: self.live)
    @rule(data=st.data())
    def submit_again(self, data: st.DataObject) -> None:
        taken = self.some(data)[0]
        new = make_job(self.number())
        refused = Saves(
            inserts=[new, make_job(self.number(), id=taken.id)],
            keys=[make_key("k1", new.key, until=1e9)],
            pauses=[PauseRow("default", "refused", True)],
            attempts=[make_attempt(taken.key, self.number())],
            workers=[make_worker(b"refused".ljust(16))],
        )
        with pytest.raises(DuplicateJob):
            self.save(refused)

    @precondition(lambda self: self.has(TaskStatus.QUEUED))
    @rule(data=st.data(), session=st.sampled_from(SESSIONS))
    def lease(self, data: st.DataObject, session: bytes) -> None:
        rows = self.some(data, TaskStatus.QUEUED)
        self.save(Saves(updates=[self.leased(row, session) for row in rows]))

    def leased(self, row: JobRow, session: bytes) -> JobRow:
        return row._replace(
            status=TaskStatus.RUNNING,
            position=None,
            due_at=None,
            token=self.number(),
            session=session,
            attempts=row.attempts + 1,
            started_at=None,
        )

    @precondition(lambda self: self.has(TaskStatus.RUNNING))
    @rule(data=st.data())
    def start(self, data: st.DataObject) -> None:
        rows = self.some(data, TaskStatus.RUNNING)
        self.save(Saves(updates=[row._replace(started_at=self.now) for row in rows]))

    @precondition(lambda self: self.has(TaskStatus.RUNNING))
    @rule(
        data=st.data(),
        delay=st.sampled_from([None, 30.0]),
        counted=st.booleans(),
        session=st.sampled_from([None, *SESSIONS]),
    )
    def retry(
        self, data: st.DataObject, delay: float | None, counted: bool, session: bytes | None
    ) -> None:
        """Without a delay the job may be leased again in the same turn."""
        rows = self.some(data, TaskStatus.RUNNING)
        attempts = [
            make_attempt(row.key, row.token, session=row.session, finished_at=self.now)
            for row in rows
        ]
        waiting = [self.waiting(row, delay, counted) for row in rows]
        if session is not None and delay is None:
            waiting = [self.leased(row, session) for row in waiting]
        self.save(Saves(updates=waiting, attempts=attempts))

    def waiting(self, row: JobRow, delay: float | None, counted: bool) -> JobRow:
        first = self.now if row.first_started_at is None else row.first_started_at
        row = row._replace(started_at=None, failures=row.failures + counted, first_started_at=first)
        if delay is None:
            return row._replace(
                status=TaskStatus.QUEUED, position=self.number(), due_at=row.expires_at
            )
        ready_at = self.now + delay
        return row._replace(status=TaskStatus.SCHEDULED, ready_at=ready_at, due_at=ready_at)

    @precondition(lambda self: self.has(TaskStatus.SCHEDULED))
    @rule(data=st.data())
    def become_ready(self, data: st.DataObject) -> None:
        rows = self.some(data, TaskStatus.SCHEDULED)
        queued = [row._replace(status=TaskStatus.QUEUED, due_at=row.expires_at) for row in rows]
        self.save(Saves(updates=[row._replace(position=self.number()) for row in queued]))

    @precondition(lambda self: self.live)
    @rule(
        data=st.data(),
        status=st.sampled_from([status for status in TaskStatus if status.is_terminal]),
        value=st.sampled_from([None, b"value"]),
    )
    def finish(self, data: st.DataObject, status: TaskStatus, value: bytes | None) -> None:
        self.now += 1.0
        rows = self.some(data)
        left = [row.key for row in rows]
        ends = [self.ended(row, status, value) for row in rows]
        self.save(Saves(finishes=ends, left_family=left))

    def ended(self, row: JobRow, status: TaskStatus, value: bytes | None) -> FinishRow:
        facts = {
            "token": row.token,
            "attempts": row.attempts,
            "started_at": row.started_at,
            "finished_at": self.now,
        }
        if status in LETTERS:
            type_name = "builtins.KeyError" if row.key % 2 else "ValueError"
            failure = FAILED._replace(type_name=type_name, reason="poison")
            return make_failure(row.key, status=status, failure=failure, **facts)
        return make_finish(row.key, status=status, value=value, **facts)

    @rule(data=st.data())
    def write_to_a_job_that_is_not_there(self, data: st.DataObject) -> None:
        gone = [key for key in (*self.all_keys, 10**9) if key not in self.live]
        key = data.draw(st.sampled_from(gone))
        new = make_job(self.number())
        refused = Saves(inserts=[new], updates=[make_job(key)])
        if data.draw(st.booleans()):
            refused = Saves(inserts=[new], finishes=[make_finish(key)])
        with pytest.raises(InternalError):
            self.save(refused)

    # --- what people and the clock do ----------------------------------------------------------

    def letters(self) -> list[int]:
        return [key for key, _ in self.both_read(lambda reader: reader.dead(DeadFilter()))]

    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        if letters := self.letters():
            old = data.draw(st.sampled_from(letters))
            new = make_job(self.number(), options=JobOptions(replay_of=job_id(old)))
            self.save(Saves(inserts=[new], replays=[(old, new.id)]))
            self.replayed.append(old)
            assert old not in self.letters()

    @rule(data=st.data())
    def discard(self, data: st.DataObject) -> None:
        """Of other jobs as well, which does nothing to them."""
        self.now += 1.0
        letters = self.letters()
        if keys := [*letters, *self.replayed, *self.all_keys[:3]]:
            chosen = data.draw(st.lists(st.sampled_from(keys), max_size=4))
            count = self.both(lambda store: store.discard(chosen, now=self.now))
            assert count == len(set(chosen) & set(letters))
            assert self.letters() == [key for key in letters if key not in chosen]

    @rule(queue=st.sampled_from(["default", "mail"]), paused=st.booleans())
    def pause(self, queue: str, paused: bool) -> None:
        self.save(Saves(pauses=[PauseRow("default", queue, paused)]))

    @rule(session=st.sampled_from(SESSIONS[:2]), label=st.sampled_from(["one", "two"]))
    def register(self, session: bytes, label: str) -> None:
        self.save(Saves(workers=[make_worker(session, label=label, seen_at=self.now)]))

    @rule(
        retention=retentions,
        limit=st.sampled_from([1, 3, 1000]),
        later=st.sampled_from([0.0, 30.0, 100.0]),
    )
    def prune(self, retention: Retention, limit: int, later: float) -> None:
        """Stores may share the work out over their rounds as they like."""
        self.now += later
        removed = {id(store): [0, 0] for store in (self.memory, self.sqlite)}
        busy = True
        while busy:
            self.now += 0.001
            busy = False
            for store in (self.memory, self.sqlite):
                report = store.prune(retention, now=self.now, limit=limit)
                assert report.results + report.tombstones <= limit
                removed[id(store)][0] += report.results
                removed[id(store)][1] += report.tombstones
                busy |= report != (0, 0, False)
        assert removed[id(self.memory)] == removed[id(self.sqlite)]

    @rule()
    def reopen(self) -> None:
        self.sqlite.close()
        self.open_sqlite()

    # --- what must be the same whenever it is asked --------------------------------------------

    @invariant()
    def the_core_is_told_the_same(self) -> None:
        self.both(lambda store: store.load())
        ids = [job_id(key) for key in self.all_keys]
        refills = [RefillQuestion(1, -1, 100), RefillQuestion(2, self.numbers // 2, 2)]
        names = [make_key(name, 1)[:3] for name in KEY_NAMES]
        asked = Questions(ids, refills, due_before=self.now, due_limit=2, keys=names)
        known = self.both(lambda store: self.without_outdated_keys(store.recall(asked)))
        for row in self.live.values():
            payload = row.payload if len(row.payload or b"") <= INLINE_PAYLOAD_BYTES else None
            assert known.jobs[row.id] == (row._replace(payload=payload), None)

    def without_outdated_keys(self, known: Known) -> Known:
        """Whether a key that no longer holds is still there depends on the rounds of pruning."""
        held = {
            name: key
            for name, key in known.keys.items()
            if not (key.ended and key.row.until <= self.now)
        }
        known.keys = held
        return known

    @invariant()
    def reads_give_the_same(self) -> None:
        self.both_read(lambda reader: reader.counts())
        self.both_read(lambda reader: reader.jobs(JobFilter(limit=1000)))
        ids = [job_id(key) for key in self.all_keys]
        self.both_read(lambda reader: {view.id: view for view in reader.views(ids)})
        self.both_read(lambda reader: reader.payloads(self.all_keys))
        self.both_read(lambda reader: [reader.attempts(job_id) for job_id in ids])
        parents = [job_id(key) for key in (1, 2, 5)]
        self.both_read(lambda reader: reader.children(parents, after_key=3, limit=5))
        self.both_read(lambda reader: [reader.owned(one, at_most=1.0) for one in OWNERS])
        self.both_read(lambda reader: reader.owners())
        self.both_read(lambda reader: sorted(reader.cancelled_parents()))
        pages = dead_pages(self.all_keys, self.now)
        self.both_read(lambda reader: [reader.dead(criteria) for criteria in pages])


def same(expected: Callable[[], T], found: Callable[[], T]) -> T:
    """What both give; if both raise the same type of error, the error of the second."""
    try:
        answer = expected()
    except FastWorkerError as error:
        with pytest.raises(type(error)) as caught:
            found()
        raise caught.value from error
    assert found() == answer
    return answer


def dead_pages(keys: Sequence[int], now: float) -> list[DeadFilter]:
    middle = keys[len(keys) // 2] if keys else None
    return [
        DeadFilter(),
        DeadFilter(limit=2, before_key=middle),
        DeadFilter(task="shop.mail", error="ValueError"),
        DeadFilter(error="poison", ended_after=now - 50.0),
        DeadFilter(ended_before=now - 50.0),
    ]


TwoStores.TestCase.settings = settings(
    max_examples=20,
    stateful_step_count=40,
    suppress_health_check=list(HealthCheck),
)
test_memory_and_sqlite_answer_alike = TwoStores.TestCase
