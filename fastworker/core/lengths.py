"""Public lengths of time, which are seconds or a timedelta, as seconds."""

from __future__ import annotations

import math
from datetime import timedelta

from fastworker.errors import InvalidOption


def seconds_of(value: object, what: str, *, most: float = math.inf) -> float:
    """A length of time in seconds.

    Raises:
        InvalidOption: not a length of time, negative, or longer than ``most`` seconds.
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidOption(f"{what} is seconds or a timedelta, not a {type(value).__name__}")
    if not 0 <= value <= most:
        limit = "on" if most == math.inf else f"to {most:.0f} seconds"
        raise InvalidOption(f"{what} is from 0 {limit}, not {value!r:.40}")
    return float(value)


def optional_seconds(value: object, what: str, *, most: float = math.inf) -> float | None:
    """The same, and None is None."""
    return None if value is None else seconds_of(value, what, most=most)
