"""Calls on streams: whoever is cancelled leaves no job behind that nobody takes the items of."""

from __future__ import annotations

from typing import Any

from fastworker import Stream
from tests.cancellation.cases_submitting import mark
from tests.cancellation.sample_tasks import items, items_plain
from tests.cancellation.stage import Case, Stage

MORE_THAN_A_WINDOW = 100


async def take_all(stage: Stage, mark: str) -> list[int]:
    return [item async for item in items.stream(mark, MORE_THAN_A_WINDOW)]


async def take_all_inside(stage: Stage, mark: str) -> list[int]:
    async with stage.client.stream(items, mark, MORE_THAN_A_WINDOW) as stream:
        return [item async for item in stream]


async def all_are_there(stage: Stage, mark: str, found: list[int]) -> None:
    stage.must_start.add(mark)
    assert found == list(range(MORE_THAN_A_WINDOW))


async def a_stream(stage: Stage) -> Stream[int]:
    stream = items.stream(stage.mark(), MORE_THAN_A_WINDOW)
    assert await anext(stream) == 0
    return stream


async def leave(stage: Stage, stream: Stream[int]) -> list[int]:
    await stream.aclose()
    return [item async for item in stream]


async def nothing_is_left(stage: Stage, stream: Stream[int], found: list[int]) -> None:
    assert found == []


async def cancel(stage: Stage, stream: Stream[int]) -> bool:
    return (await stream.cancel()).cancelled


async def it_is_cancelled(stage: Stage, stream: Stream[int], answer: bool) -> None:
    assert answer or (await stream.cancel()).outcome == "finished_first"
    await stream.aclose()


async def list_is_right(stage: Stage, mark: str, handle: Any) -> None:
    stage.must_start.add(mark)
    assert await handle.result(20) == [0, 1]


async def list_of_id_is_right(stage: Stage, mark: str, task_id: str) -> None:
    await list_is_right(stage, mark, stage.client.handle(task_id))


CASES = [
    Case(("Stream.__anext__", "AsyncStreamTask.__call__"), take_all, mark, all_are_there),
    Case(("Stream.__aenter__", "Stream.__aexit__"), take_all_inside, mark, all_are_there),
    Case(("Stream.aclose",), leave, a_stream, nothing_is_left, again=True),
    Case(("Stream.cancel",), cancel, a_stream, it_is_cancelled, again=True),
    Case(("AsyncStreamTask.submit",), lambda s, m: items.submit(m, 2), mark, list_is_right),
    Case(("AsyncStreamTask.delay",), lambda s, m: items.delay(m, 2), mark, list_of_id_is_right),
    Case(("StreamTask.submit",), lambda s, m: items_plain.submit(m, 2), mark, list_is_right),
    Case(("StreamTask.delay",), lambda s, m: items_plain.delay(m, 2), mark, list_of_id_is_right),
]
