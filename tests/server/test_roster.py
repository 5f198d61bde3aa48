"""Who watches which job, and for how long."""

from __future__ import annotations

import weakref

from fastworker.core.records import LaneKey
from fastworker.server.roster import (
    CLOSED_WATCHERS,
    STACK_CHARACTERS,
    CancelOrigin,
    ConnectedRoster,
    Watcher,
)
from fastworker.wire.messages import Cancelled, Message

JOBS = [bytes([number]) * 16 for number in range(CLOSED_WATCHERS + 1)]


class Peer(Watcher):
    def __init__(self) -> None:
        self.told: list[Message] = []

    def send(self, message: Message) -> None:
        self.told.append(message)


def new_roster() -> ConnectedRoster:
    return ConnectedRoster(
        lambda lane: LaneKey("default", "default", 1, "nap"),
        lambda session, jobs: None,
        has_checkpoint=lambda key: False,
        lease_seconds=15.0,
    )


def test_departed_watchers_are_forgotten_though_their_jobs_go_on() -> None:
    roster, stays = new_roster(), Peer()
    roster.watch(JOBS, stays)
    departed = []
    for job_id in JOBS[1:]:
        peer = Peer()
        departed.append(weakref.ref(peer))
        roster.watch([job_id], peer)
        peer.closed = True
        roster.left()
    del peer
    assert [each() for each in departed] == [None] * len(departed)
    assert [roster.watchers_of(job_id) for job_id in JOBS] == [1] * len(JOBS)


def test_stacks_beyond_what_one_answer_holds_are_left_out() -> None:
    peer = Peer()
    origin = CancelOrigin(peer, 1, 3)
    for index in range(3):
        origin.settle(index, "unwinding", "s" * (STACK_CHARACTERS // 2))
    (answer,) = peer.told
    assert isinstance(answer, Cancelled) and answer.stacks is not None
    assert [stack is None for stack in answer.stacks] == [False, False, True]
