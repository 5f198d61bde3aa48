"""Connections of several tenants to the control plane of a cluster in this process."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import trio

from fastworker import Client, UnknownJob, task
from fastworker.client.current import current_client
from fastworker.core.ids import id_text, new_id
from fastworker.core.records import JobView
from fastworker.server.clients import ClientPeer
from fastworker.server.identity import Identity, Role
from fastworker.server.plane import Plane
from fastworker.testing import Cluster, open_cluster
from fastworker.wire.codec import encode
from fastworker.wire.messages import Fetch, Fetched, Introduce, Message, Submit, Submitted
from fastworker.wire.values import seal_call
from fastworker.wire.views import map_to_view

M = TypeVar("M", bound=Message)

QUIET_SECONDS = 5.0
"""Of a clock that jumps: longer than a report waits for subworkers."""


@task(name="tenants-hold", runtime="trio")
async def hold() -> None:
    await trio.sleep(10**6)


@task(name="tenants-count", runtime="trio")
async def count() -> AsyncIterator[int]:
    yield 1
    await trio.sleep(10**6)


@task(name="tenants-echo", runtime="trio")
async def echo(text: str) -> str:
    return text


@task(name="tenants-fail", runtime="trio")
async def fail(text: str) -> None:
    raise ValueError(text)


@task(name="tenants-look", runtime="trio")
async def look(task_id: str, started_here: bool) -> list[Any]:
    """What code of a job can see and do of another one, and how many jobs it sees at all."""
    if not started_here:
        return await _look(current_client(), task_id)
    async with Client() as client:
        return await _look(client, task_id)


async def _look(client: Client, task_id: str) -> list[Any]:
    found = await client.get_task_result(task_id)
    try:
        result = await client.result(task_id, 60)
    except UnknownJob:
        result = "unknown"
    outcome = (await client.handle(task_id).cancel()).outcome
    listed = await client.jobs()
    return [found is not None, result, outcome.value, sorted(job["id"] for job in listed)]


@task(name="tenants-spawn", runtime="trio")
async def spawn(text: str) -> list[str]:
    """Submits a job, and gives its id and what it returned."""
    child = await echo.submit(text)
    return [child.id, await child.result(60)]


class Connected:
    """A client of one tenant: what it says, and all that it is told."""

    def __init__(
        self,
        plane: Plane,
        nursery: trio.Nursery,
        tenant: str,
        roles: Sequence[Role] = (Role.SUBMIT,),
    ) -> None:
        self.plane = plane
        self.tenant = tenant
        self.client_id = secrets.token_bytes(16)
        self._put, self._take = trio.open_memory_channel[Message](1000)
        self.peer = ClientPeer(
            plane,
            self._put.send_nowait,
            nursery,
            identity=Identity(next(iter(plane.settings.tokens)), tenant, frozenset(roles)),
            host=None,
        )

    async def introduce(self, *, callbacks: bool = False) -> None:
        await self.peer.receive(Introduce(self.client_id, callbacks=callbacks))

    async def tell(self, message: Message) -> list[Message]:
        """All that it is told until nothing happens any more; needs a clock that jumps."""
        await self.peer.receive(message)
        await trio.sleep(QUIET_SECONDS)
        told: list[Message] = []
        while self._take.statistics().current_buffer_used:
            told.append(self._take.receive_nowait())
        return told

    async def ask(self, message: Message, kind: type[M]) -> M:
        """The answer to a message, which is of this kind."""
        [answer] = [each for each in await self.tell(message) if isinstance(each, kind)]
        return answer

    async def submit(
        self,
        name: str,
        *arguments: object,
        options: dict[str, Any] | None = None,
        **columns: Any,
    ) -> bytes:
        """A job of its tenant; its id."""
        job = new_id(wall=self.plane.clock().wall, random=secrets.token_bytes(10))
        payload = seal_call(arguments, {}, task=name)
        specs: list[list[object]] = [[name, "default", 1, options or {}]]
        answer = await self.ask(Submit(1, specs, job, [payload], **columns), Submitted)
        assert answer.refused is None
        return job

    async def view(self, job: bytes) -> JobView:
        """How a job of its tenant stands."""
        [found] = (await self.ask(Fetch(1, job), Fetched)).jobs
        return map_to_view(found)


@asynccontextmanager
async def open_tenants(*tenants: str) -> AsyncIterator[tuple[Cluster, list[Connected]]]:
    """A cluster, and a client of each tenant."""
    async with open_cluster() as cluster, trio.open_nursery() as nursery:
        yield cluster, [Connected(cluster._plane, nursery, tenant) for tenant in tenants]
        nursery.cancel_scope.cancel()


def said_of(job: bytes, messages: Sequence[Message]) -> list[bytes]:
    """What messages say, whatever the job's id is."""
    told = [encode([message]) for message in messages]
    for shown in (job, id_text(job).encode(), job.hex().encode()):
        told = [frame.replace(shown, b"[the job]") for frame in told]
    return told
