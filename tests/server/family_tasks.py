"""Tasks that submit others, for the tests of families and owners."""

from __future__ import annotations

import trio

from fastworker import task

HOUR = 3600.0

told: dict[str, str] = {}
"""Ids of jobs by what they are; every test empties it first."""


@task(name="family-note")
async def note() -> None:
    """Nothing to do."""


@task(name="family-child")
async def child() -> None:
    told["grandchild"] = await note.options(countdown=HOUR).delay()
    await trio.sleep(HOUR)


@task(name="family-parent")
async def parent() -> None:
    told["child"] = await child.delay()
    told["detached"] = await note.options(countdown=HOUR, detached=True).delay()
    await trio.sleep(HOUR)


@task(name="family-owner")
async def owner() -> None:
    told["owned"] = await note.options(countdown=HOUR, owned=60, detached=True).delay()
    await trio.sleep(HOUR)
