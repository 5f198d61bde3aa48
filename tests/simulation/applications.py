"""What the clients of a run do, and what they write into the ledger: before and after each call."""

from __future__ import annotations

from typing import Any, Final

import trio

from fastworker.client.calls import Call
from fastworker.client.handles import TaskHandle
from fastworker.core.ids import id_text, new_id
from fastworker.core.records import TaskPriority
from fastworker.errors import (
    ClientNotReady,
    ControlPlaneUnavailable,
    FastWorkerError,
    Indeterminate,
    JobCancelled,
    JobDead,
    JobExpired,
    Rejected,
    TaskError,
)
from fastworker.options import CallOptions
from tests.simulation.ledgers import Entry
from tests.simulation.processes import Application
from tests.simulation.world import World

JOBS: Final = (6, 18)
GROUP_JOBS: Final = (2, 6)
LONG_SECONDS: Final = {"careful": 12.0, "poison": 0.2}
"""Of tasks that are about one moment: in doubt of its lease, and its runner's death."""

PAUSED_QUEUE: Final = "side"
"""Somebody pauses it now and then."""

TASKS: Final = {"work": 60, "flaky": 10, "careful": 20, "fail": 6, "poison": 1}
SECONDS: Final = (0.01, 0.01, 0.2, 1.0, 1.0, 3.0, 8.0, 20.0)
"""How long jobs run: some longer than a lease."""


def intend(world: World, owner: str, number: int) -> Entry:
    """A job somebody is about to submit."""
    random = world.random
    task = random.choices(list(TASKS), list(TASKS.values()))[0]
    expires = random.uniform(0.5, 40.0) if random.random() < 0.12 else None
    entry = Entry(
        key=f"j{number}",
        owner=owner,
        id=_new_id(world),
        task=task,
        seconds=LONG_SECONDS.get(task) or random.choice(SECONDS),
        on_lost="fail" if task == "work" and random.random() < 0.1 else "retry",
        countdown=random.uniform(0.1, 15.0) if random.random() < 0.15 else None,
        expires=expires,
        priority=random.choice((0, 1, 1, 1, 2, 3)),
        queue=PAUSED_QUEUE if random.random() < 0.35 else "default",
    )
    world.entries.append(entry)
    world.record.note("client", f"intends {entry.key} {entry.id} {task} {entry.seconds}")
    return entry


def _new_id(world: World) -> str:
    return id_text(new_id(wall=world.clock.wall(), random=world.random.randbytes(10)))


def _options(entry: Entry) -> dict[str, Any]:
    if entry.expires is not None:
        # Counted from the call; if an earlier one was stored, its deadline is earlier still.
        entry.expires_at = trio.current_time() + entry.expires
    return {
        "priority": TaskPriority(entry.priority),
        "on_lost": entry.on_lost,
        "countdown": entry.countdown,
        "expires": entry.expires,
        "task_id": entry.id,
        "queue": entry.queue,
    }


async def _apply(application: Application, entry: Entry, **changes: Any) -> TaskHandle[Any]:
    """One submission; it stays open if the caller dies before the answer."""
    entry.open_calls += 1
    options = {**_options(entry), **changes}
    try:
        handle = await application.client.apply(entry.task, (entry.key, entry.seconds), **options)
    except FastWorkerError:
        entry.open_calls -= 1
        raise
    entry.open_calls -= 1
    return handle


async def submit_one(world: World, application: Application, entry: Entry) -> None:
    """Submit, perhaps again when in doubt, perhaps cancel, and wait for the end."""
    random = world.random
    if random.random() < 0.08:
        # As if two requests of a user raced: the cancel may overtake the submission.
        application.start(cancel, world, entry)
    for tries in range(random.randint(1, 4)):
        try:
            handle = await _apply(application, entry)
        except FastWorkerError as error:
            _note_refusal(world, entry, error)
            if entry.state != "indeterminate":
                return
            world.record.count("submitted again when in doubt", tries >= 0)
            await trio.sleep(random.uniform(0.0, 3.0))
        else:
            _note(world, entry, "acked")
            await _afterwards(world, application, entry, handle)
            return


async def submit_keyed(world: World, application: Application, entry: Entry) -> None:
    """Submit the same several times, each time as a new job with the same idempotency key."""
    for _ in range(world.random.randint(1, 4)):
        task_id = _new_id(world)
        entry.tried_ids.append(task_id)
        try:
            handle = await _apply(application, entry, task_id=task_id, idempotency_key=entry.key)
        except FastWorkerError as error:
            _note_refusal(world, entry, error)
        else:
            if entry.state == "acked" and handle.id != entry.id:
                world.record.bugs.append(f"{entry.key} was accepted as {entry.id} and {handle.id}")
            world.record.count("deduplicated", handle.deduplicated)
            entry.id = handle.id
            _note(world, entry, "acked")
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
            options=CallOptions(**_options(entry)),
        )
        for entry in entries
    ]
    try:
        handles = await application.client.submit_many(calls)
    except FastWorkerError as error:
        for entry in entries:
            _note_refusal(world, entry, error)
        return
    world.record.count("group accepted")
    for entry, handle in zip(entries, handles, strict=True):
        _note(world, entry, "acked")
        application.start(_afterwards, world, entry, handle)


async def _afterwards(
    world: World, application: Application, entry: Entry, handle: TaskHandle[Any]
) -> None:
    if world.random.random() < 0.12:
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
    await trio.sleep(world.random.choice((0.0, 0.0, 0.1, 2.0)))
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
        await _apply(application, entry)
    except FastWorkerError:
        # What became of the first submission, this one does not tell.
        _note(world, entry, "indeterminate")
    else:
        world.record.count("submitted again after a crash")
        _note(world, entry, "acked")


def _note_refusal(world: World, entry: Entry, error: FastWorkerError) -> None:
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
    _note(world, entry, state, f" {error.code}")


def _note(world: World, entry: Entry, state: str, why: str = "") -> None:
    world.record.note("client", f"{state} {entry.key}{why}")
    entry.told(state)
