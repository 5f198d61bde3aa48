"""Numbers of a job's view that could not be shown are refused where they arrive."""

from __future__ import annotations

import math

import pytest

from fastworker.errors import ProtocolError
from fastworker.wire.views import map_to_view, view_to_map
from tests.wire.examples import VIEW


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("submitted_at", math.nan),
        ("finished_at", 1e300),
        ("started_at", -math.inf),
        ("priority", 4),
        ("attempts", -1),
        ("token", 2**64),
        ("progress", {"done": math.inf, "message": "", "at": 0}),
    ],
)
def test_numbers_nobody_could_show_are_refused_by_name(key: str, value: object) -> None:
    with pytest.raises(ProtocolError, match="done" if key == "progress" else key):
        map_to_view({**view_to_map(VIEW), key: value})
