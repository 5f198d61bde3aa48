"""Handbacks are repeated and claimed until they are known to be recorded."""

from __future__ import annotations

from fastworker.wire.messages import Handback
from fastworker.worker.handbacks import UnconfirmedHandbacks
from tests.worker.builders import job_id


def handback(*tokens: int) -> Handback:
    return Handback(
        ids=b"".join(map(job_id, tokens)),
        tokens=list(tokens),
        started=bytes(len(tokens)),
        reason="drain",
    )


def test_what_is_not_acknowledged_is_claimed_and_sent_again() -> None:
    handbacks = UnconfirmedHandbacks()
    handbacks.add(handback(1, 2))
    handbacks.add(handback(3))
    handbacks.acknowledge([9])
    assert handbacks.claims() == (job_id(1) + job_id(2) + job_id(3), [1, 2, 3])
    assert handbacks.messages == [handback(1, 2), handback(3)]
    handbacks.acknowledge([1, 2])
    assert handbacks.claims() == (job_id(3), [3])
    handbacks.acknowledge([3])
    assert len(handbacks) == 0
