"""Jobs that end with their clients: only if these stayed away for long enough, and then surely."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final, NamedTuple

from fastworker.core.records import TaskStatus
from tests.simulation.ledgers import Entry
from tests.simulation.views import view_of
from tests.simulation.world import World

NOTICE_SECONDS: Final = 0.05
"""Between the arrival of a frame and the moment at which the control plane acts on it."""

WAITING_SECONDS: Final = 10.0
RUNNING_SECONDS: Final = 60.0
"""From the time at which a job should end to its end, with all healed: nobody has to be asked but
the store; a silence that has just begun, a lease, and the time in which code may unwind."""


class Absence(NamedTuple):
    """A time in which one control plane stood, and a client had no connection to it."""

    since: float
    until: float


def stayed_away(world: World, entry: Entry) -> bool:
    """Whether its client was away for so long before its end that it may be cancelled."""
    view = view_of(world, entry)
    if entry.owned is None or view is None or view.id not in world.settled:
        return False
    return any(
        absence.since + entry.owned <= min(absence.until, world.settled[view.id]) + NOTICE_SECONDS
        for absence in _absences(world, view.id)
    )


def owner_violations(world: World) -> Iterator[str]:
    """Jobs that outlived their clients."""
    for entry in world.entries:
        view = view_of(world, entry)
        if entry.owned is None or view is None or view.id not in world.settled:
            continue
        settled = world.settled[view.id]
        _count(world, entry, view.id, cancelled=view.status is TaskStatus.CANCELLED)
        slack = RUNNING_SECONDS if world.effects.starts(entry.key) else WAITING_SECONDS
        for absence in _absences(world, view.id):
            ends_at = max(absence.since, world.healed_at, world.accepted[view.id]) + entry.owned
            if ends_at + slack < min(absence.until, settled):
                yield (
                    f"outlived: {entry.key} is {view.status} at {settled:.3f}, and its client, "
                    f"whom it was to outlive by {entry.owned:g} s, left at {absence.since:.3f}"
                )


def _count(world: World, entry: Entry, id: bytes, *, cancelled: bool) -> None:
    owned, settled = entry.owned or 0.0, world.settled[id]
    away = stayed_away(world, entry)
    world.record.count("owned: cancelled since its client had gone", cancelled and away)
    for gap in _gaps(world, id):
        if not away and world.accepted[id] < gap.since and gap.until < settled:
            again = "in time" if gap.until - gap.since < owned else "in time after a restart"
            world.record.count(f"owned: kept, its client came back {again}")


def _absences(world: World, id: bytes) -> Iterator[Absence]:
    """When the client that owns a job was away, as each control plane saw it: after a restart its
    whole time begins again."""
    for gap in _gaps(world, id):
        for born_at, died_at in world.lives:
            absence = Absence(max(gap.since, born_at), min(gap.until, died_at))
            if absence.since < absence.until:
                yield absence


def _gaps(world: World, id: bytes) -> Iterator[Absence]:
    """When the client that owns a job had no connection to whatever control plane."""
    left_at = math.inf
    for visit in world.visits.get(world.owners.get(id, b""), ()):
        if left_at < visit.since:
            yield Absence(left_at, visit.since)
            left_at = math.inf
        ended_at = visit.wire.ended_at
        left_at = ended_at if left_at == math.inf else max(left_at, ended_at)
    if left_at < math.inf:
        yield Absence(left_at, math.inf)
