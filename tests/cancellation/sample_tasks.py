"""Tasks that tell how often they were started; for either event loop."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator

import anyio

from fastworker import current, task

started: Counter[str] = Counter()
"""By mark: every submission of a test has one of its own."""


@task(name="cancelling-note")
async def note(mark: str, value: int = 0, ballast: str = "") -> int:
    started[mark] += 1
    return value + 1


@task(name="cancelling-plain")
def plain(mark: str, value: int = 0) -> int:
    started[mark] += 1
    return value + 1


@task(name="cancelling-tell")
async def tell(mark: str) -> int:
    started[mark] += 1
    current().progress(1, 1)
    return 1


@task(name="cancelling-run")
async def run(mark: str) -> None:
    started[mark] += 1
    await anyio.sleep_forever()


@task(name="cancelling-fail")
async def fail(mark: str) -> None:
    started[mark] += 1
    raise LookupError(mark)


@task(name="cancelling-fail-once")
async def fail_once(mark: str) -> int:
    started[mark] += 1
    if started[mark] == 1:
        raise LookupError(mark)
    return started[mark]


@task(name="cancelling-items")
async def items(mark: str, end: int) -> AsyncIterator[int]:
    started[mark] += 1
    for number in range(end):
        yield number


@task(name="cancelling-items-plain")
def items_plain(mark: str, end: int) -> Iterator[int]:
    started[mark] += 1
    yield from range(end)
