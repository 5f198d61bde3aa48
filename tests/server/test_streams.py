"""Who is sent the items of a streamed job, and who is asked for them, by a real control plane."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

import pytest
import trio

from fastworker.transport.dial import open_link
from fastworker.transport.link import Link
from fastworker.wire.addresses import parse_address
from fastworker.wire.messages import (
    Assign,
    Beat,
    BeatAck,
    Message,
    Pull,
    Register,
    Registered,
    Streamed,
    StreamItems,
    StreamPull,
    Submit,
    Submitted,
)
from tests.server.test_listener import TOKEN, control_plane

pytestmark = pytest.mark.trio

JOB, OTHER_JOB = b"j" * 16, b"k" * 16
SESSION = b"s" * 16

M = TypeVar("M", bound=Message)


class Peer:
    """One side of a connection; messages are kept until they are asked for."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._kept: list[Message] = []

    def send(self, *messages: Message) -> None:
        for message in messages:
            self._link.send(message)

    async def next(self, kind: type[M]) -> M:
        """The next message of a kind."""
        with trio.fail_after(20):
            while True:
                for position, message in enumerate(self._kept):
                    if isinstance(message, kind):
                        del self._kept[position]
                        return message
                self._kept += await self._link.receive()

    async def has_none(self, kind: type[Message]) -> bool:
        """Whether none of a kind has come, and all that was sent before has been handled."""
        self.send(Beat(77))
        await self.next(BeatAck)
        return not any(isinstance(message, kind) for message in self._kept)


@asynccontextmanager
async def peer(address: str, role: str) -> AsyncIterator[Peer]:
    async with open_link(parse_address(address), role=role, token=TOKEN, agent="t") as (link, _):
        yield Peer(link)


@asynccontextmanager
async def subworker(address: str, *claims: int) -> AsyncIterator[Peer]:
    rows: list[list[object]] = [["count", 0, "()"]]
    async with peer(address, "subworker") as worker:
        claimed = {"claim_ids": JOB * len(claims), "claim_tokens": claims}
        worker.send(Register(SESSION, "one", ["default"], rows, [9, 0], [0, 0], **claimed))  # type: ignore[arg-type]
        await worker.next(Registered)
        yield worker


async def submitted(client: Peer, worker: Peer, job: bytes = JOB) -> int:
    """A streamed job that a subworker holds; its token."""
    options = {"stream": True, "on_lost": "fail"}
    client.send(Submit(1, [["count", "default", 1, options]], job, [b"x"], watch=True))
    await client.next(Submitted)
    assign = await worker.next(Assign)
    assert assign.specs[0][3] == options
    return assign.tokens[0]


async def test_pulls_and_items_find_each_other() -> None:
    async with control_plane() as plane:
        address = plane.addresses[0]
        async with subworker(address) as worker, peer(address, "client") as client:
            token = await submitted(client, worker)
            client.send(StreamPull(JOB, 0, 64))
            assert await worker.next(Pull) == Pull(JOB, token, 0, 64)
            worker.send(StreamItems(JOB, token, 0, [b"a", b"b"]))
            assert await client.next(Streamed) == Streamed(JOB, 0, [b"a", b"b"])
            worker.send(StreamItems(JOB, token, 2, [], 2))
            assert await client.next(Streamed) == Streamed(JOB, 2, [], 2)


async def test_an_attempt_that_begins_is_told_the_latest_pull() -> None:
    async with control_plane() as plane:
        address = plane.addresses[0]
        async with subworker(address) as worker, peer(address, "client") as client:
            client.send(StreamPull(JOB, 0, 64))
            token = await submitted(client, worker)
            worker.send(StreamItems(JOB, token, 0, []))
            assert await worker.next(Pull) == Pull(JOB, token, 0, 64)
            assert await client.has_none(Streamed)


async def test_items_of_an_attempt_that_lost_its_lease_are_passed_over() -> None:
    async with control_plane() as plane:
        address = plane.addresses[0]
        async with subworker(address) as worker, peer(address, "client") as client:
            token = await submitted(client, worker)
            client.send(StreamPull(JOB, 0, 64))
            await worker.next(Pull)
            worker.send(
                StreamItems(JOB, token + 1, 0, [b"a"]), StreamItems(OTHER_JOB, token, 0, [])
            )
            assert await worker.has_none(Pull)
            assert await client.has_none(Streamed)


async def test_a_client_that_returns_takes_the_stream_over() -> None:
    async with control_plane() as plane:
        address = plane.addresses[0]
        async with subworker(address) as worker, peer(address, "client") as client:
            token = await submitted(client, worker)
            client.send(StreamPull(JOB, 0, 64))
            await worker.next(Pull)
            async with peer(address, "client") as again:
                again.send(StreamPull(JOB, 3, 67, True))
                assert await worker.next(Pull) == Pull(JOB, token, 3, 67, True)
                worker.send(StreamItems(JOB, token, 3, [b"d"]))
                assert (await again.next(Streamed)).items == [b"d"]
                assert await client.has_none(Streamed)


async def test_a_subworker_that_returns_is_asked_for_what_may_be_lost() -> None:
    async with control_plane() as plane:
        address = plane.addresses[0]
        async with peer(address, "client") as client:
            async with subworker(address) as worker:
                token = await submitted(client, worker)
                client.send(StreamPull(JOB, 5, 69))
                await worker.next(Pull)
            async with subworker(address, token) as worker:
                assert await worker.next(Pull) == Pull(JOB, token, 5, 69, True)


async def test_nothing_is_kept_of_streams_that_are_over() -> None:
    async with control_plane() as plane:
        address = plane.addresses[0]
        async with subworker(address) as worker:
            async with peer(address, "client") as client:
                await submitted(client, worker)
                client.send(StreamPull(JOB, 0, 64), StreamPull(OTHER_JOB, 0, 64))
                await worker.next(Pull)
                assert await client.has_none(Streamed)
                assert len(plane.streams._consumers) == 2
            with trio.fail_after(20):
                while plane.streams._consumers or plane.streams._by_peer:  # noqa: ASYNC110
                    await trio.sleep(0.01)
