"""Job views as maps."""

from __future__ import annotations

import pytest

from fastworker.core.records import JobView, TaskStatus
from fastworker.errors import ProtocolError
from fastworker.wire.codec import decode, encode
from fastworker.wire.messages import Fetched
from fastworker.wire.views import map_to_view, view_to_map
from tests.wire.examples import VIEW

WAITING = VIEW._replace(
    status=TaskStatus.QUEUED, failure=None, session=None, started_at=None, finished_at=None
)


@pytest.mark.parametrize("view", [VIEW, WAITING, VIEW._replace(value=b"sealed", reason="lost")])
def test_view_survives_the_wire(view: JobView) -> None:
    (fetched,) = decode(encode([Fetched(1, [view_to_map(view)])]))
    assert isinstance(fetched, Fetched)
    assert map_to_view(fetched.jobs[0] | {"from_the_future": 1}) == view


def test_none_is_left_out() -> None:
    assert "failure" not in view_to_map(WAITING)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("id", bytes(15)),
        ("id", "x" * 16),
        ("task", None),
        ("priority", True),
        ("status", "perhaps"),
        ("submitted_at", "now"),
        ("failure", ["a", "b", "c"]),
        ("failure", ["a", "b", "c", 4]),
        ("failure", []),
        ("value", "text"),
        ("result_kept", 1),
    ],
)
def test_bad_key_is_named(key: str, value: object) -> None:
    with pytest.raises(ProtocolError, match=f"key {key}:"):
        map_to_view(view_to_map(VIEW) | {key: value})


@pytest.mark.parametrize("key", ["id", "task", "status", "attempts"])
def test_missing_key_is_named(key: str) -> None:
    found = view_to_map(VIEW)
    del found[key]
    with pytest.raises(ProtocolError, match=f"key {key}:"):
        map_to_view(found)
