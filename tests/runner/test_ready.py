"""The lines of jobs that have not started."""

from __future__ import annotations

from fastworker.core.records import TaskPriority
from fastworker.runner.assignment import Assignment, Route
from fastworker.runner.ready import ReadyJobs


def job(token: int, priority: int = TaskPriority.NORMAL, pool: int = 0) -> Assignment:
    route = Route("t", None, pool, lambda assignment: None)
    return Assignment(bytes(16), token, route, priority, b"", 1)


def taken(ready: ReadyJobs, free: list[int]) -> list[int]:
    tokens = []
    while (assignment := ready.take(free)) is not None:
        tokens.append(assignment.token)
    return tokens


def test_the_most_urgent_comes_first_and_equals_in_order_of_arrival() -> None:
    ready = ReadyJobs(pools=2)
    for token, priority in [(1, 0), (2, 1), (3, 3), (4, 1), (5, 2)]:
        ready.put(job(token, priority))

    assert taken(ready, [1, 0]) == [3, 5, 2, 4, 1]
    assert len(ready) == 0


def test_a_pool_without_free_slots_does_not_hold_up_the_other() -> None:
    ready = ReadyJobs(pools=2)
    ready.put(job(1, TaskPriority.CRITICAL, pool=1))
    ready.put(job(2, TaskPriority.LOW, pool=0))

    assert taken(ready, [1, 0]) == [2]
    assert taken(ready, [0, -1]) == []
    assert taken(ready, [0, 1]) == [1]


def test_a_withdrawn_job_is_never_taken() -> None:
    ready = ReadyJobs(pools=1)
    for token in (1, 2, 3):
        ready.put(job(token))

    assert ready.withdraw(2)
    assert not ready.withdraw(2)
    assert not ready.withdraw(9)
    assert len(ready) == 2
    assert taken(ready, [1]) == [1, 3]
    assert not ready.withdraw(1)


def test_clear_returns_what_was_left() -> None:
    ready = ReadyJobs(pools=1)
    for token in (1, 2, 3):
        ready.put(job(token))
    ready.withdraw(1)

    assert [each.token for each in ready.clear()] == [2, 3]
    assert ready.take([1]) is None
