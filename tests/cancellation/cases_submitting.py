"""Calls that submit: each job is accepted once or not at all, and the next call is accepted."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import anyio

from fastworker import Call, TaskHandle, call
from fastworker.core.ids import id_text, new_id
from tests.cancellation.sample_tasks import note, plain
from tests.cancellation.stage import PATIENCE_SECONDS, Case, Stage

HOUR = 3600.0
GROUP = 3

BALLAST = "x" * 100_000
"""So that a group leaves in several messages."""


async def mark(stage: Stage) -> str:
    return stage.mark()


async def group(stage: Stage) -> list[str]:
    return stage.marks(GROUP)


async def whole_group(stage: Stage) -> list[str]:
    stage.groups.append(stage.marks(GROUP))
    return stage.groups[-1]


async def handle_is_right(stage: Stage, mark: str, handle: TaskHandle[int]) -> None:
    stage.must_start.add(mark)
    assert await handle.result(PATIENCE_SECONDS) == 1


async def id_is_right(stage: Stage, mark: str, task_id: str) -> None:
    stage.must_start.add(mark)
    assert await stage.client.result(task_id, PATIENCE_SECONDS) == 1


async def group_is_right(stage: Stage, marks: list[str], handles: list[TaskHandle[int]]) -> None:
    stage.must_start.update(marks)
    assert await stage.client.results(handles, timeout=PATIENCE_SECONDS) == [1] * len(marks)


async def stream(stage: Stage, marks: list[str]) -> list[TaskHandle[Any]]:
    async with aclosing(stage.client.submit_stream(_calls(marks))) as handles:
        return [handle async for handle in handles]


async def _calls(marks: list[str]) -> AsyncIterator[Call]:
    for mark in marks:
        await anyio.lowlevel.checkpoint()
        yield call(note, mark)


async def through_a_full_outbox(stage: Stage, marks: list[str]) -> list[TaskHandle[Any]]:
    """All but the first wait for room."""
    handles: dict[str, TaskHandle[Any]] = {}

    async def submit(mark: str) -> None:
        handles[mark] = await stage.narrow.submit(note, mark)

    async with anyio.create_task_group() as submitting:
        for mark in marks:
            submitting.start_soon(submit, mark)
    return [handles[mark] for mark in marks]


async def stream_through_a_full_outbox(stage: Stage, marks: list[str]) -> list[TaskHandle[Any]]:
    calls = [call(note, mark) for mark in marks]
    async with aclosing(stage.narrow.submit_stream(calls)) as handles:
        return [handle async for handle in handles]


async def with_an_id(stage: Stage) -> tuple[str, str]:
    return stage.mark(), id_text(new_id(wall=time.time(), random=os.urandom(10)))


async def with_a_key(stage: Stage) -> tuple[str, str]:
    mark = stage.mark()
    return mark, f"key of {mark}"


async def pair_is_right(stage: Stage, pair: tuple[str, str], handle: TaskHandle[int]) -> None:
    await handle_is_right(stage, pair[0], handle)


CASES = [
    Case(("Client.delay",), lambda s, m: s.client.delay(note, m), mark, id_is_right),
    Case(("Client.submit",), lambda s, m: s.client.submit(note, m), mark, handle_is_right),
    Case(
        ("Client.delay_with_callback",),
        lambda s, m: s.client.delay_with_callback(note, s.client.callback_address, m),
        mark,
        id_is_right,
    ),
    Case(("Client.apply",), lambda s, m: s.client.apply(note, (m,)), mark, handle_is_right),
    Case(
        ("Client.apply",),
        lambda s, pair: s.client.apply(note, (pair[0],), task_id=pair[1]),
        with_an_id,
        pair_is_right,
        again=True,
        name="Client.apply(task_id=…)",
    ),
    Case(
        ("Client.apply",),
        lambda s, pair: s.client.apply(note, (pair[0],), idempotency_key=pair[1]),
        with_a_key,
        pair_is_right,
        again=True,
        name="Client.apply(idempotency_key=…)",
    ),
    Case(
        ("client.BoundOptions.delay",),
        lambda s, m: s.client.options(queue="other").delay(note, m),
        mark,
        id_is_right,
    ),
    Case(
        ("client.BoundOptions.submit",),
        lambda s, m: s.client.options(queue="other").submit(note, m),
        mark,
        handle_is_right,
    ),
    Case(
        ("Client.submit_many",),
        lambda s, marks: s.client.submit_many(note, [(one, 0, BALLAST) for one in marks]),
        whole_group,
        group_is_right,
    ),
    Case(("Client.submit_stream",), stream, group, group_is_right),
    Case(
        ("Client.submit",),
        through_a_full_outbox,
        group,
        group_is_right,
        name="Client.submit(outbox full)",
    ),
    Case(
        ("Client.submit_stream",),
        stream_through_a_full_outbox,
        group,
        group_is_right,
        name="Client.submit_stream(outbox full)",
    ),
    Case(("AsyncTask.delay",), lambda s, m: note.delay(m), mark, id_is_right),
    Case(("AsyncTask.submit",), lambda s, m: note.submit(m), mark, handle_is_right),
    Case(("Task.delay",), lambda s, m: plain.delay(m), mark, id_is_right),
    Case(("Task.submit",), lambda s, m: plain.submit(m), mark, handle_is_right),
    Case(
        ("tasks.BoundOptions.delay",),
        lambda s, m: note.options(queue="other").delay(m),
        mark,
        id_is_right,
    ),
    Case(
        ("tasks.BoundOptions.submit",),
        lambda s, m: note.options(queue="other").submit(m),
        mark,
        handle_is_right,
    ),
]
