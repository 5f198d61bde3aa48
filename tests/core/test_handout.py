"""Fair sharing between tenants: who is next, who lets whom pass, and what never happens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastworker.core import targets
from fastworker.core.records import JobOptions, JobRow, TaskPriority
from fastworker.core.shares import FORGET_BEYOND
from fastworker.core.tenants import TenantLimits, Tenants
from tests.core.harness import (
    Plane,
    assigned,
    new_ids,
    outcomes,
    registration,
    runner_death,
    submission,
)

ONE, TWO = b"worker-one", b"worker-two"


def plane_with(**weights: int) -> Plane:
    """A control plane whose tenants have these weights."""
    return Plane(tenants=Tenants({name: TenantLimits(weight) for name, weight in weights.items()}))


def tenants_of(plane: Plane, jobs: Sequence[JobRow]) -> list[str]:
    """Whose jobs these are."""
    lanes = plane.dispatcher.memory.lanes_by_number
    return [lanes[job.lane].key.tenant for job in jobs]


def submit(plane: Plane, tenant: str, count: int = 1, *, task: str = "add") -> list[JobRow]:
    """Jobs of one tenant; those that were handed out."""
    return assigned(plane.turn(submission(new_ids(count), tenant=tenant, task=task)))


def serve(plane: Plane, running: list[JobRow], turns: int) -> list[str]:
    """Jobs end one after another; whose jobs take their place."""
    served: list[str] = []
    for _ in range(turns):
        session = running[0].session
        assert session is not None
        handed = assigned(plane.turn(outcomes(session, [running.pop(0)])))
        served += tenants_of(plane, handed)
        running += handed
    return served


def test_tenants_that_wait_take_turns() -> None:
    plane = plane_with()
    submit(plane, "flood", 50)
    submit(plane, "small", 5)
    sent = assigned(plane.turn(registration(ONE, slots=12)))
    assert tenants_of(plane, sent) == ["flood", "small"] * 5 + ["flood"] * 2


def test_weights_are_the_ratio_of_jobs() -> None:
    plane = plane_with(big=3, small=1)
    submit(plane, "small", 50)
    submit(plane, "big", 50)
    sent = assigned(plane.turn(registration(ONE, slots=40)))
    assert Counter(tenants_of(plane, sent)) == {"big": 30, "small": 10}


def test_tenant_without_a_weight_has_that_of_all_others() -> None:
    plane = Plane(tenants=Tenants({"*": TenantLimits(1), "big": TenantLimits(2)}))
    submit(plane, "any", 50)
    submit(plane, "big", 50)
    sent = assigned(plane.turn(registration(ONE, slots=30)))
    assert Counter(tenants_of(plane, sent)) == {"big": 20, "any": 10}


def test_priorities_stay_strict_whoever_asks() -> None:
    plane = plane_with(small=100)
    plane.turn(submission(new_ids(3), tenant="flood", priority=TaskPriority.HIGH))
    submit(plane, "small", 3)
    sent = assigned(plane.turn(registration(ONE, slots=4)))
    assert tenants_of(plane, sent) == ["flood"] * 3 + ["small"]


def test_newcomer_is_next_however_much_another_has_waiting() -> None:
    plane = plane_with()
    plane.turn(registration(ONE, slots=4, prefetch=2))
    running = submit(plane, "flood", 1_000)
    serve(plane, running, 100)
    assert submit(plane, "small") == []
    assert serve(plane, running, 2) == ["small", "flood"]


def test_idle_tenant_saves_up_nothing() -> None:
    plane = plane_with()
    plane.turn(registration(ONE, slots=1))
    running = submit(plane, "small", 2)
    serve(plane, running, 1)
    submit(plane, "flood", 1_000)
    serve(plane, running, 200)
    submit(plane, "small", 100)
    served = serve(plane, running, 20)
    assert served == ["small", "flood"] * 10


def test_tenant_with_one_job_at_a_time_gets_its_share_and_no_more() -> None:
    plane = plane_with(flood=3)
    plane.turn(registration(ONE, slots=1))
    running = submit(plane, "flood", 500)
    served: list[str] = []
    for _ in range(100):
        # There is one waiting at every end of a job, and never more.
        if not plane.dispatcher.memory.waiting.at(TaskPriority.NORMAL).get("small"):
            submit(plane, "small")
        served += serve(plane, running, 1)
    assert Counter(served) == {"flood": 75, "small": 25}


def test_a_tenants_own_jobs_keep_their_order_over_all_its_lanes() -> None:
    plane = plane_with()
    ids: list[bytes] = []
    for number in range(12):
        mine = new_ids(1)
        ids += mine
        plane.turn(submission(mine, tenant="small", task=("add", "other")[number % 2]))
        submit(plane, "flood", 3)
    sent = assigned(plane.turn(registration(ONE, slots=100, tasks=("add", "other"))))
    assert [job.id for job in sent if job.id in ids] == ids


def test_tenant_that_cannot_be_served_lets_others_pass() -> None:
    plane = plane_with()
    plane.turn(registration(ONE, slots=3))
    assert submit(plane, "stuck", 10, task="nobody-has-it") == []
    assert len(submit(plane, "flood", 10)) == 3


def test_tenants_of_a_slow_subworker_share_it_while_a_fast_one_serves_another() -> None:
    plane = plane_with()
    plane.turn(registration(ONE, slots=1, tasks=("slow",)))
    plane.turn(registration(TWO, slots=10, tasks=("fast",)))
    slow = submit(plane, "first", 100, task="slow")
    submit(plane, "second", 100, task="slow")
    fast = submit(plane, "other", 5_000, task="fast")
    served: list[str] = []
    for _ in range(10):
        serve(plane, fast, 50)
        served += serve(plane, slow, 1)
    assert Counter(served) == {"first": 5, "second": 5}


def test_turn_that_was_dropped_is_not_charged() -> None:
    plane = plane_with()
    submit(plane, "flood", 50)
    submit(plane, "small", 50)
    fact = registration(ONE, slots=3)
    plane.dispatcher.drop(plane.decide(fact))
    sent = assigned(plane.turn(fact))
    assert tenants_of(plane, sent) == ["flood", "small", "flood"]
    assert serve(plane, sent, 2) == ["small", "flood"]


def test_restart_forgets_who_had_what() -> None:
    plane = plane_with()
    submit(plane, "flood", 50)
    submit(plane, "small", 50)
    assert tenants_of(plane, assigned(plane.turn(registration(ONE, slots=1)))) == ["flood"]
    plane = plane.restart()
    plane.turn(registration(TWO, slots=2))
    sent = assigned(plane.turn())
    assert tenants_of(plane, sent) == ["flood", "small"]


def test_suspects_of_tenants_take_turns_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "SUSPECTS_AHEAD", 4)
    plane = plane_with()
    plane.turn(registration(ONE, slots=12))
    jobs = [*submit(plane, "crashes", 10), *submit(plane, "small", 2)]
    alone = assigned(plane.turn(runner_death(ONE, jobs)))
    assert tenants_of(plane, alone) == ["crashes", "small", "crashes", "small"]


@pytest.mark.parametrize("tenant", ["flood", "small"])
def test_job_that_is_never_sent_ahead_is_not_starved_by_jobs_that_are(tenant: str) -> None:
    plane = plane_with()
    plane.turn(registration(ONE, slots=2, prefetch=2, tasks=("add", "careful")))
    running = submit(plane, "flood", 100)
    careful = submission(
        new_ids(1), tenant=tenant, task="careful", options=JobOptions(on_lost="fail")
    )
    plane.turn(careful)
    submit(plane, "flood", 100)
    ahead = 0 if tenant == "small" else 96
    ended = 0
    while careful.ids[0] not in [job.id for job in running]:
        running += assigned(plane.turn(outcomes(ONE, [running.pop(0)])))
        ended += 1
    # Only what had been sent ahead begins before it.
    assert ended <= ahead + 3


def test_less_urgent_jobs_sent_ahead_do_not_starve_one_that_never_is() -> None:
    plane = plane_with()
    plane.turn(registration(ONE, slots=1, prefetch=9))
    plane.dispatcher.memory.sessions[ONE].run_seconds = [0.001] * 3
    fact = submission(new_ids(1_000), tenant="flood", priority=TaskPriority.LOW)
    running = assigned(plane.turn(fact))
    assert len(running) == 10
    urgent = submission(new_ids(1), tenant="small", options=JobOptions(on_lost="fail"))
    plane.turn(urgent)
    served = [plane.turn(outcomes(ONE, [job], at=1000.0)) for job in running]
    assert urgent.ids[0] in [job.id for commands in served for job in assigned(commands)]


def test_tenants_that_have_gone_are_forgotten() -> None:
    plane = plane_with()
    plane.turn(registration(ONE, slots=1))
    shares = plane.dispatcher.memory.shares
    running = submit(plane, "flood", 10_000)
    for number in range(8 * FORGET_BEYOND):
        submit(plane, f"tenant-{number}")
        serve(plane, running, 2)
    assert len(shares[TaskPriority.NORMAL, False].ends) <= 2 * FORGET_BEYOND


def test_nothing_is_remembered_of_anybody_once_nobody_waits() -> None:
    plane = plane_with()
    plane.turn(registration(ONE, slots=2))
    running = [*submit(plane, "small", 2), *submit(plane, "flood", 2)]
    submit(plane, "small", 1)
    assert serve(plane, running, 2) == ["flood", "small"]
    shares = plane.dispatcher.memory.shares[TaskPriority.NORMAL, False]
    assert shares.ends
    assert serve(plane, running, 2) == ["flood"]
    assert shares.ends == {}


def test_lanes_without_jobs_are_not_looked_at() -> None:
    plane = plane_with()
    plane.turn(registration(ONE, slots=1, tasks=("add", "other")))
    for task in ("add", "other"):
        (job,) = submit(plane, "small", task=task)
        plane.turn(outcomes(ONE, [job]))
    assert plane.dispatcher.memory.waiting.by_priority == {}


# -- whatever comes in which order ----------------------------------------------------------

NAMES = ("amber", "birch", "cedar", "dune")
weights = st.fixed_dictionaries({name: st.integers(1, 7) for name in NAMES})


@given(weights, st.integers(1, 5), st.integers(0, 4), st.integers(1, 60))
@settings(deadline=None, max_examples=60)
def test_while_all_wait_shares_are_within_one_job_of_the_weights(
    weight: dict[str, int], slots: int, prefetch: int, ends: int
) -> None:
    plane = plane_with(**weight)
    for name in NAMES:
        submit(plane, name, 100)
    running = assigned(plane.turn(registration(ONE, slots=slots, prefetch=prefetch)))
    served = Counter(tenants_of(plane, running))
    for _ in range(ends):
        served.update(serve(plane, running, 1))
        for one in NAMES:
            for other in NAMES:
                ahead = Fraction(served[one], weight[one]) - Fraction(served[other], weight[other])
                # One job of the one that is ahead.
                assert ahead <= Fraction(1, weight[one])


steps = st.lists(
    st.tuples(st.sampled_from([*NAMES, "end", "end", "end"]), st.integers(1, 6)), max_size=60
)


@given(weights, st.integers(1, 3), steps)
@settings(deadline=None, max_examples=100)
def test_no_slot_is_free_while_somebody_waits_and_nobody_waits_for_ever(
    weight: dict[str, int], slots: int, taken: list[tuple[str, int]]
) -> None:
    plane = plane_with(**weight)
    plane.turn(registration(ONE, slots=slots))
    running: list[JobRow] = []
    waiting: dict[str, list[bytes]] = {name: [] for name in NAMES}
    passed: dict[str, Counter[str]] = {name: Counter() for name in NAMES}
    for what, count in taken:
        if what != "end":
            ids = new_ids(count)
            handed = assigned(plane.turn(submission(ids, tenant=what)))
            waiting[what] += ids
        else:
            ended, running = running[:count], running[count:]
            handed = assigned(plane.turn(outcomes(ONE, ended))) if ended else []
        running += handed
        for name, job in zip(tenants_of(plane, handed), handed, strict=True):
            assert waiting[name].pop(0) == job.id, "out of order"
            passed[name].clear()
            for other in NAMES:
                if other != name and waiting[other]:
                    passed[other][name] += 1
                    most = 1 + -(-weight[name] // weight[other])
                    assert passed[other][name] <= most, "starved"
                elif not waiting[other]:
                    passed[other].clear()
        assert len(running) == slots or not any(waiting.values()), "a slot is free"
