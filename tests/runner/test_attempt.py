"""The pipeline of one attempt: whatever user code does ends as a value."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from fastworker.core.records import STATUS_CODES, TaskStatus
from fastworker.runner.assignment import Assignment, Route
from fastworker.runner.attempt import Ending, run_coroutine, run_function
from fastworker.runner.failures import MAX_MESSAGE_BYTES, MAX_TRACEBACK_BYTES
from fastworker.wire.values import open_value, seal_call


def attempt_at(function: Callable[..., Any] | None, *args: Any, **kwargs: Any) -> Assignment:
    definition: Any = (
        None
        if function is None
        else SimpleNamespace(name="sample", function=function, retry=None, yields=False)
    )
    route = Route("sample", definition, 1, lambda assignment: None)
    return Assignment(bytes(16), 1, route, 1, seal_call(args, kwargs, task="sample"), 1)


def run(function: Callable[..., Any] | None, *args: Any, **kwargs: Any) -> Ending:
    return run_function(attempt_at(function, *args, **kwargs))


def failure_of(ending: Ending) -> tuple[str, str]:
    assert STATUS_CODES[ending.status] is TaskStatus.FAILURE
    assert ending.value is None
    assert ending.failure is not None
    return ending.failure.type_name, ending.failure.message


def raising(error: BaseException) -> Callable[[], None]:
    def function() -> None:
        raise error

    return function


class HostileError(Exception):
    def __str__(self) -> str:
        raise SystemExit(1)

    __repr__ = __str__


def test_a_result_is_sealed() -> None:
    ending = run(lambda x, *, y: [x, y], 1, y="2")

    assert STATUS_CODES[ending.status] is TaskStatus.SUCCESS
    assert ending.value is not None
    assert open_value(ending.value) == [1, "2"]


@pytest.mark.parametrize(
    "error",
    [
        ValueError("bad"),
        SystemExit("bad"),
        KeyboardInterrupt("bad"),
        GeneratorExit("bad"),
        asyncio.CancelledError("bad"),
    ],
)
def test_whatever_is_raised_is_a_failure(error: BaseException) -> None:
    name, message = failure_of(run(raising(error)))

    assert name.endswith(type(error).__name__)
    assert message == "bad"


def test_a_hostile_exception_is_still_told() -> None:
    name, message = failure_of(run(raising(HostileError())))

    assert name == f"{__name__}.HostileError"
    assert "SystemExit" in message


def test_the_traceback_shows_user_code_only() -> None:
    failure = run(raising(ValueError("bad"))).failure

    assert failure is not None
    assert "test_attempt.py" in failure.traceback
    assert "fastworker/runner" not in failure.traceback


def test_long_texts_are_cut_and_keep_their_end() -> None:
    text = "é\ud800" * 200_000 + "the end"
    failure = run(raising(ValueError(text))).failure

    assert failure is not None
    assert len(failure.message.encode()) <= MAX_MESSAGE_BYTES
    assert len(failure.traceback.encode()) <= MAX_TRACEBACK_BYTES
    assert failure.message.endswith("the end")


def test_arguments_that_do_not_fit_are_named() -> None:
    def takes_two(x: int, y: int) -> int:
        return x + y

    name, message = failure_of(run(takes_two, 1))

    assert name == "ArgumentError"
    assert "'y'" in message
    assert "'sample'" in message


def test_a_type_error_of_the_task_itself_stays_its_own() -> None:
    name, _ = failure_of(run(lambda x: x + 1, "one"))

    assert name == "TypeError"


def test_a_result_that_cannot_travel_is_a_failure() -> None:
    name, message = failure_of(run(lambda: {"a": [object()]}))

    assert name == "ResultNotSerializable"
    assert "sample" in message


def test_a_result_that_is_too_large_is_a_failure() -> None:
    name, _ = failure_of(run(lambda: bytes(2_000_000)))

    assert name == "ResultTooLarge"


def test_damaged_arguments_make_the_job_dead() -> None:
    assignment = attempt_at(lambda: None)
    assignment.payload = assignment.payload[:-1] + bytes([assignment.payload[-1] ^ 1])
    ending = run_function(assignment)

    assert STATUS_CODES[ending.status] is TaskStatus.DEAD
    assert ending.failure is not None
    assert ending.failure.reason == "corrupt"


def test_an_unknown_task_is_named() -> None:
    name, message = failure_of(run(None))

    assert name == "UnknownTask"
    assert "'sample'" in message


async def _ending_of(function: Callable[..., Any], *args: Any, passes: bool = False) -> Ending:
    return await run_coroutine(
        attempt_at(function, *args), advice=lambda error: "try this", passes=lambda error: passes
    )


@pytest.mark.trio
async def test_a_coroutine_runs_on_the_loop_of_the_caller() -> None:
    async def double(x: int) -> int:
        return 2 * x

    ending = await _ending_of(double, 21)

    assert ending.value is not None
    assert open_value(ending.value) == 42


@pytest.mark.trio
async def test_advice_follows_the_message() -> None:
    async def fails() -> None:
        raise RuntimeError("no loop")

    assert failure_of(await _ending_of(fails)) == ("RuntimeError", "no loop; try this")


@pytest.mark.trio
async def test_what_belongs_to_the_surroundings_goes_on() -> None:
    async def fails() -> None:
        raise RuntimeError("outer")

    with pytest.raises(RuntimeError, match="outer"):
        await _ending_of(fails, passes=True)


@pytest.mark.trio
async def test_wrong_arguments_of_a_coroutine_are_named() -> None:
    async def takes_one(x: int) -> None: ...

    name, _ = failure_of(await _ending_of(takes_one))

    assert name == "ArgumentError"
