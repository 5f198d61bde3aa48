"""What a subworker is sent, and in which order, by a real control plane."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest
import trio
import trio.testing

from fastworker.core.records import DEFAULT_OPTIONS, JobRow, TaskStatus
from fastworker.server.payloads import PayloadLoader
from fastworker.server.plane import TOLD_CHARACTERS, Plane
from fastworker.server.subworkers import MAX_OFFER_CHARACTERS, MAX_SLOTS
from fastworker.transport.dial import open_link
from fastworker.transport.link import Link
from fastworker.wire.addresses import Address, parse_address
from fastworker.wire.messages import (
    Assign,
    Introduce,
    Message,
    Problem,
    Register,
    Registered,
    Roster,
    Submit,
    Submitted,
)
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


async def test_what_a_subworker_says_of_itself_is_bounded_and_so_is_what_clients_are_told() -> None:
    async with control_plane() as plane, trio.open_nursery() as nursery:
        address = parse_address(plane.addresses[0])
        client, _ = await nursery.start(_hold_open, address, "client")
        client.send(Introduce(b"c" * 16, True))
        name = "t" * 120
        most = MAX_OFFER_CHARACTERS // (len(name) + 4)
        workers = TOLD_CHARACTERS // MAX_OFFER_CHARACTERS + 2
        for worker in range(workers):
            link, _ = await nursery.start(_hold_open, address, "subworker")
            rows: list[list[object]] = [[f"{name}{n:04d}", 0, ""] for n in range(most)]
            session = bytes([worker]) * 16
            slots = [2**62]
            link.send(Register(session, f"w{worker}", [], rows, slots, slots, host="h" * 65_000))
            assert isinstance((await _receive(link, 1))[0], Registered)
            assert plane.dispatcher.memory.sessions[session].pools[0] == MAX_SLOTS
        roster = Roster([], [], [])
        while len(roster.workers) < workers:
            for message in await _receive(client, 1):
                roster = message if isinstance(message, Roster) else roster
        told = str(roster)
        assert len(told) < 3 * TOLD_CHARACTERS and "h" * 256 not in told
        link, _ = await nursery.start(_hold_open, address, "subworker")
        rows.append(["one more", 0, "x" * 200])
        link.send(Register(b"z" * 16, "greedy", [], rows, [1], [0]))
        (problem,) = await _receive(link, 1)
        assert isinstance(problem, Problem) and "offer fewer tasks" in problem.message
        nursery.cancel_scope.cancel()


async def _hold_open(
    address: Address, role: str, task_status: trio.TaskStatus[tuple[Link, object]]
) -> None:
    async with open_link(address, role=role, token=TOKEN, agent="test") as found:
        task_status.started(found)
        await trio.sleep_forever()
