"""What a subworker is sent, and in which order, by a real control plane."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest
import trio
import trio.testing

from fastworker.core.records import DEFAULT_OPTIONS, JobRow, TaskStatus
from fastworker.server.payloads import PayloadLoader
from fastworker.server.plane import Plane
from fastworker.transport.dial import open_link
from fastworker.transport.link import Link
from fastworker.wire.addresses import parse_address
from fastworker.wire.messages import Assign, Message, Register, Registered, Submit, Submitted
from tests.server.test_listener import TOKEN, control_plane

pytestmark = pytest.mark.trio

SESSION = b"s" * 16
URGENT = 3


async def _receive(link: Link, count: int) -> list[Message]:
    received: list[Message] = []
    with trio.fail_after(20):
        while len(received) < count:
            received += await link.receive()
    return received


async def test_registration_is_answered_before_anything_is_assigned() -> None:
    async with control_plane() as plane:
        address = parse_address(plane.addresses[0])
        async with open_link(address, role="client", token=TOKEN, agent="test") as (client, _):
            client.send(Submit(1, [["add", "default", URGENT, {}]], b"j" * 16, [b"x"]))
            assert await _receive(client, 1) == [Submitted(1)]
        async with open_link(address, role="subworker", token=TOKEN, agent="test") as (link, _):
            rows: list[list[object]] = [["add", 0, "()"]]
            link.send(Register(SESSION, "one", ["default"], rows, [1, 1], [0, 0]))
            # The subworker drops what comes before the answer, and would never run it.
            first, second = await _receive(link, 2)
            assert isinstance(first, Registered)
            assert isinstance(second, Assign) and second.ids == b"j" * 16


@pytest.mark.parametrize("stands", [True, False])
async def test_arguments_read_for_a_lease_that_was_given_back_are_not_sent(stands: bool) -> None:
    leased = JobRow(
        *(1, b"j" * 16, 1, TaskStatus.RUNNING, None, None, None, None, 0.0),
        *(7, SESSION, 1, 0, None, 0, None, DEFAULT_OPTIONS, 9, None),
    )
    given_back = leased._replace(status=TaskStatus.QUEUED, session=None)
    sent: list[bytes] = []

    async def payloads(keys: list[int]) -> dict[int, bytes]:
        return dict.fromkeys(keys, b"arguments")

    plane = SimpleNamespace(
        store=SimpleNamespace(payloads=payloads),
        dispatcher=SimpleNamespace(
            job=lambda job_id: leased if stands else given_back, has_checkpoint=lambda key: False
        ),
        roster=SimpleNamespace(
            send_assignment=lambda session, jobs, **_: sent.extend(job.id for job, _ in jobs)
        ),
    )
    loader = PayloadLoader()
    loader.load(SESSION, [(leased, 0)])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(loader.serve_forever, cast(Plane, plane))
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert sent == ([leased.id] if stands else [])
