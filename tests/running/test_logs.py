"""What jobs log and print is kept with them, and followed."""

from __future__ import annotations

import logging
import sys

import pytest
import trio
import trio.testing

from fastworker import Client, TaskHandle
from fastworker.runner.collecting import CollectingStream
from fastworker.testing import Runtime, open_cluster
from tests.running import sample_tasks as tasks


async def texts(handle: TaskHandle[object]) -> list[str]:
    return [line.text async for line in handle.logs()]


@pytest.mark.trio
async def test_what_a_job_logs_and_prints_is_kept(
    fastworker_client: Client, autojump_clock: trio.testing.MockClock
) -> None:
    handle = await tasks.talk.submit()
    await handle.result(timeout=60)
    lines = [(line.level, line.text) async for line in handle.logs()]
    assert lines == [
        (logging.WARNING, "the disk is low"),
        (0, "printed 1 and 2"),
        (0, "by bits and pieces"),
        (logging.ERROR, "at the end"),
        (0, "no newline"),
    ]
    again = [line.text async for line in fastworker_client.logs(handle.id, follow=False)]
    assert again == [text for _, text in lines]


@pytest.mark.trio
async def test_lines_are_followed_while_they_come(
    fastworker_client: Client, autojump_clock: trio.testing.MockClock
) -> None:
    begun = trio.current_time()
    handle = await tasks.talk_for_long.submit(5)
    seen = []
    async for line in handle.logs():
        seen.append((line.text, round(trio.current_time() - begun)))
    assert seen == [(f"line {number}", number) for number in range(5)]


@pytest.mark.trio
async def test_lines_of_all_attempts_are_kept_in_order(
    fastworker_client: Client, autojump_clock: trio.testing.MockClock
) -> None:
    handle = await tasks.fail_with_words.submit()
    assert await texts(handle) == ["attempt 1", "attempt 2", "attempt 3"]


@pytest.mark.trio
async def test_of_a_flood_the_beginning_is_kept_and_the_rest_counted(
    fastworker_client: Client, autojump_clock: trio.testing.MockClock
) -> None:
    handle = await tasks.flood.submit(1500)
    lines = await texts(handle)
    assert lines == [*map(str, range(1000)), "… 500 lines left out …"]


@pytest.mark.trio
async def test_odd_characters_long_lines_and_tracebacks_travel(
    fastworker_client: Client, autojump_clock: trio.testing.MockClock
) -> None:
    first, second, third, *trace, last = await texts(await tasks.odd_words.submit())
    assert first == "\\ud800 lone"
    assert second == "ü" * 2048
    assert third == "it failed" and trace[-1] == "ValueError: as planned"
    assert last == "100 %"


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        (tasks.talk_asyncio, ["from asyncio", "from its thread"]),
        (tasks.talk_thread, ["from a thread", "printed there"]),
        (tasks.silent, []),
    ],
)
def test_every_kind_of_function_is_heard(
    fastworker_runtime: Runtime, task: object, expected: list[str]
) -> None:
    with fastworker_runtime.blocking_client() as client:
        handle = client.submit(task)  # type: ignore[arg-type]
        assert [line.text for line in handle.logs()] == expected


@pytest.mark.trio
async def test_nothing_is_left_in_front_of_the_streams() -> None:
    async with open_cluster() as cluster, cluster.client():
        await (await tasks.silent.submit()).result(timeout=60)
        assert isinstance(sys.stdout, CollectingStream)
    assert not isinstance(sys.stdout, CollectingStream)
    assert not isinstance(sys.stderr, CollectingStream)
