"""Whom a cancel must reach, whom it must not, and how soon."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from fastworker.core.records import JobView, TaskStatus
from tests.simulation.ledgers import Entry
from tests.simulation.owner_oracle import stayed_away
from tests.simulation.views import view_of
from tests.simulation.world import World

REACH_SECONDS: Final = 60.0
"""From the end of a job, or of all faults, to the end of its children: a silence that has just
begun, a lease, and the time in which code may unwind."""

START_SECONDS: Final = 20.0
"""The same, for the last of its children to begin: nobody has to be asked but the store."""


def family_violations(world: World) -> Iterator[str]:
    """Children that ran on without their parent, or ended with it and should not have."""
    for entry in world.entries:
        if entry.parent is None:
            continue
        view, parent = view_of(world, entry), view_of(world, entry.parent)
        if view is None or parent is None or parent.status is not TaskStatus.CANCELLED:
            continue
        if not view.status.is_terminal:
            continue  # said elsewhere
        if entry.detached:
            survived = world.settled[view.id] > world.settled[parent.id]
            world.record.count("detached: outlived its cancelled parent", survived)
        else:
            yield from _judge(world, entry, view, world.settled[parent.id])


def _judge(world: World, entry: Entry, view: JobView, cancelled_at: float) -> Iterator[str]:
    who, starts = f"{entry.key} of a cancelled parent", world.effects.starts(entry.key)
    settled, accepted = world.settled[view.id], world.accepted[view.id]
    calm = max(cancelled_at, world.healed_at)
    if view.status is TaskStatus.CANCELLED:
        how = "while it ran" if starts else "while it waited"
        world.record.count(f"cancelled with its parent {how}")
        world.record.count("cancelled on arrival: its parent was", accepted >= cancelled_at)
    if settled > calm + REACH_SECONDS:
        yield f"ran on: {who} is {view.status} {settled - calm:.1f} s after that"
    for start in starts:
        if accepted >= cancelled_at:
            yield f"late start: {who} was accepted {accepted - cancelled_at:.3f} s after its end"
        elif start.at > calm + START_SECONDS:
            yield f"late start: {who} started {start.at - calm:.1f} s after that"


def may_be_cancelled(world: World, entry: Entry) -> bool:
    """Whether somebody asked for it, or its client stayed away, or either holds for a job that it
    belongs to."""
    parent = None if entry.detached else entry.parent
    return (
        entry.cancel_asked
        or stayed_away(world, entry)
        or (parent is not None and may_be_cancelled(world, parent))
    )
