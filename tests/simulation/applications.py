"""What the clients of a run do, and what they write into the ledger: before and after each call."""

from __future__ import annotations

from typing import Any, Final

import trio

from fastworker.client.calls import Call
from fastworker.client.handles import TaskHandle
from fastworker.errors import (
    ClientNotReady,
    ControlPlaneUnavailable,
    FastWorkerError,
    Indeterminate,
    JobCancelled,
    JobDead,
    JobExpired,
    TaskError,
)
from fastworker.options import CallOptions
from tests.simulation.families import plan_children
from tests.simulation.ledgers import Entry
from tests.simulation.processes import Application
from tests.simulation.submitting import apply, new_task_id, note, note_refusal, options_of
from tests.simulation.world import World

JOBS: Final = (6, 18)
GROUP_JOBS: Final = (2, 6)
LONG_SECONDS: Final = {"careful": 12.0, "poison": 0.2, "stubborn": 500.0}
"""Of tasks that are about one moment: in doubt of its lease, and its runner's death."""

SOON_SECONDS: Final = (0.0, 0.0, 0.1, 2.0)
LATE_SECONDS: Final = (0.1, 1.0, 3.0, 6.0, 12.0)
UNWANTED_SECONDS: Final = 20.0
"""To a cancel: of jobs that have submitted others meanwhile, if they could."""

OWNED_SHARE: Final = 0.2
OWNED_SECONDS: Final = (5.0, 12.0)
PATIENT_SECONDS: Final = (60.0, 120.0)
"""Until some of the jobs that are to end with their clients start: these may have gone by then."""

PAUSED_QUEUE: Final = "side"
"""Somebody pauses it now and then."""

TASKS: Final = {
    "work": 60,
    "flaky": 10,
    "careful": 20,
    "fail": 6,
    "poison": 1,
    "parent": 20,
    "stubborn": 2,
}
SECONDS: Final = (0.01, 0.01, 0.2, 1.0, 1.0, 3.0, 8.0, 20.0)
"""How long jobs run: some longer than a lease."""


def intend(world: World, owner: str, number: int) -> Entry:
    """A job somebody is about to submit."""
    random = world.random
    weights = {**TASKS, "parent": TASKS["parent"] * world.families}
    task = random.choices(list(weights), list(weights.values()))[0]
    expires = random.uniform(0.5, 40.0) if random.random() < 0.12 else None
    entry = Entry(
        key=f"j{number}",
        owner=owner,
        id=new_task_id(world),
        task=task,
        seconds=LONG_SECONDS.get(task) or random.choice(SECONDS),
        on_lost="fail" if task == "work" and random.random() < 0.1 else "retry",
        countdown=random.uniform(0.1, 15.0) if random.random() < 0.15 else None,
        expires=expires,
        owned=random.choice(OWNED_SECONDS) if random.random() < OWNED_SHARE else None,
        priority=random.choice((0, 1, 1, 1, 2, 3)),
        queue=PAUSED_QUEUE if random.random() < 0.35 else "default",
    )
    if entry.owned is not None and entry.expires is None and random.random() < 0.5:
        entry.countdown = random.uniform(*PATIENT_SECONDS)
    world.entries.append(entry)
    if task == "parent":
        entry.is_unwanted = random.random() < 0.6
        entry.seconds = UNWANTED_SECONDS if entry.is_unwanted else entry.seconds
        plan_children(world, entry)
    world.record.note("client", f"intends {entry.key} {entry.id} {task} {entry.seconds}")
    return entry


async def submit_one(world: World, application: Application, entry: Entry) -> None:
    """Submit, perhaps again when in doubt, perhaps cancel, and wait for the end."""
    random = world.random
    if random.random() < 0.08:
        # As if two requests of a user raced: the cancel may overtake the submission.
        application.start(cancel, world, entry)
    for tries in range(random.randint(1, 4)):
        try:
            handle = await apply(application.client, entry)
        except FastWorkerError as error:
            note_refusal(world, entry, error)
            if entry.state != "indeterminate":
                return
            world.record.count("submitted again when in doubt", tries >= 0)
            await trio.sleep(random.uniform(0.0, 3.0))
        else:
            note(world, entry, "acked")
            await _afterwards(world, application, entry, handle)
            return


async def submit_keyed(world: World, application: Application, entry: Entry) -> None:
    """Submit the same several times, each time as a new job with the same idempotency key."""
    for _ in range(world.random.randint(1, 4)):
        task_id = new_task_id(world)
        entry.tried_ids.append(task_id)
        try:
            handle = await apply(
                application.client, entry, task_id=task_id, idempotency_key=entry.key
            )
        except FastWorkerError as error:
            note_refusal(world, entry, error)
        else:
            if entry.state == "acked" and handle.id != entry.id:
                world.record.bugs.append(f"{entry.key} was accepted as {entry.id} and {handle.id}")
            world.record.count("deduplicated", handle.deduplicated)
            entry.id = handle.id
            note(world, entry, "acked")
            application.start(_afterwards, world, entry, handle)
        await trio.sleep(world.random.uniform(0.0, 5.0))


async def pause_queues(world: World, application: Application, until: float) -> None:
    """Pause a queue and resume it, until it stands resumed after this moment."""
    while True:
        await _manage(world, application, "pause")
        await trio.sleep(world.random.uniform(0.5, 30.0))
        await _manage(world, application, "resume")
        await trio.sleep(world.random.uniform(0.5, 10.0))
        if trio.current_time() > until:
            return


async def _manage(world: World, application: Application, what: str) -> None:
    call = application.client.pause if what == "pause" else application.client.resume
    while True:
        try:
            await call(PAUSED_QUEUE)
        except FastWorkerError as error:
            world.record.note("client", f"{what} failed: {error.code}")
            if what == "pause" or isinstance(error, ClientNotReady):
                return
            await trio.sleep(0.5)
        else:
            world.record.note("client", what)
            return


async def submit_group(world: World, application: Application, entries: list[Entry]) -> None:
    """Submit several at once: all are accepted, or none."""
    calls = [
        Call(
            entry.task,
            (entry.key, entry.seconds),
            options=CallOptions(**options_of(entry)),
        )
        for entry in entries
    ]
    try:
        handles = await application.client.submit_many(calls)
    except FastWorkerError as error:
        for entry in entries:
            note_refusal(world, entry, error)
        return
    world.record.count("group accepted")
    for entry, handle in zip(entries, handles, strict=True):
        note(world, entry, "acked")
        application.start(_afterwards, world, entry, handle)


async def _afterwards(
    world: World, application: Application, entry: Entry, handle: TaskHandle[Any]
) -> None:
    if entry.is_unwanted or world.random.random() < 0.12:
        application.start(cancel, world, entry)
    if world.random.random() < 0.8:
        await observe(world, entry, handle)


async def observe(world: World, entry: Entry, handle: TaskHandle[Any]) -> None:
    """Wait for the end and write it down."""
    value = ""
    try:
        value = repr(await handle.result(timeout=world.random.choice((None, None, 20.0))))
        status = "success"
    except TimeoutError:
        return
    except JobCancelled:
        status = "cancelled"
    except JobExpired:
        status = "expired"
    except JobDead:
        status = "dead"
    except (TaskError, ValueError, ConnectionError):
        status = "failure"
    except ClientNotReady:
        return
    entry.observed.add((status, value))
    world.record.note("client", f"sees {entry.key} {status} {value}")


async def cancel(world: World, application: Application, entry: Entry) -> None:
    """Cancel, sooner or later."""
    await trio.sleep(world.random.choice(LATE_SECONDS if entry.children else SOON_SECONDS))
    entry.cancel_asked = True
    try:
        result = await application.client.cancel(entry.id)
    except (ControlPlaneUnavailable, Indeterminate, ClientNotReady):
        return
    world.record.note("client", f"cancel {entry.key}: {result.outcome}")
    entry.cancelled |= result.cancelled


async def resubmit(world: World, application: Application, entry: Entry) -> None:
    """A client that died before it was answered starts again and repeats what it meant to do."""
    try:
        await apply(application.client, entry)
    except FastWorkerError:
        # What became of the first submission, this one does not tell.
        note(world, entry, "indeterminate")
    else:
        world.record.count("submitted again after a crash")
        note(world, entry, "acked")
