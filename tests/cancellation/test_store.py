"""The store's threads, cancelled at each checkpoint."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from fastworker.core.records import Saves
from fastworker.store.opening import open_store
from fastworker.store.thread import open_store_thread
from tests.cancellation.cases_store import CALLS
from tests.cancellation.leftovers import held_locks, open_descriptors, store_threads, wait_none
from tests.cancellation.stepping import moments, run_trio
from tests.store.builders import LANE, make_job

pytestmark = pytest.mark.trio


@pytest.mark.parametrize("durability", ["memory", "process"])
async def test_a_cancelled_call_has_its_answer(tmp_path: Path, durability: str) -> None:
    async with open_store_thread(open_store(tmp_path, durability)) as store:
        await store.load()
        await store.save(Saves(lanes=[LANE], inserts=[make_job(1)]))
        for name, (call, right) in CALLS.items():
            for moment in moments(1, 1):
                ran = await run_trio(partial(call, store), moment)
                assert ran.cancelled or ran.answer == right, name
                # Several calls may be one of ours; a single one is never abandoned.
                assert name == "save" or not ran.cancelled, name
                assert await call(store) == right, name
                if not ran.asked:
                    break
        assert held_locks() == []


async def test_a_store_that_was_being_opened_is_closed(tmp_path: Path) -> None:
    async def use() -> int:
        async with open_store_thread(open_store(tmp_path, "process")) as store:
            return (await store.load()).key_ceiling

    before = open_descriptors()
    assert await use() == 0
    for moment in moments(1, 1):
        ran = await run_trio(use, moment)
        await wait_none("threads left", store_threads)
        await wait_none("left open", lambda: open_descriptors() - before)
        assert await use() == 0
        if not ran.asked:
            break
