"""Lifespan hooks in a user's tests: open for the in-process runner, left at the end."""

from __future__ import annotations

import pytest

pytest_plugins = ("pytester",)

TASKS = """
from collections.abc import AsyncIterator, Iterator

import anyio
import sniffio
from fastworker import lifespan, task

events = []

@lifespan
def settings() -> Iterator[dict[str, int]]:
    events.append("settings opened")
    yield {"answer": 42}
    events.append("settings closed")

@lifespan
async def pool() -> AsyncIterator[str]:
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 1000)
        events.append("pool opened")
        yield f"{settings.value['answer']} in {sniffio.current_async_library()}"
        await anyio.sleep(0.01)
        events.append("pool closed")
        group.cancel_scope.cancel()

@task
async def look() -> str:
    return pool.value
"""

TESTS = """
import pytest
from tasks import events, look, pool

ALL = ["settings opened", "pool opened", "pool closed", "settings closed"]

@pytest.mark.trio
async def test_trio(fastworker_client, autojump_clock):
    assert await (await fastworker_client.submit(look)).result(timeout=10) == "42 in trio"
    assert events == ALL[:2]

def test_asyncio(fastworker_runtime):
    assert events == ALL + ALL[:2]
    with fastworker_runtime.blocking_client() as client:
        assert client.submit("look").result(timeout=10) == "42 in asyncio"

def test_all_are_left():
    assert events == ALL + ALL
    with pytest.raises(Exception, match="lifespan 'pool' of tasks is not open here"):
        pool.value
"""

FAILING = """
import pytest
from fastworker import CallerError, lifespan
from fastworker.testing import open_cluster, open_runtime

@lifespan
async def pool():
    raise OSError("no database")
    yield

@pytest.mark.trio
async def test_trio():
    with pytest.raises(CallerError, match="lifespan 'pool' .* OSError: no database"):
        async with open_cluster():
            pass

def test_asyncio():
    with pytest.raises(CallerError, match="lifespan 'pool' .* OSError: no database"):
        with open_runtime():
            pass
"""


def passes(pytester: pytest.Pytester, tests: int) -> None:
    outcome = pytester.runpytest_subprocess("-p", "no:cacheprovider", "-q", timeout=60)
    outcome.assert_outcomes(passed=tests)


def test_hooks_are_open_for_the_length_of_a_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(tasks=TASKS, test_application=TESTS)
    passes(pytester, 3)


def test_a_hook_that_raises_fails_the_test_with_a_sentence(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_application=FAILING)
    passes(pytester, 2)
