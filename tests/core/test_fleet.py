"""Crews, kept from turn to turn, choose as one would who looks at every subworker each time."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable

import pytest

from fastworker.core.facts import Renewals
from fastworker.core.fleet import CREW_PLACES, FREED_KEPT, Fleet
from fastworker.core.memory import Memory
from fastworker.core.records import JobRow, LaneKey, TaskPriority
from fastworker.core.sessions import Session
from fastworker.core.targets import Choices, Rooms
from fastworker.store.memory import MemoryStore
from tests.core.harness import LEASE, Plane, assigned, new_ids, registration, submission

KEYS = [LaneKey("default", "default", priority, task) for priority in (1, 3) for task in "ab"]
TOLERANCE = 1e-9
"""A load that is counted up in steps differs a little from one that is divided anew."""


def make_session(number: int, chance: random.Random) -> Session:
    session = Session(b"%016d" % number, 1e9)
    session.queues = frozenset({"default"})
    session.origin = object()
    session.local = chance.random() < 0.1
    session.tasks = {task: chance.randrange(2) for task in "ab" if chance.random() < 0.8}
    reshape(session, chance)
    return session


def reshape(session: Session, chance: random.Random) -> None:
    session.pools = (chance.randrange(4), chance.randrange(4))
    session.prefetch = (chance.randrange(3), chance.randrange(3))


def expected_load(fleet: Fleet, key: LaneKey) -> float | None:
    """The load of the best subworker, looked for among all of them."""
    able = [
        each for each in fleet.sessions.values() if each.can_run(key.tenant, key.task, key.queue)
    ]
    able = [each for each in able if not each.local] or able
    loads = [
        each.load(each.tasks[key.task])
        for each in able
        if each.room(each.tasks[key.task], key.priority) > 0
    ]
    return min(loads, default=None)


def lease_some(fleet: Fleet, choices: Choices, key: LaneKey, job: JobRow, number: int) -> int:
    """Hand out jobs of one lane in one turn, each to the least loaded; returns how many."""
    count = 0
    while count < 5:
        best = expected_load(fleet, key)
        target = choices.choose(job)
        if best is None:
            assert target is None
            break
        assert target is not None
        assert abs(target.session.load(target.pool) - best) <= TOLERANCE
        target.session.hold(b"%16d" % (number + count), target.pool, key.priority, False)
        count += 1
    return count


def count_calls(function: Callable[[], object]) -> int:
    """How many functions, of Python or C, it calls."""
    count = 0

    def note(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


@pytest.fixture
def job() -> JobRow:
    plane = Plane()
    plane.turn(registration(b"w" * 16, slots=1))
    (row,) = assigned(plane.turn(submission(new_ids(1))))
    return row


@pytest.mark.parametrize("seed", range(60))
def test_the_least_loaded_of_all_is_chosen_whatever_went_before(seed: int, job: JobRow) -> None:
    chance = random.Random(seed)
    memory = Memory(MemoryStore().load())
    fleet = memory.fleet
    for number in range(chance.choice((1, 2, 5, 20))):
        session = make_session(number, chance)
        fleet.sessions[session.incarnation] = session
    fleet.changed()
    leased = 0
    for _ in range(120):
        match chance.randrange(12):
            case 0:
                reshape(chance.choice(list(fleet.sessions.values())), chance)
                fleet.changed()
            case 1:
                session = chance.choice(list(fleet.sessions.values()))
                session.origin = None if session.origin else object()
                fleet.changed()
            case 2 | 3 | 4 | 5:
                for session in fleet.sessions.values():
                    for job_id in list(session.held):
                        if chance.random() < 0.5:
                            session.release(job_id)
                            fleet.freed(session)
            case _:
                key = chance.choice(KEYS)
                rooms = Rooms(memory, key.priority, set())
                leased += lease_some(fleet, rooms.choices(key), key, job, leased)
    assert leased


def test_whoever_has_missed_too_much_looks_at_all_again(job: JobRow) -> None:
    memory = Memory(MemoryStore().load())
    fleet, key = memory.fleet, KEYS[0]
    chance = random.Random(1)
    sessions = [make_session(number, chance) for number in range(2)]
    for session in sessions:
        session.tasks, session.pools, session.local = {"a": 0}, (9, 9), False
        fleet.sessions[session.incarnation] = session
    one, two = sessions
    assert Rooms(memory, key.priority, set()).choices(key).has_room()
    for number in range(FREED_KEPT):
        one.hold(b"%16d" % number, 0, 1, False)
        two.hold(b"%16d" % number, 0, 1, False)
    assert not Rooms(memory, key.priority, set()).choices(key).has_room()
    for number in range(FREED_KEPT):
        for session in (one, two):
            session.release(b"%16d" % number)
            fleet.freed(session)
    assert Rooms(memory, key.priority, set()).choices(key).choose(job) is not None


def test_many_kinds_of_jobs_do_not_fill_the_memory() -> None:
    memory = Memory(MemoryStore().load())
    for number in range(1_000):
        session = Session(b"%016d" % number, 1e9)
        session.queues, session.origin, session.pools = frozenset({"*"}), object(), (1, 1)
        session.tasks = {f"task{each}": 0 for each in range(300)}
        memory.sessions[session.incarnation] = session
    most = 0
    for each in range(300):
        crew = memory.fleet.crew(LaneKey("default", "default", 1, f"task{each}"))
        assert len(crew.sessions) == 1_000
        most = max(most, sum(len(one.sessions) for one in memory.fleet._crews.values()))
    assert most <= CREW_PLACES + 1_000


def test_a_turn_costs_about_the_same_with_many_subworkers() -> None:
    def calls(subworkers: int) -> int:
        plane = Plane()
        for number in range(subworkers):
            plane.turn(registration(b"%016d" % number, slots=9))
        plane.turn(submission(new_ids(1), priority=TaskPriority.NORMAL))
        return count_calls(lambda: plane.turn(submission(new_ids(1))))

    few, many = calls(2), calls(300)
    assert many < 1.3 * few


def test_a_turn_that_is_dropped_leaves_the_same_room() -> None:
    plane = Plane()
    for name in (b"1" * 16, b"2" * 16):
        plane.turn(registration(name, slots=2))
    fact = submission(new_ids(4))
    for _ in range(3):
        staged = plane.decide(fact)
        assert sorted(len(assigned(staged.commands, name)) for name in (b"1" * 16, b"2" * 16)) == [
            2,
            2,
        ]
        plane.dispatcher.drop(staged)
    assert len(assigned(plane.turn(fact))) == 4


def test_leases_run_out_one_after_another_and_come_back() -> None:
    plane = Plane()
    one, two = b"1" * 16, b"2" * 16
    plane.turn(registration(one))
    plane.pass_time(LEASE / 2)
    plane.turn(registration(two))
    sessions = plane.dispatcher.memory.sessions
    plane.pass_time(0.6 * LEASE)
    assert [session.lapsed for session in sessions.values()] == [True, False]
    plane.turn(Renewals({one: plane.now.monotonic}))
    assert not sessions[one].lapsed
    plane.pass_time(0.6 * LEASE)
    assert [session.lapsed for session in sessions.values()] == [False, True]
    plane.pass_time(0.6 * LEASE)
    assert sessions[one].lapsed
    assert plane.dispatcher.next_wakeup()[0] > plane.now.monotonic
