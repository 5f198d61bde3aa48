"""Failed proofs are answered after the same time, and late when they come fast."""

from __future__ import annotations

import pytest
import trio

from fastworker.server.refusals import (
    ANSWER_SECONDS,
    FAST_FAILURES,
    LATE_SECONDS,
    MAX_ADDRESSES,
    MAX_WAITING,
    MAX_WAITING_PER_ADDRESS,
    Refusals,
)

pytestmark = pytest.mark.trio


async def waited(refusals: Refusals, host: str | None) -> float:
    started = trio.current_time()
    assert await refusals.wait_turn(host)
    return trio.current_time() - started


async def fail_fast(refusals: Refusals, host: str) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(FAST_FAILURES):
            nursery.start_soon(refusals.wait_turn, host)


async def test_d36_the_eleventh_failure_within_a_second_is_late(
    autojump_clock: trio.testing.MockClock,
) -> None:
    refusals = Refusals()
    assert await waited(refusals, "192.0.2.1") == pytest.approx(ANSWER_SECONDS)
    await trio.sleep(2)
    await fail_fast(refusals, "192.0.2.1")
    assert await waited(refusals, "192.0.2.1") == pytest.approx(LATE_SECONDS)
    assert await waited(refusals, "192.0.2.2") == pytest.approx(ANSWER_SECONDS)
    assert await waited(refusals, "192.0.2.1") == pytest.approx(ANSWER_SECONDS)


async def test_addresses_of_one_holder_count_as_one(autojump_clock: trio.testing.MockClock) -> None:
    refusals = Refusals()
    await fail_fast(refusals, "2001:db8::1")
    assert await waited(refusals, "2001:db8::2%eth0") == pytest.approx(LATE_SECONDS)
    assert await waited(refusals, "2001:db8:1::2") == pytest.approx(ANSWER_SECONDS)
    assert await waited(refusals, None) == pytest.approx(ANSWER_SECONDS)


async def test_only_so_many_wait_and_the_others_get_no_answer(
    autojump_clock: trio.testing.MockClock,
) -> None:
    refusals = Refusals()
    answered: list[bool] = []

    async def fail(host: str) -> None:
        answered.append(await refusals.wait_turn(host))

    async with trio.open_nursery() as nursery:
        for number in range(50):
            host = f"192.0.2.{number}"
            for _ in range(FAST_FAILURES + MAX_WAITING_PER_ADDRESS + 5):
                nursery.start_soon(fail, host)
    late = MAX_WAITING
    assert answered.count(True) == 50 * FAST_FAILURES + late
    assert await refusals.wait_turn("192.0.2.1")


async def test_what_is_remembered_is_bounded(autojump_clock: trio.testing.MockClock) -> None:
    refusals = Refusals()
    async with trio.open_nursery() as nursery:
        for number in range(MAX_ADDRESSES + 10):
            nursery.start_soon(refusals.wait_turn, f"10.0.{number // 256}.{number % 256}")
    assert len(refusals._failed_at) == MAX_ADDRESSES
