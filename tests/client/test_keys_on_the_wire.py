"""What a client does with keys while connections break, against a control plane made for tests."""

from __future__ import annotations

import itertools

import pytest

from fastworker.client.client import Client
from fastworker.client.outbox import Outbox
from fastworker.client.submissions import Jobs, Spec, Submission
from fastworker.core.ids import id_bytes
from fastworker.core.records import DEFAULT_OPTIONS
from fastworker.wire import messages as m
from tests.client.fake_control_plane import FakeControlPlane, Peer


@pytest.mark.anyio
@pytest.mark.parametrize("grouped", [False, True])
async def test_what_is_sent_again_keeps_its_keys(
    client: Client, plane: FakeControlPlane, grouped: bool
) -> None:
    plane.drop_at_submit = 2
    if grouped:
        await client.submit_many("add", [(1,), (2,)], keys=["k", None], idempotency_window=60)
    else:
        await client.options(idempotency_key="k", idempotency_window=60).delay("add", 1)
    submits = plane.submits()
    expected = ["k", None] if grouped else ["k"]
    assert [(one.keys, one.key_seconds) for one in submits] == [(expected, 60.0)] * 3
    assert [one.first_try for one in submits] == [True, False, False]


@pytest.mark.anyio
async def test_without_keys_nothing_is_said_of_them(
    client: Client, plane: FakeControlPlane
) -> None:
    await client.delay("add", 1)
    assert [(one.keys, one.key_seconds) for one in plane.submits()] == [(None, None)]


@pytest.mark.anyio
async def test_the_end_of_the_older_job_may_come_with_the_answer(
    client: Client, plane: FakeControlPlane
) -> None:
    older = id_bytes(await client.delay("add", 2))

    def existing(plane: FakeControlPlane, peer: Peer, submit: m.Submit) -> list[m.Message]:
        return [m.Submitted(submit.request, existing=[[0, older]]), plane.finished([older])]

    plane.answer = existing
    handle = await client.options(idempotency_key="k").submit("add", 2)
    assert handle.deduplicated and await handle.result(5) == 2


@pytest.mark.anyio
async def test_the_older_job_is_watched_again_on_a_later_connection(
    client: Client, plane: FakeControlPlane
) -> None:
    plane.hold = True
    older = await client.delay("add", 2)

    def existing(plane: FakeControlPlane, peer: Peer, submit: m.Submit) -> list[m.Message]:
        return [m.Submitted(submit.request, existing=[[0, id_bytes(older)]])]

    plane.answer = existing
    handles = [await client.options(idempotency_key="k").submit("add", 2) for _ in range(2)]
    plane.received.clear()
    await plane.peers[0].drop()
    await plane.until(lambda: any(isinstance(one, m.Watch) for one in plane.received))
    watched = b"".join(one.ids for one in plane.received if isinstance(one, m.Watch))
    assert watched == id_bytes(older)  # and the ids that were never accepted are not
    await plane.finish_held()
    assert await client.results(handles, timeout=5) == [2, 2]


def test_jobs_with_other_windows_travel_apart() -> None:
    outbox = Outbox(
        limit_jobs=100,
        limit_bytes=1000,
        numbers=itertools.count(1),
        group_ids=lambda: bytes(16),
        now=lambda: 0.0,
    )
    rows: list[tuple[str | None, float | None]]
    rows = [(None, None), ("day", None), ("hour", 3600.0), ("hour", 3600.0), (None, None)]
    for number, (key, seconds) in enumerate(rows):
        jobs = Jobs(
            [number.to_bytes(16, "big")],
            [b"x"],
            [Spec("add", "default", 1, DEFAULT_OPTIONS)],
            keys=None if key is None else [key],
            key_seconds=seconds,
        )
        outbox.add(Submission(jobs, deadline=10.0))
    sent = [(one.keys, one.key_seconds) for one in iter(outbox.take, None)]
    assert sent == [([None, "day"], None), (["hour", "hour"], 3600.0), (None, None)]
