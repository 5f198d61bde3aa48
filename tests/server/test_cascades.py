"""Who is cancelled after a cancelled job: everybody it has submitted, page by page, once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from fastworker.core.commands import CancelChildren
from fastworker.core.facts import CancelRequest
from fastworker.core.families import PARENT_CANCELLED
from fastworker.core.records import FamilyRow, Saves, TaskStatus
from fastworker.server.cascades import JOBS_AT_ONCE, Cascades
from fastworker.server.inbox import Inbox
from fastworker.store.memory import MemoryStore
from fastworker.store.thread import open_store_thread
from tests.store.builders import LANE, job_id, make_finish, make_job

pytestmark = pytest.mark.trio


@pytest.fixture
def store() -> MemoryStore:
    """Job 1 has 1,500 children, job 2 has 3; job 3, cancelled before a crash, has one."""
    store = MemoryStore()
    parents = [1] * 1500 + [2] * 3 + [3]
    rows = [
        FamilyRow(key, job_id(key), job_id(parent), None, 0.0)
        for key, parent in enumerate(parents, start=10)
    ]
    jobs = [make_job(key) for key in (1, 2, 3, *(row.key for row in rows))]
    ends = [make_finish(3, status=TaskStatus.CANCELLED)]
    store.save(Saves(lanes=[LANE], inserts=jobs, finishes=ends, family=rows))
    return store


@pytest.fixture
async def plane(store: MemoryStore) -> AsyncIterator[Any]:
    async with open_store_thread(store) as thread:
        yield SimpleNamespace(store=thread, inbox=Inbox())


async def requests(plane: Any) -> list[CancelRequest]:
    await trio.testing.wait_all_tasks_blocked()
    batch = plane.inbox.take_batch()
    assert all(isinstance(fact, CancelRequest) and fact.follows for fact in batch)
    return list(batch)


async def test_children_left_over_from_before_a_restart_are_cancelled(
    plane: Any, nursery: trio.Nursery
) -> None:
    nursery.start_soon(Cascades().serve_forever, plane)
    (left_over,) = await requests(plane)
    assert (left_over.ids, left_over.reason) == ([job_id(10 + 1503)], PARENT_CANCELLED)


async def test_large_families_are_cancelled_in_pages(plane: Any, nursery: trio.Nursery) -> None:
    cascades = Cascades()
    nursery.start_soon(cascades.serve_forever, plane)
    await requests(plane)
    many = [job_id(1), job_id(2), *(job_id(10_000 + number) for number in range(600))]
    cascades.want(CancelChildren(many, "enough", 2.0))
    found = await requests(plane)
    assert [len(one.ids) for one in found] == [JOBS_AT_ONCE, 503]
    assert {(one.reason, one.grace) for one in found} == {("enough", 2.0)}
    assert len({task_id for one in found for task_id in one.ids}) == 1503
