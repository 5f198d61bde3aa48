"""Streams at their consumer, before a control plane that does what the test says."""

from __future__ import annotations

import pytest

from fastworker import Client
from fastworker.core.ids import id_bytes
from fastworker.wire import messages as m
from tests.client.fake_control_plane import FakeControlPlane

pytestmark = pytest.mark.anyio


async def test_the_jobs_of_streams_are_cancelled_when_the_client_is_stopped(
    client: Client, plane: FakeControlPlane
) -> None:
    stream = client.stream("count", 3)
    await stream.__aenter__()
    await client.stop()
    await _one_cancel(plane, stream.task_id)
    await stream.aclose()


@pytest.mark.parametrize("by_hand", [True, False])
async def test_a_stream_that_is_left_while_the_client_is_stopped_is_cancelled(
    client: Client, plane: FakeControlPlane, by_hand: bool
) -> None:
    stream = client.stream("count", 3)
    await stream._start()
    task_id = stream.task_id
    if by_hand:
        stopping = client.stop()
        await stream.aclose()
    else:
        del stream
        stopping = client.stop()
    await stopping
    await _one_cancel(plane, task_id)


async def _one_cancel(plane: FakeControlPlane, task_id: str) -> None:
    await plane.until(lambda: m.Cancel in map(type, plane.received))
    (cancel,) = [one for one in plane.received if isinstance(one, m.Cancel)]
    assert (cancel.ids, cancel.reason) == (id_bytes(task_id), "its consumer has left")
