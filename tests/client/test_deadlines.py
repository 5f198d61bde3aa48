"""Deadlines and limits of a call, as they leave the client."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest

from fastworker.client.calls import Call, call, job_of
from fastworker.client.client import Client
from fastworker.client.offers import Offers
from fastworker.errors import InvalidOption
from fastworker.options import CallOptions
from tests.client.fake_control_plane import FakeControlPlane

pytestmark = pytest.mark.anyio


def deadline_of(**options: Any) -> float | None:
    """Seconds until the deadline of a call made now."""
    jobs = job_of(Call("add", (1, 2), {}, CallOptions(**options)), Offers().parameters)
    if jobs.deadlines is None or jobs.deadlines[0] is None:
        return None
    return jobs.deadlines[0] - anyio.current_time()


@pytest.mark.parametrize("deadline", [60, 60.0, timedelta(minutes=1), None])
async def test_any_way_to_give_a_deadline(deadline: object) -> None:
    # A moment is made here: the tests before this one may take longer than a minute.
    given = datetime.now(UTC) + timedelta(seconds=60) if deadline is None else deadline
    left = deadline_of(deadline=given)
    assert left is not None and 0 < left <= 60


async def test_scope_is_the_earliest_of_the_cancel_scopes_around_the_caller() -> None:
    assert deadline_of(deadline="scope") is None
    with anyio.move_on_after(math.inf):  # noqa: ASYNC100 - only looked at
        assert deadline_of(deadline="scope") is None
        with anyio.move_on_after(30), anyio.move_on_after(90):  # noqa: ASYNC100
            left = deadline_of(deadline="scope")
            assert left is not None and 29 < left <= 30


@pytest.mark.parametrize(
    "options",
    [
        {"deadline": -1},
        {"deadline": "soon"},
        {"deadline": ["scope"]},
        {"deadline": datetime(2030, 1, 1)},
        {"timeout": -1},
        {"timeout": 0},
        {"timeout": timedelta(0)},
        {"timeout": math.nan},
        {"grace": "5"},
        {"owned": math.inf},
        {"detached": 1},
    ],
)
async def test_impossible_limits_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidOption, match=next(iter(options))):
        CallOptions(**options)


async def test_limits_travel(client: Client, plane: FakeControlPlane) -> None:
    chosen = client.options(
        deadline=60, timeout=timedelta(seconds=9), grace=2, detached=True, owned=30
    )
    await chosen.delay("add", 2, 3)
    (message,) = plane.submits()
    limits = {"timeout": 9.0, "grace": 2.0, "detached": True, "owned": 30.0}
    assert message.specs == [["add", "default", 1, limits]]
    assert message.deadline_in is not None
    assert message.deadline_in[0] == pytest.approx(60, abs=5)


async def test_only_those_of_many_that_have_one_carry_a_deadline(
    client: Client, plane: FakeControlPlane
) -> None:
    hurried = call("add", 1, 2)._replace(options=CallOptions(deadline=0))
    await client.submit_many([call("add", 1, 2), hurried])
    (message,) = plane.submits()
    assert message.deadline_in == [None, 0.0]
    await client.submit_many("add", [(1, 2)] * 3, deadline=5)
    assert plane.submits()[-1].deadline_in is not None
    assert len(plane.submits()[-1].deadline_in) == 3
