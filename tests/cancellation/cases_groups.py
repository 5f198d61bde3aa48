"""Task groups: entered, waited for and left; what they have started is accounted for."""

from __future__ import annotations

from typing import Any

import anyio

from fastworker import CancelOutcome, GroupHandle
from tests.cancellation.cases_submitting import GROUP, HOUR, group, mark
from tests.cancellation.sample_tasks import note
from tests.cancellation.stage import Case, Stage


async def whole_block(stage: Stage, marks: list[str]) -> list[int]:
    """Cancelled, its jobs have ended with it."""
    async with stage.client.task_group() as tg:
        first = tg.start_soon(note, marks[0])
        rest = tg.start_many(note, [(one,) for one in marks[1:]])
    return [first.value, *(handle.value for handle in rest)]


async def through_a_full_outbox(stage: Stage, marks: list[str]) -> list[int]:
    """All but the first wait for room."""
    async with stage.narrow.task_group() as tg:
        handles = [tg.start_soon(note, one) for one in marks]
    return [handle.value for handle in handles]


async def result_inside(stage: Stage, one: str) -> int:
    async with stage.client.task_group() as tg:
        return await tg.start_soon(note, one).result()


async def end_inside(stage: Stage, one: str) -> Any:
    async with stage.client.task_group() as tg:
        handle = tg.start_soon(note, one)
        await handle.status()
        return (await handle.wait()).result


async def cancel_inside(stage: Stage, one: str) -> Any:
    async with stage.client.task_group() as tg:
        handle: GroupHandle[int] = tg.options(countdown=HOUR).start_soon(note, one)
        return await handle.cancel()


class Browser:
    """Of a request that ends only when its answer is there."""

    async def receive(self) -> dict[str, str]:
        await anyio.sleep_forever()
        return {}

    async def is_disconnected(self) -> bool:
        return False


async def bound_to_a_request(stage: Stage, one: str) -> int:
    async with stage.client.bound_to(Browser()):
        return int(await (await stage.client.submit(note, one)).result())


async def is_one(stage: Stage, prepared: str, answer: int) -> None:
    stage.must_start.add(prepared)
    assert answer == 1


async def are_ones(stage: Stage, prepared: list[str], answer: list[int]) -> None:
    stage.must_start.update(prepared)
    assert answer == [1] * GROUP


async def was_cancelled(stage: Stage, prepared: Any, answer: Any) -> None:
    assert answer.outcome is CancelOutcome.CANCELLED


CASES = [
    Case(
        ("client.Bound.__aenter__", "client.Bound.__aexit__"),
        bound_to_a_request,
        mark,
        is_one,
        name="Client.bound_to",
    ),
    Case(
        ("TaskGroup.__aenter__", "TaskGroup.__aexit__"),
        whole_block,
        group,
        are_ones,
        name="TaskGroup",
    ),
    Case(
        ("TaskGroup.__aexit__",),
        through_a_full_outbox,
        group,
        are_ones,
        name="TaskGroup(outbox full)",
    ),
    Case(("GroupHandle.result",), result_inside, mark, is_one),
    Case(("GroupHandle.wait", "GroupHandle.status"), end_inside, mark, is_one),
    Case(("GroupHandle.cancel",), cancel_inside, mark, was_cancelled),
]
