"""Counting slots."""

from __future__ import annotations

from fastworker.runner.slots import Slots


def test_a_lent_slot_is_free_and_announced_once() -> None:
    slots = Slots((1, 1))
    slots.take(0)
    slots.lend(0)

    assert slots.free == [1, 1]
    assert slots.take_changes() == [[0, 1]]
    assert slots.take_changes() == []


def test_a_job_that_resumes_takes_its_slot_back_even_if_none_is_free() -> None:
    slots = Slots((1,))
    slots.take(0)
    slots.lend(0)
    slots.take(0)
    slots.reclaim(0)

    assert slots.free == [-1]
    assert slots.take_changes() == []
