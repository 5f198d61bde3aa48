"""Failures come back as the exceptions they were, if that is safe, and as `TaskError` if not."""

from __future__ import annotations

import pytest

from fastworker import errors
from fastworker.client.failures import error_from_code, failure_error, register_exception
from fastworker.core.records import Failure, TaskStatus
from fastworker.errors import (
    ArgumentError,
    Conflict,
    FastWorkerError,
    InvalidOption,
    JobCancelled,
    JobDead,
    JobExpired,
    Overloaded,
    Rejected,
    TaskError,
    TimeLimitExceeded,
)


def raised(
    failure: Failure | None, status: TaskStatus = TaskStatus.FAILURE
) -> tuple[Exception, TaskError]:
    with pytest.raises(Exception) as caught:
        raise failure_error("id", status, failure)
    error = caught.value
    inner = error if isinstance(error, TaskError) else error.__cause__
    assert isinstance(inner, TaskError)
    return error, inner


def test_builtin_exceptions_are_rebuilt_from_the_task_error() -> None:
    error, inner = raised(Failure("ZeroDivisionError", "division by zero", "tb", ""))
    assert type(error) is ZeroDivisionError
    assert str(error) == "division by zero"
    assert (inner.type_name, inner.remote_traceback, inner.task_id) == (
        "ZeroDivisionError",
        "tb",
        "id",
    )


def test_an_exception_without_a_message_is_told_by_its_type() -> None:
    _, error = raised(Failure("SystemExit", "", "tb", ""))
    assert str(error) == "job id ended as failure: SystemExit"


def test_arguments_that_do_not_fit_are_the_callers_mistake_though_a_runner_found_it() -> None:
    error, inner = raised(Failure("ArgumentError", "too many", "", ""))
    assert type(error) is ArgumentError
    assert (str(error), error.task_id, inner.type_name) == ("too many", "id", "ArgumentError")


@pytest.mark.parametrize(
    "name",
    [
        "ResultNotSerializable",  # not a mistake of who called
        "elsewhere.ArgumentError",
        "SystemExit",
        "KeyboardInterrupt",
        "StopIteration",
        "StopAsyncIteration",
        "GeneratorExit",
        "BaseException",
        "os.system",
        "nobody.Knows",
        "UnicodeDecodeError",  # takes five arguments
        "print",
        "",
    ],
)
def test_everything_else_is_a_task_error(name: str) -> None:
    error, _ = raised(Failure(name, "boom", "", ""))
    assert type(error) is TaskError
    assert "boom" in str(error)


def test_registered_exceptions_are_rebuilt() -> None:
    @register_exception
    class Declined(Exception):
        pass

    @register_exception
    class Picky(Exception):
        def __init__(self, one: str, two: str) -> None:
            super().__init__(one, two)

    name = f"{Declined.__module__}.{Declined.__qualname__}"
    assert type(raised(Failure(name, "card", "", ""))[0]) is Declined
    picky = f"{Picky.__module__}.{Picky.__qualname__}"
    assert type(raised(Failure(picky, "card", "", ""))[0]) is TaskError
    register_exception(Declined)
    with pytest.raises(InvalidOption):
        names = {"__qualname__": Declined.__qualname__, "__module__": Declined.__module__}
        register_exception(type("Declined", (Exception,), names))
    for wrong in (SystemExit, StopIteration, int):
        with pytest.raises(InvalidOption):
            register_exception(wrong)  # type: ignore[type-var]


def test_the_status_chooses_the_error() -> None:
    assert type(raised(None, TaskStatus.CANCELLED)[0]) is JobCancelled
    assert type(raised(None, TaskStatus.EXPIRED)[0]) is JobExpired
    dead, _ = raised(Failure("", "gone", "", "lost"), TaskStatus.DEAD)
    assert isinstance(dead, JobDead)
    assert dead.reason == "lost"
    late, _ = raised(Failure("fastworker.errors.TimeLimitExceeded", "5 s", "", ""))
    assert type(late) is TimeLimitExceeded


def every_error(kind: type[FastWorkerError]) -> list[type[FastWorkerError]]:
    return [kind] + [found for sub in kind.__subclasses__() for found in every_error(sub)]


def test_every_code_gives_its_error() -> None:
    ours = [kind for kind in every_error(FastWorkerError) if kind.__module__ == errors.__name__]
    for kind in ours[1:]:
        found = error_from_code(kind.code, "text", task_id="id")
        assert type(found) is kind
        assert (str(found), found.task_id) == ("text", "id")
    assert type(error_from_code("from the future", "text")) is Rejected
    overloaded = error_from_code("overloaded", "text", retry_after=7.0)
    assert isinstance(overloaded, Overloaded) and overloaded.retry_after == 7.0
    conflict = error_from_code("conflict", "text", existing_id="x")
    assert isinstance(conflict, Conflict) and conflict.existing_id == "x"
