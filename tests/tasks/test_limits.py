"""Time limits, graces and where a task runs, as ``@task`` takes them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from fastworker.core.records import DEFAULT_GRACE_SECONDS
from fastworker.errors import InvalidOption
from fastworker.tasks import task
from fastworker.tasks.calling import AsyncTask
from fastworker.tasks.definitions import ASYNC_POOL, PROCESS_POOL, THREAD_POOL, define


def plain() -> None: ...


async def coroutine() -> None: ...


def test_limits_are_seconds_or_a_timedelta() -> None:
    limited = define(plain, timeout=timedelta(minutes=2), grace=0)

    assert (limited.timeout, limited.grace) == (120.0, 0.0)
    assert (define(plain).timeout, define(plain).grace) == (None, DEFAULT_GRACE_SECONDS)


@pytest.mark.parametrize("timeout", [0, -1, "1", True, float("nan")])
def test_a_limit_that_cannot_be_is_refused(timeout: float) -> None:
    with pytest.raises(InvalidOption, match="timeout of task 'plain'"):
        define(plain, timeout=timeout)


def test_a_grace_that_cannot_be_is_refused() -> None:
    with pytest.raises(InvalidOption, match="grace of task 'plain'"):
        define(plain, grace=-1)


def test_where_a_task_runs() -> None:
    assert define(plain).pool == define(plain, run_in="thread").pool == THREAD_POOL
    assert define(coroutine).pool == ASYNC_POOL
    assert define(plain, run_in="process").pool == PROCESS_POOL
    assert define(coroutine, run_in="process", runtime="trio").pool == PROCESS_POOL


def test_a_task_in_a_process_is_called_as_its_function_is() -> None:
    assert isinstance(task(run_in="process", name="in_a_process")(coroutine), AsyncTask)


@pytest.mark.parametrize("tags", ["gpu", 5, None])
def test_tags_that_are_no_set_of_words_are_refused(tags: Any) -> None:
    with pytest.raises(InvalidOption, match="tags of task 'plain' are a set of words"):
        define(plain, tags=tags)


def test_a_place_that_cannot_be_is_refused() -> None:
    with pytest.raises(InvalidOption, match="async def and runs in an event loop"):
        define(coroutine, run_in="thread")
    with pytest.raises(InvalidOption, match="'thread' or 'process'"):
        define(plain, run_in="fibre")  # type: ignore[arg-type]
