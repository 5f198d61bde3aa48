from __future__ import annotations

from fastworker.wire.messages import Capacity, Message, Offered, RunnerReady
from fastworker.worker.held import HeldJobs
from fastworker.worker.offering import SENT_AHEAD_JOBS, Offering
from tests.worker.builders import assign


def offering_of(held: HeldJobs) -> tuple[Offering, list[Message]]:
    told: list[Message] = []
    return Offering(held, told.append), told


def ready(*tasks: str) -> RunnerReady:
    return RunnerReady(pid=1, tasks=[[task, 0, 0] for task in tasks])


def test_room_is_told_once_on_every_connection() -> None:
    held = HeldJobs()
    offering, told = offering_of(held)
    held.add_runner(0, (4, 2))
    offering.announce()
    offering.announce()
    room = Capacity(pools=[4, 2], prefetch=[SENT_AHEAD_JOBS, SENT_AHEAD_JOBS])
    assert told == [room]
    offering.link_up()
    assert told == [room, room]


def test_fewer_jobs_sent_ahead_are_news_even_if_the_slots_stay() -> None:
    held = HeldJobs()
    offering, told = offering_of(held)
    held.add_runner(0, (2, 0))
    held.add_runner(1, (2, 0))
    held.receive(assign(1, 2, 3, 4), now=0.0)
    held.hand_over(now=0.0)
    offering.announce()
    held.retire_runner(0)
    offering.announce()
    assert told == [
        Capacity(pools=[4, 0], prefetch=[2 * SENT_AHEAD_JOBS, 0]),
        Capacity(pools=[4, 0], prefetch=[SENT_AHEAD_JOBS, 0]),
    ]


def test_a_closed_offering_has_no_room() -> None:
    held = HeldJobs()
    offering, _ = offering_of(held)
    held.add_runner(0, (4, 2))
    offering.closed = True
    assert offering.pools() == ([0, 0], [0, 0])


def test_tasks_that_the_code_no_longer_has_are_dropped_until_they_return() -> None:
    offering, told = offering_of(HeldJobs())
    assert offering.change_tasks(ready("add", "mail"))
    assert not offering.change_tasks(ready("add", "mail"))
    assert offering.change_tasks(ready("add"))
    assert offering.dropped == {"mail"}
    assert offering.change_tasks(ready("mail"))
    assert offering.dropped == {"add"}
    assert [type(message) for message in told] == [Offered] * 3
