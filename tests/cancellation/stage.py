"""Where calls are cancelled: a cluster, clients of it, and the books of what was submitted."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from fastworker import Client
from fastworker.testing import Cluster, Runtime
from tests.cancellation import sample_tasks

PATIENCE_SECONDS = 20.0
"""For a result; on a busy machine."""

_numbers = itertools.count(1)


@dataclass
class Stage:
    """One cluster and two clients of it."""

    cluster: Cluster | Runtime
    client: Client
    narrow: Client
    """Its outbox has room for one job: the next caller waits."""
    may_start: dict[str, int] = field(default_factory=dict)
    must_start: set[str] = field(default_factory=set)
    groups: list[list[str]] = field(default_factory=list)
    """Marks of jobs that are accepted all, or none."""
    for_later: list[str] = field(default_factory=list)

    def mark(self, times: int = 1) -> str:
        """For one submission; its job may start so often, or not at all."""
        mark = f"job {next(_numbers)}"
        self.may_start[mark] = times
        return mark

    def marks(self, count: int) -> list[str]:
        return [self.mark() for _ in range(count)]

    async def check(self) -> None:
        """Wait for all jobs to end: none was started too often, and the clients' books are empty.

        Jobs for later are cancelled first.
        """
        for task_id in self.for_later:
            await self.client.cancel(task_id)
        await self.cluster.wait_idle()
        for client in (self.client, self.narrow):
            await client.status()  # everything that was pushed before has arrived
            assert books_of(client) == (True, 0, [])
        started = {mark: sample_tasks.started[mark] for mark in self.may_start}
        assert not {m: n for m, n in started.items() if n > self.may_start[m]}
        for group in self.groups:
            assert sum(sample_tasks.started[mark] for mark in group) in (0, len(group))
        assert not {mark for mark in self.must_start if not started[mark]}


def books_of(client: Client) -> tuple[bool, int, list[bytes]]:
    """Whether its outbox is empty, its open questions, and the jobs whose ends it waits for."""
    connection = client._connection
    assert connection is not None
    watched = list(client._watches._by_id)
    return connection.outbox.is_empty, len(connection.requests._open), watched


@asynccontextmanager
async def on_stage(cluster: Cluster | Runtime) -> AsyncIterator[Stage]:
    """Two clients that are connected; calls on tasks use the first."""
    async with Client() as client, Client(outbox_limit=1) as narrow:
        await client.wait_connected(PATIENCE_SECONDS)
        await narrow.wait_connected(PATIENCE_SECONDS)
        with client.as_current():
            yield Stage(cluster, client, narrow)


async def _nothing(stage: Stage) -> None:
    """Most calls need nothing to be there."""


async def _accept_any(stage: Stage, prepared: Any, answer: Any) -> None:
    """Nothing to look at."""


@dataclass(frozen=True)
class Case:
    """A call that is cancelled.

    Args:
        covers: the public coroutines that it is about, as `surface` names them.
        call: what is cancelled.
        prepare: makes what the call needs, before.
        check: asserts that the answer of a call that was not cancelled is right.
        again: what is prepared once serves the cancelled call and the next one; else each has
            its own.
        network: sockets are the point: not over memory.
    """

    covers: tuple[str, ...]
    call: Callable[[Stage, Any], Awaitable[Any]]
    prepare: Callable[[Stage], Awaitable[Any]] = _nothing
    check: Callable[[Stage, Any, Any], Awaitable[None]] = _accept_any
    again: bool = False
    network: bool = False
    name: str = ""

    @property
    def id(self) -> str:
        return self.name or self.covers[0]
