"""Tenants over real connections: who a token says one is, whatever is said in messages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import cbor2
import pytest
import trio

from fastworker.server.identities import IssuedToken
from fastworker.server.identity import Identity, Role
from fastworker.server.plane import Plane
from fastworker.transport.dial import open_link
from fastworker.transport.link import LinkClosed
from fastworker.wire.addresses import parse_address
from fastworker.wire.codec import decode
from fastworker.wire.messages import (
    Assign,
    Cancel,
    Cancelled,
    Fetch,
    Fetched,
    Query,
    Register,
    Registered,
    Relay,
    Report,
    Submit,
    Submitted,
)
from tests.server.test_listener import SETTINGS, control_plane
from tests.server.test_streams import Peer

pytestmark = pytest.mark.trio

JOB = b"j" * 16
ROLES = {"submit": Role.SUBMIT, "worker": Role.WORKER}


def token_text(role: str, tenant: str) -> str:
    return f"{role}-{tenant}.secret-that-is-long-enough"


ISSUED = tuple(
    IssuedToken(
        token_text(role, tenant), Identity(f"{role}-{tenant}", tenant, frozenset({ROLES[role]}))
    )
    for role in ROLES
    for tenant in ("acme", "globex")
)


@asynccontextmanager
async def plane_with_tenants() -> AsyncIterator[Plane]:
    async with control_plane(replace(SETTINGS, issued_tokens=ISSUED)) as plane:
        yield plane


@asynccontextmanager
async def connected(plane: Plane, role: str, tenant: str) -> AsyncIterator[Peer]:
    address = parse_address(plane.addresses[0])
    dialled = "client" if role == "submit" else "subworker"
    token = token_text(role, tenant)
    async with open_link(address, role=dialled, token=token, agent="t") as (link, _):
        yield Peer(link)


@asynccontextmanager
async def worker_of(plane: Plane, tenant: str, session: bytes) -> AsyncIterator[Peer]:
    async with connected(plane, "worker", tenant) as worker:
        tasks: list[list[object]] = [["add", 0, "()"]]
        worker.send(Register(session, f"of-{tenant}", ["default"], tasks, [9, 0], [0, 0]))
        await worker.next(Registered)
        yield worker


async def submit(client: Peer, job: bytes) -> None:
    client.send(Submit(1, [["add", "default", 1, {}]], job, [b"x"]))
    assert (await client.next(Submitted)).refused is None


async def test_a_worker_of_one_tenant_is_handed_its_jobs_and_shown_to_it_alone() -> None:
    async with (
        plane_with_tenants() as plane,
        connected(plane, "submit", "acme") as acme,
        connected(plane, "submit", "globex") as globex,
        worker_of(plane, "acme", b"a" * 16) as its,
    ):
        await submit(globex, b"g" * 16)
        await submit(acme, JOB)
        assert (await its.next(Assign)).ids == JOB
        assert await its.has_none(Assign)
        for client, labels in ((acme, ["of-acme"]), (globex, [])):
            client.send(Query(2, "workers"))
            workers = (await client.next(Report)).body["workers"]
            assert [worker["label"] for worker in workers] == labels
            client.send(Query(3, "tasks"))
            assert len((await client.next(Report)).body["tasks"]) == len(labels)


@pytest.mark.parametrize("while_connected", [True, False])
async def test_a_subworker_cannot_come_back_as_another_tenants(while_connected: bool) -> None:
    async with (
        plane_with_tenants() as plane,
        connected(plane, "submit", "acme") as acme,
        trio.open_nursery() as nursery,
    ):
        scope = trio.CancelScope()

        async def work(*, task_status: trio.TaskStatus[int]) -> None:
            with scope:
                async with worker_of(plane, "acme", b"a" * 16) as worker:
                    await submit(acme, JOB)
                    task_status.started((await worker.next(Assign)).tokens[0])
                    await trio.sleep_forever()

        await nursery.start(work)
        if not while_connected:
            scope.cancel()
        with pytest.raises(LinkClosed, match="4403"):
            async with worker_of(plane, "globex", b"a" * 16):
                pass
        job = plane.dispatcher.job(JOB)
        assert job is not None and job.session == b"a" * 16
        scope.cancel()


async def test_d37_a_tenant_that_messages_name_is_passed_over() -> None:
    """A field of that name inside the messages of one frame, as a forger would write it."""
    async with (
        plane_with_tenants() as plane,
        connected(plane, "submit", "acme") as acme,
        connected(plane, "submit", "globex") as globex,
    ):
        await submit(acme, JOB)
        forged = [
            [Fetch.KIND, {"request": 2, "ids": JOB, "tenant": "acme"}],
            [Cancel.KIND, {"request": 3, "ids": JOB, "tenant": "acme"}],
            [Fetch.KIND, {"request": 4, "ids": JOB, "tenant": None}],
        ]
        await globex._link._stream.send_frame(cbor2.dumps(forged))
        assert (await globex.next(Fetched)).jobs == []
        assert (await globex.next(Cancelled)).outcomes == ["unknown"]
        assert (await globex.next(Fetched)).jobs == []


async def test_a_worker_speaks_for_clients_of_its_own_tenant_only() -> None:
    """Whatever it says of them: what it relays without a lease sees no more than it may run."""
    async with (
        plane_with_tenants() as plane,
        connected(plane, "submit", "acme") as acme,
        worker_of(plane, "globex", b"g" * 16) as worker,
    ):
        await submit(acme, JOB)
        worker.send(Relay(1, cbor2.dumps([[Fetch.KIND, {"request": 2, "ids": JOB}]])))
        assert decode((await worker.next(Relay)).frame) == [Fetched(2, [])]
