"""One submission by whatever client, and what the ledger says of it afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from fastworker.client.client import Client
from fastworker.client.handles import TaskHandle
from fastworker.core.ids import id_text, new_id
from fastworker.core.records import TaskPriority
from fastworker.errors import (
    ClientNotReady,
    ControlPlaneUnavailable,
    FastWorkerError,
    Indeterminate,
    Rejected,
)
from tests.simulation.ledgers import Entry

if TYPE_CHECKING:
    from tests.simulation.world import World


def new_task_id(world: World) -> str:
    """What a client makes when it is given no id."""
    return id_text(new_id(wall=world.clock.wall(), random=world.random.randbytes(10)))


def options_of(entry: Entry) -> dict[str, Any]:
    """What a call asks for; it begins now."""
    if entry.expires is not None:
        # Counted from the call; if an earlier one was stored, its deadline is earlier still.
        entry.expires_at = trio.current_time() + entry.expires
    return {
        "detached": entry.detached,
        "owned": entry.owned,
        "priority": TaskPriority(entry.priority),
        "on_lost": entry.on_lost,
        "countdown": entry.countdown,
        "expires": entry.expires,
        "task_id": entry.id,
        "queue": entry.queue,
    }


async def apply(client: Client, entry: Entry, **changes: Any) -> TaskHandle[Any]:
    """One submission; it stays open if the caller dies before the answer."""
    entry.open_calls += 1
    options = {**options_of(entry), **changes}
    try:
        handle = await client.apply(entry.task, (entry.key, entry.seconds), **options)
    except FastWorkerError:
        entry.open_calls -= 1
        raise
    entry.open_calls -= 1
    return handle


async def submit_child(world: World, client: Client, entry: Entry) -> None:
    """Submit from inside a job, for that job."""
    try:
        await apply(client, entry)
    except FastWorkerError as error:
        world.record.count("child refused: its parent no longer runs", error.code == "forbidden")
        note_refusal(world, entry, error)
    else:
        note(world, entry, "acked")


def note_refusal(world: World, entry: Entry, error: FastWorkerError) -> None:
    """A submission failed; what that says of the job."""
    match error:
        case Rejected():
            state = "rejected"
        case Indeterminate():
            state = "indeterminate"
            world.record.count("indeterminate")
        case ClientNotReady():
            state = "indeterminate"
        case ControlPlaneUnavailable():
            state = "unsent"
            world.record.count("never sent")
        case _:
            raise error
    note(world, entry, state, f" {error.code}")


def note(world: World, entry: Entry, state: str, why: str = "") -> None:
    """A client has learnt what became of a submission."""
    world.record.note("client", f"{state} {entry.key}{why}")
    entry.told(state)
