from __future__ import annotations

import pytest

from fastworker.core.records import TaskPriority
from fastworker.errors import ProtocolError
from fastworker.wire.messages import Assign
from fastworker.worker.held import HeldJobs
from fastworker.worker.loads import MAX_RUNNER_PREFETCH
from tests.worker.builders import ASYNC, THREAD, assign

LOW, NORMAL, HIGH, CRITICAL = TaskPriority


def held_with_runners(*slots: tuple[int, int]) -> HeldJobs:
    held = HeldJobs()
    for number, each in enumerate(slots):
        held.add_runner(number, each)
    return held


def handed(held: HeldJobs, *, now: float = 0.0) -> list[tuple[int, list[int]]]:
    return [(runner, list(message.tokens)) for runner, message in held.hand_over(now=now)]


def test_without_a_runner_jobs_stay_queued() -> None:
    held = held_with_runners()
    held.receive(assign(1, 2), now=0.0)
    assert handed(held) == []
    assert [job.token for job in held.take_queued()] == [1, 2]
    assert len(held) == 0


def test_window_is_slots_and_as_many_again() -> None:
    held = held_with_runners((2, 1))
    held.receive(assign(*range(10), priority=LOW), now=0.0)
    assert handed(held) == [(0, [0, 1, 2, 3])]
    assert handed(held) == []
    held.end(0, runner=0)
    assert handed(held) == [(0, [4])]


def test_window_has_an_upper_bound_beyond_the_slots() -> None:
    held = held_with_runners((1000, 1))
    held.receive(assign(*range(2000), priority=LOW), now=0.0)
    given = sum(len(tokens) for _, tokens in handed(held))
    assert given == 1000 + MAX_RUNNER_PREFETCH


def test_most_urgent_goes_first() -> None:
    held = held_with_runners((2, 1))
    for token, priority in enumerate((LOW, NORMAL, CRITICAL, HIGH)):
        held.receive(assign(token, priority=priority), now=0.0)
    assert handed(held) == [(0, [2, 3, 1, 0])]


def test_a_window_full_of_less_urgent_jobs_does_not_hold_up_an_urgent_one() -> None:
    held = held_with_runners((1, 1))
    held.receive(assign(*range(10), priority=LOW), now=0.0)
    assert handed(held) == [(0, [0, 1])]
    held.receive(assign(100, priority=CRITICAL), now=0.0)
    assert handed(held) == [(0, [100])]


def test_urgent_jobs_too_are_bounded() -> None:
    held = held_with_runners((2, 1))
    held.receive(assign(*range(50), priority=CRITICAL), now=0.0)
    assert sum(len(tokens) for _, tokens in handed(held)) == 4


def test_a_flood_of_every_priority_stays_within_the_total() -> None:
    held = held_with_runners((2, 1))
    for priority in TaskPriority:
        first = 100 * int(priority)
        held.receive(assign(*range(first, first + 50), priority=priority), now=0.0)
        handed(held)
    assert sum(held.runners[0].counts[ASYNC]) == 4 + 2 * int(CRITICAL)


def test_pools_do_not_share_a_window() -> None:
    held = held_with_runners((1, 1))
    held.receive(assign(*range(5)), now=0.0)
    held.receive(assign(*range(10, 15), pool=THREAD), now=0.0)
    assert handed(held) == [(0, [0, 1, 10, 11])]
    assert held.runners[0].counts[ASYNC][NORMAL] == 2
    assert held.runners[0].counts[THREAD][NORMAL] == 2


def test_jobs_go_to_the_least_loaded_runner() -> None:
    held = held_with_runners((2, 1), (2, 1))
    held.receive(assign(1, 2, 3, 4), now=0.0)
    assert handed(held) == [(0, [1, 3]), (1, [2, 4])]
    held.end(2, runner=1)
    held.receive(assign(5), now=0.0)
    assert handed(held) == [(1, [5])]


def test_a_token_already_held_is_passed_over() -> None:
    held = held_with_runners((5, 1))
    held.receive(assign(1), now=0.0)
    assert handed(held) == [(0, [1])]
    held.receive(assign(1, 2), now=0.0)
    assert handed(held) == [(0, [2])]


def test_time_waited_here_is_taken_from_the_budget() -> None:
    held = held_with_runners()
    held.receive(assign(1, budget=10.0), now=100.0)
    held.receive(assign(2), now=100.0)
    held.receive(assign(3, budget=1.0), now=100.0)
    held.add_runner(0, (5, 1))
    [(_, message)] = held.hand_over(now=104.0)
    assert message.budget == [6.0, None, 0.0]


def test_specs_and_payloads_follow_their_jobs() -> None:
    held = held_with_runners((10, 10))
    message = Assign(
        ids=assign(1, 2, 3).ids,
        tokens=[1, 2, 3],
        specs=[["a", 1, 0, {}], ["b", 3, 0, {"keep_result": False}]],
        payloads=[b"p1", b"p2", b"p3"],
        attempts=[1, 2, 3],
        which=[0, 1, 0],
    )
    held.receive(message, now=0.0)
    [(_, sent)] = held.hand_over(now=0.0)
    assert sent.which is not None
    rows = [
        (token, sent.specs[spec][0], payload, attempt)
        for token, spec, payload, attempt in zip(
            sent.tokens, sent.which, sent.payloads, sent.attempts, strict=True
        )
    ]
    assert rows == [(2, "b", b"p2", 2), (1, "a", b"p1", 1), (3, "a", b"p3", 3)]


def test_large_payloads_are_spread_over_messages() -> None:
    held = held_with_runners((10, 1))
    message = assign(1, 2, 3, 4)
    message.payloads = [bytes(1_000_000)] * 4
    held.receive(message, now=0.0)
    assert handed(held) == [(0, [1, 2]), (0, [3, 4])]


def test_an_outcome_counts_only_from_the_runner_that_has_the_job() -> None:
    held = held_with_runners((2, 1), (2, 1))
    held.receive(assign(1), now=0.0)
    handed(held)
    assert held.end(1, runner=1) is None
    assert held.end(1, runner=0) is not None
    assert held.end(1, runner=0) is None


def test_a_lost_runner_takes_only_its_own_jobs() -> None:
    held = held_with_runners((1, 1), (1, 1))
    held.receive(assign(*range(6)), now=0.0)
    handed(held)
    lost = held.remove_runner(0)
    assert [job.token for job in lost] == [0, 2]
    assert [job.token for job in held.jobs] == [1, 3, 4, 5]
    assert all(job.gone for job in lost)
    assert held.remove_runner(0) == []


def test_a_stale_job_is_held_but_not_ours() -> None:
    held = held_with_runners((1, 1))
    held.receive(assign(1, 2), now=0.0)
    handed(held)
    job = held.get(1)
    assert job is not None
    job.stale = True
    assert [token in held for token in (1, 2, 3)] == [True, True, False]
    assert [held.is_ours(token) for token in (1, 2, 3)] == [False, True, False]


def test_a_withdrawn_queued_job_is_never_handed_over() -> None:
    held = held_with_runners()
    held.receive(assign(1, 2, 3), now=0.0)
    assert [job.token for job in held.take_queued([2, 99])] == [2]
    held.add_runner(0, (5, 1))
    assert handed(held) == [(0, [1, 3])]


def test_a_withdrawn_job_may_come_again() -> None:
    held = held_with_runners()
    held.receive(assign(1), now=0.0)
    held.take_queued([1])
    held.receive(assign(1), now=0.0)
    held.add_runner(0, (5, 1))
    assert handed(held) == [(0, [1])]
    assert handed(held) == []


def test_a_slot_given_back_widens_the_window() -> None:
    held = held_with_runners((1, 1))
    held.receive(assign(*range(10), priority=LOW), now=0.0)
    assert handed(held) == [(0, [0, 1])]
    held.change_slots(0, [[ASYNC, 1]])
    assert held.slots() == [2, 1]
    assert handed(held) == [(0, [2, 3])]
    held.change_slots(0, [[ASYNC, -1]])
    assert held.slots() == [1, 1]


def test_slots_of_an_unknown_pool_are_refused() -> None:
    with pytest.raises(ProtocolError, match="pool 7"):
        held_with_runners((1, 1)).change_slots(0, [[7, 1]])


def test_a_job_of_an_unknown_pool_is_refused() -> None:
    with pytest.raises(ProtocolError, match="does not exist"):
        held_with_runners().receive(assign(1, pool=9), now=0.0)


def test_counted_failures_reach_the_runner_and_cost_nothing_without_any() -> None:
    held = held_with_runners((4, 1))
    failed = assign(1, 2)
    failed.failures = [0, 3]
    held.receive(failed, now=0.0)
    [(_, message)] = held.hand_over(now=0.0)
    assert message.failures == [0, 3]
    held.receive(assign(3), now=0.0)
    [(_, message)] = held.hand_over(now=0.0)
    assert message.failures is None
