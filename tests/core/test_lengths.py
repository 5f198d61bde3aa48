"""Lengths of time as applications give them."""

from __future__ import annotations

import math
from datetime import timedelta

import pytest

from fastworker.core.lengths import optional_seconds, seconds_of
from fastworker.errors import InvalidOption


@pytest.mark.parametrize(
    ("value", "seconds"), [(0, 0.0), (1.5, 1.5), (timedelta(minutes=1), 60.0), (math.inf, math.inf)]
)
def test_seconds_and_timedeltas_are_lengths(value: object, seconds: float) -> None:
    assert seconds_of(value, "wait") == optional_seconds(value, "wait") == seconds


def test_none_is_a_length_only_where_it_may_be() -> None:
    assert optional_seconds(None, "wait") is None
    with pytest.raises(InvalidOption, match="wait is seconds or a timedelta, not a NoneType"):
        seconds_of(None, "wait")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("1", "wait is seconds or a timedelta, not a str"),
        (True, "not a bool"),
        (-1, "wait is from 0 to 60 seconds, not -1"),
        (math.nan, "from 0 to 60"),
        (timedelta(minutes=2), "not 120"),
    ],
)
def test_everything_else_is_refused_by_name(value: object, said: str) -> None:
    with pytest.raises(InvalidOption, match=said):
        seconds_of(value, "wait", most=60)
