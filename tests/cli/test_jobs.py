"""What is shown of jobs and of the control plane."""

from __future__ import annotations

import pytest

from fastworker.cli.jobs import read_arguments, read_priority, summary
from fastworker.core.records import TaskPriority
from fastworker.errors import InvalidOption


def test_a_list_is_positional_and_an_object_by_name() -> None:
    assert read_arguments(None) == ((), {})
    assert read_arguments("[2, [3]]") == ((2, [3]), {})
    assert read_arguments('{"x": null}') == ((), {"x": None})


@pytest.mark.parametrize("text", ["", "3", "null", "true", '"a"', "[1,", "{1: 2}"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidOption, match="the arguments are"):
        read_arguments(text)


def test_priorities_by_name() -> None:
    assert read_priority("Critical") is TaskPriority.CRITICAL
    with pytest.raises(InvalidOption, match="critical, high, normal, low, not '2'"):
        read_priority("2")


def test_the_report_of_a_control_plane_in_a_few_lines() -> None:
    report = {
        "version": "1",
        "addresses": ["tcp://127.0.0.1:5555", "tcp://127.0.0.1:5550"],
        "jobs": {"queued": 3, "running": 0, "success": 5},
        "queues": [{"queue": "mail", "queued": 3}],
        "tenants": [{"tenant": "acme", "queued": 3, "max_queued_jobs": 9}],
        "workers": [{}, {}],
        "tasks": [{"name": "add"}],
        "store": {"kind": "sqlite", "location": "/s", "durability": "power"},
    }
    assert summary(report) == {
        "version": "1",
        "addresses": "tcp://127.0.0.1:5555, tcp://127.0.0.1:5550",
        "store": "/s (sqlite)",
        "durability": "power",
        "jobs": "3 queued, 5 success",
        "queues": "mail 3",
        "tenants": "acme 3 of 9",
        "workers": 2,
        "tasks": "add",
    }
    assert summary({})["jobs"] == "none"
    assert summary({"store": {"kind": "sqlite", "durability": "power"}})["store"] == "sqlite"
    assert summary({"jobs": {"queued": 0, "running": 0}})["jobs"] == "none that wait or run"
    assert summary({"jobs": {"queued": 0, "success": 0}})["jobs"] == "none"
