"""Tasks that tell how often they were started; for either event loop."""

from __future__ import annotations

from collections import Counter

from fastworker import task

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
