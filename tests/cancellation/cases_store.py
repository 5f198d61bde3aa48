"""Calls of the store's threads: never abandoned, so a cancelled one has its answer all the same."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastworker.core.records import Saves
from fastworker.store.contract import CallbackFilter, DeadFilter, JobFilter, Questions, Retention
from fastworker.store.thread import StoreThread
from tests.store.builders import job_id, make_job

StoreCall = Callable[[StoreThread], Awaitable[Any]]


async def save(store: StoreThread) -> int:
    """A new job each time; how many there are."""
    queued = (await store.counts())["queued"]
    await store.save(Saves(inserts=[make_job(queued + 1)]))
    return (await store.counts())["queued"] - queued


CALLS: dict[str, tuple[StoreCall, Any]] = {
    "load": (lambda store: _queued(store), 1),
    "recall": (lambda store: _recalled(store), [job_id(1)]),
    "save": (save, 1),
    "prune": (lambda store: _pruned(store), 0),
    "due_callbacks": (lambda store: store.due_callbacks(now=1.0), []),
    "next_callback_at": (lambda store: store.next_callback_at(), None),
    "settle_callbacks": (lambda store: store.settle_callbacks([], []), None),
    "discard": (lambda store: store.discard([1], now=1.0), 0),
    "check_present": (lambda store: store.check_present(), None),
    "views": (lambda store: _length(store.views([job_id(1)])), 1),
    "payloads": (lambda store: store.payloads([1]), {1: b"arguments"}),
    "checkpoints": (lambda store: store.checkpoints([1]), {}),
    "lines": (lambda store: store.lines(job_id(1), after=0, limit=1), []),
    "jobs": (lambda store: _length(store.jobs(JobFilter(limit=1))), 1),
    "dead": (lambda store: store.dead(DeadFilter()), []),
    "callbacks": (lambda store: store.callbacks(CallbackFilter()), []),
    "attempts": (lambda store: store.attempts(job_id(1)), []),
    "children": (lambda store: store.children([job_id(1)]), []),
    "owned": (lambda store: store.owned(job_id(1), at_most=1.0), []),
    "owners": (lambda store: store.owners(), []),
    "cancelled_parents": (lambda store: store.cancelled_parents(), []),
    "counts": (lambda store: _has_queued(store), True),
}
"""By method: a call, and its answer while job 1 is queued."""

COVERS = {"open_store_thread", *(f"store.StoreThread.{name}" for name in CALLS)}


async def _queued(store: StoreThread) -> int:
    return min(1, (await store.load()).queued[1])


async def _recalled(store: StoreThread) -> list[bytes]:
    return list((await store.recall(Questions(ids=[job_id(1)]))).jobs)


async def _pruned(store: StoreThread) -> int:
    return (await store.prune(Retention(), now=1.0)).results


async def _has_queued(store: StoreThread) -> bool:
    return (await store.counts())["queued"] >= 1


async def _length(answer: Awaitable[list[Any]]) -> int:
    return len(await answer)
