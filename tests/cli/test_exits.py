"""Every error has the exit code of the table, and only bugs show a traceback."""

from __future__ import annotations

import pytest

from fastworker import errors
from fastworker.cli.exits import describe, exit_code, stop_code, user_error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InvalidOption("x"), 2),
        (errors.NotSerializable("x"), 2),
        (errors.ControlPlaneUnavailable("x"), 3),
        (errors.UnknownJob("x"), 4),
        (errors.ResultExpired("x"), 4),
        (errors.Forbidden("x"), 5),
        (errors.AuthenticationFailed("x"), 5),
        (errors.Overloaded("x"), 1),
        (errors.Indeterminate("x"), 1),
        (errors.TaskError("x"), 1),
        (errors.StoreUnusable("x"), 65),
        (errors.CannotCreate("x"), 73),
        (errors.StoreBroken("x"), 74),
        (errors.StoreLocked("x"), 75),
        (TimeoutError(), 1),
    ],
)
def test_exit_code(error: Exception, code: int) -> None:
    assert user_error(error) is error
    assert exit_code(error) == code


def test_a_group_of_ours_is_one_error_and_a_mixed_one_a_bug() -> None:
    port = errors.CannotCreate("port 5555 is in use")
    assert user_error(ExceptionGroup("", [ExceptionGroup("", [port])])) is port
    assert user_error(ExceptionGroup("", [port, ValueError("bug")])) is None
    assert user_error(errors.InternalError("bug")) is None


def test_a_sentence_cannot_drive_the_terminal() -> None:
    assert describe(errors.TaskError("\x1b[2J\n")) == "\\x1b[2J\\n"
    assert "goes on" in describe(TimeoutError())


def test_a_second_signal_inside_a_group_keeps_its_code() -> None:
    inner = BaseExceptionGroup("", [ValueError(), SystemExit(143)])
    assert stop_code(BaseExceptionGroup("", [inner])) == 143
    assert stop_code(BaseExceptionGroup("", [KeyboardInterrupt()])) == 130
    assert stop_code(ExceptionGroup("", [ValueError()])) is None
