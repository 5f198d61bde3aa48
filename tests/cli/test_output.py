"""Anything a task returns can be printed, and nothing it returns drives the terminal."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from fastworker.cli.output import json_text, plain, show_fields, show_table
from fastworker.core.records import TaskPriority, TaskResult, TaskStatus


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (2**70, 2**70),
        pytest.param(16**5000, hex(16**5000), id="5,000 digits"),
        (b"\x00\xff", "AP8="),
        ({1: "a", None: (1, {2})}, {"1": "a", "null": [1, [2]]}),
        (datetime(2026, 1, 31, tzinfo=UTC), "2026-01-31T00:00:00+00:00"),
        (timedelta(seconds=1.5), 1.5),
        (Decimal("1.10"), "1.10"),
        (TaskPriority.HIGH, "high"),
        (TaskStatus.DEAD, "dead"),
        ("\ud800\x1b", "\ud800\x1b"),
    ],
)
def test_every_value_has_a_json_form(value: object, expected: object) -> None:
    assert json.loads(json_text(value)) == expected
    assert json_text(value).isascii()
    assert json_text(value).isprintable()


def test_a_record_becomes_an_object() -> None:
    found = plain(TaskResult("id", TaskStatus.SUCCESS, result=(1,)))
    assert isinstance(found, dict)
    assert (found["task_id"], found["status"], found["result"]) == ("id", "success", [1])


def test_a_table_is_aligned_escaped_and_bounded(capsys: pytest.CaptureFixture[str]) -> None:
    show_table(["name", "queues"], [["a\x1b[2J", ["x", "y"]], ["b" * 500, None]])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("a\\x1b[2J ")
    assert (
        len({line.index(word) for line, word in zip(lines, ("queues", "x, y"), strict=False)}) == 1
    )
    assert lines[2].endswith("…  -")


def test_fields_leave_out_what_is_absent(capsys: pytest.CaptureFixture[str]) -> None:
    show_fields({"status": "failure", "result": None, "traceback": "a\nb\x9b"})
    assert capsys.readouterr().out.splitlines() == [
        "status     failure",
        "traceback  a",
        "           b\\x9b",
    ]
