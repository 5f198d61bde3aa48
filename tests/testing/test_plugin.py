"""The pytest plugin as its users meet it: in a pytest run of their own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest_plugins = ("pytester",)

TASKS = """
from fastworker import task

@task
async def greet(name: str) -> str:
    return f"hello {name}"
"""

TRIO_TEST = """
import pytest
import trio
from tasks import greet

@pytest.mark.trio
async def test_reminder(fastworker_client, autojump_clock):
    handle = await fastworker_client.submit(greet, "you", countdown=3600)
    assert await handle.result(timeout=7200) == "hello you"
    assert 3600 <= trio.current_time() < 3601
"""

ASYNCIO_TEST = """
import asyncio
import pytest
from fastworker import Client
from tasks import greet

@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.mark.anyio
async def test_with_anyio(fastworker_cluster):
    async with Client():
        assert await (await greet.submit("you")).result(timeout=10) == "hello you"

def test_plain(fastworker_runtime):
    async def main():
        async with fastworker_runtime.client() as client:
            return await client.result(await client.delay("greet", "you"), timeout=10)

    assert asyncio.run(main()) == "hello you"
"""

OPTIONS_TEST = """
import pytest
from fastworker.testing import ClusterOptions

@pytest.fixture
def fastworker_options():
    return ClusterOptions(task_modules=("tasks",))

def test_by_name(fastworker_runtime):
    with fastworker_runtime.blocking_client() as client:
        assert client.submit("greet", "you").result(timeout=10) == "hello you"
"""


SYNC_TEST = """
def test_without_a_loop(fastworker_client):
    fastworker_client.submit
"""


def test_fixtures_work_in_a_run_of_their_own(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        tasks=TASKS,
        test_trio=TRIO_TEST,
        test_asyncio=ASYNCIO_TEST,
        test_options=OPTIONS_TEST,
        test_without_loop=SYNC_TEST,
    )
    pytester.makeini("[pytest]\nfilterwarnings = error\npythonpath = .\n")
    run = pytester.runpytest_subprocess()
    run.assert_outcomes(passed=4, errors=1)
    run.stdout.fnmatch_lines(["ERROR test_without_loop.py::test_without_a_loop*"])


def test_loading_the_plugin_imports_nothing_heavy() -> None:
    program = (
        "import sys, pytest; before = set(sys.modules)\n"
        "import fastworker.integrations.pytest_plugin\n"
        "print(*set(sys.modules) - before)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert {"trio", "anyio", "cbor2", "websockets", "sqlite3"}.isdisjoint(loaded.stdout.split())


def test_page_on_testing_does_what_it_shows(pytester: pytest.Pytester) -> None:
    page = Path(__file__).parent.parent.parent / "docs" / "how-to" / "testing.md"
    blocks = re.findall(
        r"^```python\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    tasks, trio_tests, other_tests, options = blocks
    pytester.makepyfile(
        tasks=tasks, test_trio=trio_tests, test_other=other_tests, test_options=options
    )
    pytester.makeini("[pytest]\nfilterwarnings = error\npythonpath = .\n")
    pytester.runpytest_subprocess().assert_outcomes(passed=7)
