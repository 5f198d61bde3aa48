"""What a job submits that submits others, decided before it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.simulation.ledgers import Entry
from tests.simulation.submitting import new_task_id

if TYPE_CHECKING:
    from tests.simulation.world import World

CHILDREN: Final = (1, 3)
GENERATIONS: Final = 2
"""Of jobs that submit others."""

MOMENTS: Final = ("first", "midway", "last")
"""When a job submits a child: at its start, in the middle, at its end, also when told to stop."""

SECONDS: Final = (0.2, 1.0, 8.0, 20.0)
ENDLESS_SECONDS: Final = 100.0
"""For children of jobs that somebody means to cancel: far beyond the time in which that must
reach them."""


def plan_children(world: World, entry: Entry, generation: int = 1) -> None:
    """What a job will submit; each of its attempts submits the same, under the same ids."""
    random = world.random
    for number in range(random.randint(*CHILDREN)):
        is_parent = generation < GENERATIONS and random.random() < 0.3
        endless = entry.is_unwanted and random.random() < 0.4
        child = Entry(
            key=f"{entry.key}.{number}",
            owner=entry.key,
            id=new_task_id(world),
            task="parent" if is_parent else "work",
            seconds=ENDLESS_SECONDS if endless and not is_parent else random.choice(SECONDS),
            countdown=random.uniform(0.1, 15.0) if random.random() < 0.2 else None,
            priority=random.choice((0, 1, 1, 2, 3)),
            parent=entry,
            detached=not endless and random.random() < 0.35,
            moment=random.choice(MOMENTS),
            is_unwanted=entry.is_unwanted,
        )
        entry.children.append(child)
        world.entries.append(child)
        if is_parent:
            plan_children(world, child, generation + 1)
