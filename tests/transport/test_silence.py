"""Silent connections: found to the moment, whatever else is watched."""

from __future__ import annotations

import math

import pytest
import trio
import trio.testing

from fastworker.transport.silence import SilenceWatch, Watched

pytestmark = pytest.mark.trio


@pytest.fixture
async def watch(nursery: trio.Nursery) -> SilenceWatch:
    watch = SilenceWatch()
    nursery.start_soon(watch.serve_forever)
    return watch


async def _silent_after(watched: Watched) -> float:
    """Seconds until its scope is cancelled."""
    begun = trio.current_time()
    with watched.scope:
        await trio.sleep_forever()
    return trio.current_time() - begun


async def test_connection_is_cut_when_it_has_been_silent_for_its_patience(
    watch: SilenceWatch, autojump_clock: trio.testing.MockClock
) -> None:
    assert await _silent_after(watch.watch(15)) == pytest.approx(15)


async def test_patience_counts_from_the_last_word(
    watch: SilenceWatch, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    watched = watch.watch(15)

    async def speak() -> None:
        for _ in range(7):
            await trio.sleep(4)
            watched.heard_at = trio.current_time()

    nursery.start_soon(speak)
    assert await _silent_after(watched) == pytest.approx(28 + 15)


async def test_nobody_is_silent_who_waits_for_us(
    watch: SilenceWatch, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    watched = watch.watch(15)

    async def answer() -> None:
        watched.heard_at = math.inf
        await trio.sleep(100)
        watched.heard_at = trio.current_time()

    nursery.start_soon(answer)
    assert await _silent_after(watched) == pytest.approx(100 + 15)


async def test_less_patience_is_heeded_though_more_was_there_first(
    watch: SilenceWatch, autojump_clock: trio.testing.MockClock
) -> None:
    patient = watch.watch(90)
    await trio.testing.wait_all_tasks_blocked()
    assert await _silent_after(watch.watch(5)) == pytest.approx(5)
    assert await _silent_after(patient) == pytest.approx(85)


async def test_connection_that_ended_is_forgotten(
    watch: SilenceWatch, autojump_clock: trio.testing.MockClock
) -> None:
    for _ in range(1000):
        watch.watch(15).heard_at = -math.inf
    await trio.sleep(16)
    assert not watch._due
