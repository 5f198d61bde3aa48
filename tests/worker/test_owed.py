"""When outcomes leave: at once on an idle system, together while they keep coming."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from fastworker.transport.link import Link
from fastworker.wire.codec import decode
from fastworker.wire.messages import Outcome
from fastworker.worker.outcomes import EndedJob
from fastworker.worker.owed import GATHER_SECONDS, Owed


class Frames:
    """Takes every frame at once, and keeps it."""

    def __init__(self) -> None:
        self.tokens: list[list[int]] = []
        """Of the outcomes of each frame."""

    def send_frame_nowait(self, frame: bytes) -> bool:
        outcomes = [each for each in decode(frame) if isinstance(each, Outcome)]
        self.tokens.append([token for each in outcomes for token in each.tokens])
        return True

    async def send_frame(self, frame: bytes) -> None:
        self.send_frame_nowait(frame)

    async def receive_frame(self) -> bytes:
        raise NotImplementedError

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        pass


def ended(token: int) -> EndedJob:
    return EndedJob(b"j" * 15 + bytes([token]), token, 4, b"", 1.0, 2.0, None)


@pytest.mark.trio
async def test_an_outcome_leaves_at_once_and_those_behind_it_together(
    nursery: trio.Nursery, mock_clock: MockClock
) -> None:
    frames = Frames()
    owed = Owed(trio.current_time)
    owed.outcomes([ended(1)])
    nursery.start_soon(owed.send_outcomes_forever)
    owed.link_up(Link(frames))
    assert frames.tokens == []
    await wait_all_tasks_blocked()
    assert frames.tokens == [[1]]

    mock_clock.jump(GATHER_SECONDS)
    owed.outcomes([ended(2)])
    assert frames.tokens == [[1], [2]]
    owed.outcomes([ended(3)])
    owed.outcomes([ended(4)])
    assert frames.tokens == [[1], [2]]
    await wait_all_tasks_blocked()
    assert frames.tokens == [[1], [2], [3, 4]]
