"""`submit_stream`: any number of submissions, a bounded number of them on their way."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import anyio

from fastworker.client.calls import Call, job_of
from fastworker.client.handles import TaskHandle
from fastworker.client.results import Watched
from fastworker.client.submissions import Submission
from fastworker.errors import FastWorkerError

if TYPE_CHECKING:
    from fastworker.client.client import Client

WINDOW_JOBS: Final = 1_000
"""As many as one message holds: enough to keep the connection busy at any round trip."""


BATCH_SECONDS: Final = 0.01
"""A batch is not held back longer for more calls; their source may be slow."""


class _Posted(NamedTuple):
    submission: Submission
    watched: list[Watched]
    done: anyio.Event


async def stream_handles(
    client: Client, calls: Iterable[Call] | AsyncIterable[Call]
) -> AsyncGenerator[TaskHandle[Any], None]:
    """Yield handles in the order of ``calls``; what is not accepted when it ends is given up."""
    posted: deque[_Posted] = deque()
    connection = client._usable()
    refusal: FastWorkerError | None = None
    try:
        async with aclosing(_each(calls)) as source:
            async for call in source:
                try:
                    posted.append(await _post(client, call))
                except FastWorkerError as error:  # those before it have their turn first
                    refusal = error
                    break
                while posted and (len(posted) >= WINDOW_JOBS or posted[0].done.is_set()):
                    yield await _first(client, posted)
        while posted:
            yield await _first(client, posted)
        if refusal is not None:
            raise refusal
    finally:
        for one in posted:
            connection.give_up(one.submission, one.watched)


async def _each(calls: Iterable[Call] | AsyncIterable[Call]) -> AsyncGenerator[Call, None]:
    if isinstance(calls, AsyncIterable):
        async for call in calls:
            yield call
    else:
        for call in calls:
            yield call


async def _post(client: Client, call: Call) -> _Posted:
    connection = client._usable()
    submission, watched = client._prepare(job_of(call, connection.offers.parameters), watch=True)
    await connection.wait_for_room(submission, watched)
    return _Posted(submission, watched, connection.post(submission, watched))


async def _first(client: Client, posted: deque[_Posted]) -> TaskHandle[Any]:
    submission, watched, done = posted.popleft()
    connection = client._usable()
    await connection.wait_accepted(submission, watched, done)
    return client._accepted(submission, watched)[0]


def batches(calls: Iterable[Call]) -> Iterator[list[Call]]:
    """Cut into lists of at most a window, without holding back what comes slowly."""
    batch: list[Call] = []
    began = time.monotonic()
    for call in calls:
        batch.append(call)
        if len(batch) >= WINDOW_JOBS or time.monotonic() - began >= BATCH_SECONDS:
            yield batch
            batch, began = [], time.monotonic()
    if batch:
        yield batch


async def submit_batch(
    client: Client, batch: list[Call]
) -> tuple[list[TaskHandle[Any]], FastWorkerError | None]:
    """The handles of those that were accepted, in order, and what came instead of the next."""
    handles: list[TaskHandle[Any]] = []
    try:
        async for handle in stream_handles(client, batch):
            handles.append(handle)
    except FastWorkerError as error:
        return handles, error
    return handles, None
