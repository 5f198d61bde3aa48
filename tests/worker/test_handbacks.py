from __future__ import annotations

from fastworker.wire.messages import Handback
from fastworker.worker.handbacks import UnconfirmedHandbacks
from tests.worker.builders import job_id


def handback(token: int) -> Handback:
    return Handback(ids=job_id(token), tokens=[token], started=b"\0", reason="drain")


def test_only_a_later_heartbeat_confirms() -> None:
    handbacks = UnconfirmedHandbacks()
    handbacks.add(handback(1), after_beat=4)
    handbacks.add(handback(2), after_beat=5)
    handbacks.confirm(4)
    assert handbacks.claims() == (job_id(1) + job_id(2), [1, 2])
    handbacks.confirm(5)
    assert handbacks.claims() == (job_id(2), [2])
    handbacks.confirm(6)
    assert len(handbacks) == 0


def test_a_new_connection_needs_a_new_confirmation() -> None:
    handbacks = UnconfirmedHandbacks()
    handbacks.add(handback(1), after_beat=4)
    assert handbacks.send_again(after_beat=9) == [handback(1)]
    handbacks.confirm(9)
    assert len(handbacks) == 1
    handbacks.confirm(10)
    assert len(handbacks) == 0
