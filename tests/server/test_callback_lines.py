"""Who delivers how much at once: slow receivers wait for themselves alone."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from fastworker.server.callback_lines import (
    AT_ONCE_PER_DESTINATION,
    LONGEST_WAIT_SECONDS,
    OPEN_PER_TENANT,
    UNKNOWN_WAIT_SECONDS,
    CallbackLines,
)

pytestmark = pytest.mark.trio

NOW = 1_000_000.0


def admit_all(lines: CallbackLines, tenant: str, destination: str, count: int) -> list[float]:
    """When those may expect their turn that had no room."""
    answers = [lines.admit(tenant, destination, NOW) for _ in range(count)]
    return [at for at in answers if at is not None]


async def test_what_has_no_room_is_put_off_in_order_and_not_for_long_at_first() -> None:
    put_off = admit_all(CallbackLines(), "shop", "10.0.0.7 80", 1000)
    assert put_off == sorted(put_off)
    assert 900 < len(put_off) < 1000
    assert NOW < put_off[0] < put_off[-1] == NOW + UNKNOWN_WAIT_SECONDS


async def test_a_slow_receiver_has_next_to_nothing_in_memory_and_others_are_let_in(
    autojump_clock: trio.testing.MockClock,
) -> None:
    lines = CallbackLines()

    async def deliver() -> None:
        async with lines.turn("shop", "slow"):
            await trio.sleep(10)
        lines.leave("shop", "slow")

    begun = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(24):
            assert lines.admit("shop", "slow", NOW) is None
            nursery.start_soon(deliver)
        await trio.sleep(55)
        put_off = admit_all(lines, "shop", "slow", 1000)
        assert len(put_off) == 1000
        assert put_off[-1] == NOW + LONGEST_WAIT_SECONDS
        assert put_off[1] - put_off[0] > 1.0
        assert lines.admit("shop", "another", NOW) is None
        assert lines.admit("bank", "slow again", NOW) is None
    assert trio.current_time() - begun == 10 * 24 / AT_ONCE_PER_DESTINATION


async def test_a_fast_receiver_soon_has_more(autojump_clock: trio.testing.MockClock) -> None:
    lines = CallbackLines()
    assert lines.admit("shop", "fast", NOW) is None  # keeps the line
    before = CallbackLines()
    for _ in range(50):
        async with lines.turn("shop", "fast"):
            await trio.sleep(0.001)
    let_in = [1000 - len(admit_all(each, "shop", "fast", 1000)) for each in (before, lines)]
    assert let_in[0] < let_in[1]


async def test_one_tenant_does_not_fill_the_memory() -> None:
    lines = CallbackLines()
    let_in = [lines.admit("shop", f"10.0.0.{n} 80", NOW) is None for n in range(1000)]
    assert sum(let_in) == OPEN_PER_TENANT
    assert lines.admit("bank", "10.0.0.1 80", NOW) is None


async def test_lines_without_deliveries_are_forgotten() -> None:
    lines = CallbackLines()
    for number in range(100):
        lines.admit("shop", str(number), NOW)
        lines.leave("shop", str(number))
    assert not lines._lines
