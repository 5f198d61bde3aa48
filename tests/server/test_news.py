"""News of the subworkers: the first at once, many at a time soon after, none lost."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from fastworker.server.news import NEWS_SECONDS, News

pytestmark = pytest.mark.trio


async def test_first_is_told_at_once_and_what_follows_together(
    autojump_clock: trio.testing.MockClock,
) -> None:
    told: list[float] = []
    start = trio.current_time()
    news = News(lambda: told.append(trio.current_time() - start))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(news.serve_forever)
        for _ in range(100):
            news.note()
            await trio.sleep(NEWS_SECONDS / 100)
        assert told[0] == 0.0
        await trio.sleep(10)
        assert len(told) == 2
        assert told[1] == pytest.approx(NEWS_SECONDS)
        news.note()
        assert len(told) == 3
        await trio.sleep(10)
        assert len(told) == 3
        nursery.cancel_scope.cancel()


async def test_last_of_many_is_told(autojump_clock: trio.testing.MockClock) -> None:
    state, told = 0, list[int]()
    news = News(lambda: told.append(state))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(news.serve_forever)
        for number in range(1, 1001):
            state = number
            news.note()
            await trio.sleep(0.001)
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert told[-1] == 1000
    assert len(told) <= 1 + 1.0 / NEWS_SECONDS + 1
