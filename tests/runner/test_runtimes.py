"""Code for one event loop in the other: a failure whose sentence names the switch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fastworker import TaskStatus
from tests.runner.harness import RunnerProcess, ready_runner
from tests.runner.runtime_tasks import OF_ANYIO, OF_ASYNCIO, OF_TRIO


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def runner(request: pytest.FixtureRequest) -> Iterator[RunnerProcess]:
    """A runner with each default runtime: the other loop runs in a thread of its own."""
    options = ("--async-runtime", request.param)
    with ready_runner(*options, modules="tests.runner.runtime_tasks") as runner:
        yield runner


@pytest.mark.parametrize("code", [each.__name__ for each in OF_ASYNCIO])
def test_asyncio_code_in_trio_is_told_the_switch(runner: RunnerProcess, code: str) -> None:
    ended = runner.run(f"{code}.trio")

    assert ended.status is TaskStatus.FAILURE
    assert "this task ran in Trio, but its code is written for asyncio" in ended.message
    assert '@task(runtime="asyncio")' in ended.message
    assert "--async-runtime asyncio" in ended.message


@pytest.mark.parametrize("code", [each.__name__ for each in OF_TRIO])
def test_trio_code_in_asyncio_is_told_the_switch(runner: RunnerProcess, code: str) -> None:
    ended = runner.run(f"{code}.asyncio")

    assert ended.status is TaskStatus.FAILURE
    assert "this task ran in asyncio, but its code is written for Trio" in ended.message
    assert '@task(runtime="trio")' in ended.message
    assert "--async-runtime trio" in ended.message


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
@pytest.mark.parametrize("code", [each.__name__ for each in OF_ANYIO])
def test_anyio_code_runs_in_both(runner: RunnerProcess, code: str, runtime: str) -> None:
    assert runner.run(f"{code}.{runtime}").status is TaskStatus.SUCCESS


def test_asyncio_code_runs_on_uvloop_if_there_is_one(runner: RunnerProcess) -> None:
    pytest.importorskip("uvloop")
    assert runner.run("loop_name").value == "uvloop"
    for code in ("asyncio_sleep", "asyncio_gather", "asyncio_to_thread", "asyncio_timeout"):
        assert runner.run(f"{code}.asyncio").status is TaskStatus.SUCCESS


def test_a_coroutine_that_was_not_awaited_is_told_so(runner: RunnerProcess) -> None:
    ended = runner.run("forgotten_await", pool=1)

    assert ended.type_name == "ResultNotSerializable"
    assert "await it first" in ended.message
