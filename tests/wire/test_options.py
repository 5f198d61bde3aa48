"""Job options as a map."""

from __future__ import annotations

import pytest

from fastworker.core.records import DEFAULT_OPTIONS, JobOptions
from fastworker.errors import InvalidOption
from fastworker.wire.options import map_to_options, options_to_map

FULL = JobOptions(
    keep_result=False,
    on_lost="fail",
    callback="client:" + "0f" * 16,
    callback_data=b"sealed",
    callback_token="team",
    parent=bytes(16),
)


@pytest.mark.parametrize("options", [FULL, JobOptions(on_lost="fail"), DEFAULT_OPTIONS])
def test_options_survive_the_round_trip(options: JobOptions) -> None:
    assert map_to_options(options_to_map(options)) == options


def test_only_what_differs_is_sent() -> None:
    assert options_to_map(JobOptions(callback="tcp://a:1")) == {"callback": "tcp://a:1"}
    assert options_to_map(JobOptions()) == {}


def test_nothing_known_gives_the_shared_default() -> None:
    assert map_to_options({}) is DEFAULT_OPTIONS
    assert map_to_options({"from_the_future": 1}) is DEFAULT_OPTIONS


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("keep_result", 1),
        ("on_lost", "ignore"),
        ("on_lost", ["retry"]),
        ("callback", 5),
        ("callback", "ftp://a:1"),
        ("callback", "client:xyz"),
        ("callback_data", "text"),
        ("callback_data", bytes(8193)),
        ("callback_token", ""),
        ("callback_token", 7),
        ("parent", bytes(15)),
        ("parent", "x" * 16),
    ],
)
def test_bad_value_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(InvalidOption, match=f"option {name}"):
        map_to_options({name: value})
