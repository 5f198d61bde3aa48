"""A job of the ledger as the store has it in the end."""

from __future__ import annotations

from fastworker.core.ids import id_bytes
from fastworker.core.records import JobView
from tests.simulation.ledgers import Entry
from tests.simulation.world import World


def views_of(world: World, entry: Entry) -> list[JobView]:
    """The job, under whichever of the ids it was submitted with; more than one is a bug."""
    ids = dict.fromkeys((entry.id, *entry.tried_ids))
    views: list[JobView] = world.disk.store.views([id_bytes(id) for id in ids])
    return views


def view_of(world: World, entry: Entry) -> JobView | None:
    """The job, if it was stored."""
    views = views_of(world, entry)
    return views[0] if views else None
