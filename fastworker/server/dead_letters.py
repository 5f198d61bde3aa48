"""Dead letters: found, shown, replayed and discarded. All of it beside the loop, page by page.

A replay is an ordinary submission of a new job; the core marks the old one in the same
transaction. One page is worked on at a time, until it is stored, so that the next one sees which
letters are replayed already; a million of them take no more memory than one page.
"""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
from collections.abc import AsyncIterator, Sequence
from typing import Final, NamedTuple

import trio

from fastworker.core.facts import Spec, Submission
from fastworker.core.ids import id_text, new_id
from fastworker.core.questions import Questions
from fastworker.core.records import JobOptions, JobView, TaskStatus
from fastworker.errors import InvalidOption, Overloaded, Rejected, StorageFull, UnknownJob
from fastworker.server.answers import Answer, Origin
from fastworker.server.criteria import dead_filter, edited_payload, named_id, named_ids
from fastworker.server.plane import Plane
from fastworker.store.contract import DeadFilter
from fastworker.wire.fields import OptionMap
from fastworker.wire.messages import Manage, Report, Submitted
from fastworker.wire.views import attempt_to_map, view_to_map

PAYLOADS_AT_ONCE: Final = 32
BATCH_BYTES: Final = 8 * 1024 * 1024
"""Arguments are read 32 at a time, at most 32 MiB, until there are 8 MiB to submit together."""

_RANDOM_BYTES: Final = 10
"""Of one UUIDv7."""

_DEAD: Final = (TaskStatus.FAILURE, TaskStatus.DEAD)

Letter = tuple[int, JobView]
"""A job's key, and how it stands."""


class _Repeat(NamedTuple):
    """A dead letter with all that its replay needs."""

    key: int
    tenant: str
    spec: Spec
    payload: bytes


class _Turn:
    """The right to change dead letters, given back once nothing of it is open any more."""

    def __init__(self, plane: Plane) -> None:
        self._semaphore = plane.dead_letter_turn
        self._open = 1

    def enter(self) -> None:
        """One more thing is open: a submission that is not stored yet."""
        self._open += 1

    def leave(self) -> None:
        """One thing less is open."""
        self._open -= 1
        if self._open == 0:
            self._semaphore.release()


@contextlib.asynccontextmanager
async def _turn(plane: Plane) -> AsyncIterator[_Turn]:
    """Wait for the turn; after a cancelled block it lasts until what was submitted is stored."""
    await plane.dead_letter_turn.acquire()
    turn = _Turn(plane)
    try:
        yield turn
    finally:
        turn.leave()


# -- reads ----------------------------------------------------------------------------------


async def dead_maps(plane: Plane, options: OptionMap, sees: str | None) -> list[OptionMap]:
    """A page of dead letters, newest first, without tracebacks.

    Args:
        sees: here and below, the tenant whose jobs the asker may know of; None: everybody's.

    Raises:
        InvalidOption: a filter that cannot be one.
    """
    letters = await plane.store.dead(dead_filter(options, sees))
    return [{**view_to_map(without_traceback(view)), "key": key} for key, view in letters]


def without_traceback(view: JobView) -> JobView:
    """For lists: tracebacks of a thousand jobs would not fit into one frame."""
    if view.failure is None or not view.failure.traceback:
        return view
    return view._replace(failure=view.failure._replace(traceback=""))


async def dead_letter_map(plane: Plane, options: OptionMap, sees: str | None) -> OptionMap:
    """One dead letter with arguments and attempts, also if it has been replayed.

    Raises:
        InvalidOption: no id was given.
        UnknownJob: it is no dead letter.
    """
    view = (await _dead_views(plane, named_id(options), sees))[0]
    if not view.result_kept:
        raise UnknownJob(f"dead letter {id_text(view.id)} was discarded or is no longer kept")
    found: OptionMap = {"letter": view_to_map(view), "attempts": await _attempts(plane, view.id)}
    known = (await plane.store.recall(Questions(ids=[view.id]))).jobs.get(view.id)
    if known is not None:
        payload = (await plane.store.payloads([known.row.key])).get(known.row.key)
        found["letter"]["key"] = known.row.key
        if payload is not None:
            found["payload"] = payload
    return found


async def attempt_maps(plane: Plane, options: OptionMap, sees: str | None) -> list[OptionMap]:
    """The attempts of any job.

    Raises:
        InvalidOption: no id was given.
        UnknownJob: no job has this id.
    """
    job_id = named_id(options)[0]
    if not await plane.store.views([job_id], sees):
        raise _unknown(job_id)
    return await _attempts(plane, job_id)


async def _attempts(plane: Plane, job_id: bytes) -> list[OptionMap]:
    return [attempt_to_map(each) for each in await plane.store.attempts(job_id)]


# -- changes --------------------------------------------------------------------------------


async def change_dead_letters(plane: Plane, message: Manage, sees: str | None) -> Report:
    """Replay or discard the named dead letters, or one page of those that a filter finds.

    Returns:
        ``ids`` of the replays, in order; or ``count``, and ``before`` if there may be more.

    Raises:
        InvalidOption: neither ids nor a filter that can be one, or an unknown change.
        UnknownJob: a named one is no dead letter; nothing was changed.
        Rejected: the replays were refused, so nothing was changed.
    """
    options = message.options or {}
    async with _turn(plane) as turn:
        match message.what, "ids" in options:
            case "replay", True:
                body: OptionMap = {"ids": b"".join(await _replay_named(plane, turn, options, sees))}
            case "replay", False:
                body = await _replay_page(plane, turn, dead_filter(options, sees))
            case "discard", True:
                body = {"count": await _discard_named(plane, named_ids(options), sees)}
            case "discard", False:
                body = await _discard_page(plane, dead_filter(options, sees))
            case _:
                raise InvalidOption(
                    f"there is no change {message.what!r}; there are pause, resume, replay "
                    "and discard"
                )
    return Report(message.request, body)


async def _replay_named(
    plane: Plane, turn: _Turn, options: OptionMap, sees: str | None
) -> list[bytes]:
    ids = named_ids(options)
    edited = edited_payload(options, len(ids))
    views = await _dead_views(plane, ids, sees)
    made = {view.id: view.replayed_by for view in views if view.replayed_by is not None}
    fresh = [view for view in views if view.replayed_by is None]
    repeats = await _load(plane, fresh, edited)
    for view in fresh:
        if view.id not in repeats:
            raise UnknownJob(
                f"dead letter {id_text(view.id)} cannot be replayed: "
                "it was discarded, or its arguments are no longer kept"
            )
    made |= await _submit_all(plane, turn, repeats)
    return [made[job_id] for job_id in ids]


async def _replay_page(plane: Plane, turn: _Turn, criteria: DeadFilter) -> OptionMap:
    """One page; when the control plane cannot take all of it, the part it could."""
    page = await plane.store.dead(criteria)
    count, cursor = 0, None
    batch: dict[bytes, _Repeat] = {}
    for at in range(0, len(page), PAYLOADS_AT_ONCE):
        part = page[at : at + PAYLOADS_AT_ONCE]
        batch |= await _load(plane, [view for _, view in part], None)
        last = at + PAYLOADS_AT_ONCE >= len(page)
        if not last and sum(len(each.payload) for each in batch.values()) < BATCH_BYTES:
            continue
        try:
            count += len(await _submit_all(plane, turn, batch))
        except Overloaded:
            if cursor is None:
                raise
            return {"count": count, "before": cursor}
        batch, cursor = {}, part[-1][0]
    return _page_body(count, page, criteria)


async def _discard_named(plane: Plane, ids: Sequence[bytes], sees: str | None) -> int:
    views = await _dead_views(plane, ids, sees)
    for view in views:
        if view.replayed_by is not None:
            raise UnknownJob(
                f"job {id_text(view.id)} is no dead letter any more: "
                f"it was replayed as {id_text(view.replayed_by)}"
            )
    return await _discard(plane, [view.id for view in views if view.result_kept])


async def _discard_page(plane: Plane, criteria: DeadFilter) -> OptionMap:
    page = await plane.store.dead(criteria)
    return _page_body(await _discard(plane, [view.id for _, view in page]), page, criteria)


async def _discard(plane: Plane, ids: Sequence[bytes]) -> int:
    known = (await plane.store.recall(Questions(ids=list(ids)))).jobs
    keys = [each.row.key for each in known.values()]
    count = await plane.store.discard(keys, now=plane.clock().wall)
    recent = plane.dispatcher.memory.recent
    for job_id in ids:
        ended = recent.get(job_id)
        if ended is not None:
            recent.put(ended._replace(value=None, failure=None, keep_payload=False))
    return count


def _page_body(count: int, page: Sequence[Letter], criteria: DeadFilter) -> OptionMap:
    body: OptionMap = {"count": count}
    if len(page) == criteria.limit:
        body["before"] = page[-1][0]
    return body


# -- a replay's job -------------------------------------------------------------------------


async def _load(
    plane: Plane, views: Sequence[JobView], edited: bytes | None
) -> dict[bytes, _Repeat]:
    """What the replays of these need, by id; those without arguments are left out."""
    known = (await plane.store.recall(Questions(ids=[view.id for view in views]))).jobs
    payloads: dict[int, bytes] = {}
    if edited is None:
        payloads = await plane.store.payloads([each.row.key for each in known.values()])
    found: dict[bytes, _Repeat] = {}
    for view in views:
        if view.id not in known or not view.result_kept:
            continue
        row = known[view.id].row
        payload = payloads.get(row.key) if edited is None else edited
        if payload is not None:
            options = _replay_options(plane, row.options, view)
            spec = Spec(view.task, view.queue, view.priority, options)
            found[view.id] = _Repeat(row.key, view.tenant, spec, payload)
    return found


def _replay_options(plane: Plane, options: JobOptions, letter: JobView) -> JobOptions:
    """Those of the old job. A connection that has gone cannot be called again, so a callback
    over one is left out; nor does anybody take the items of a stream, so they are its result."""
    found = dataclasses.replace(
        options,
        parent=None,
        replay_of=letter.id,
        deadline=None,
        owned=None,
        owner=None,
        stream=False,
    )
    callback = options.callback
    if callback is not None and callback.startswith("client:"):
        client = bytes.fromhex(callback.removeprefix("client:"))
        if (letter.tenant, client) not in plane.roster.clients_by_id:
            return dataclasses.replace(
                found, callback=None, callback_data=None, callback_token=None
            )
    return found


async def _submit_all(
    plane: Plane, turn: _Turn, repeats: dict[bytes, _Repeat]
) -> dict[bytes, bytes]:
    """Submit the replays, each tenant's together, and wait until they are stored: old id → new id.

    Raises:
        Overloaded: too much waits to be accepted; nothing more was submitted.
        Rejected: they were refused.
    """
    made: dict[bytes, bytes] = {}
    for tenant in dict.fromkeys(each.tenant for each in repeats.values()):
        its = {old: each for old, each in repeats.items() if each.tenant == tenant}
        made |= await _submit(plane, turn, its, tenant)
    return made


async def _submit(
    plane: Plane, turn: _Turn, repeats: dict[bytes, _Repeat], tenant: str
) -> dict[bytes, bytes]:
    wall = plane.clock().wall
    # Letters are found newest first; the oldest is to run first.
    made = {
        old: new_id(wall=wall, random=secrets.token_bytes(_RANDOM_BYTES))
        for old in reversed(repeats)
    }
    letters = [repeats[old] for old in made]
    answers: list[Submitted] = []
    stored = trio.Event()

    def answered(answer: Submitted) -> None:
        answers.append(answer)
        turn.leave()
        stored.set()

    count = len(letters)
    fact = Submission(
        Origin(plane, [(Answer(0, answered, open=count), range(count))]),
        [each.spec for each in letters],
        list(made.values()),
        [each.payload for each in letters],
        which=range(count),
        atomic=True,
        tenant=tenant,
        replays=[each.key for each in letters],
    )
    plane.inbox.offer(fact, min(each.spec.priority for each in letters))
    turn.enter()
    await stored.wait()
    if answers[0].refused:
        raise _refusal(answers[0].refused[0])
    return made


def _refusal(row: list[object]) -> Rejected:
    """Why none of a batch was accepted."""
    _, code, text, retry_after = row
    if code == Overloaded.code and isinstance(retry_after, float):
        return Overloaded(str(text), retry_after=retry_after)
    return StorageFull(str(text)) if code == StorageFull.code else Rejected(str(text))


# -- what was asked -------------------------------------------------------------------------


async def _dead_views(plane: Plane, ids: Sequence[bytes], sees: str | None) -> list[JobView]:
    """These jobs, in order.

    Raises:
        UnknownJob: one is not known, or no dead letter.
    """
    views = {view.id: view for view in await plane.store.views(ids, sees)}
    for job_id in ids:
        if job_id not in views:
            raise _unknown(job_id)
        status = views[job_id].status
        if status not in _DEAD:
            raise UnknownJob(f"job {id_text(job_id)} is no dead letter: its status is {status}")
    return [views[job_id] for job_id in ids]


def _unknown(job_id: bytes) -> UnknownJob:
    return UnknownJob(f"no job {id_text(job_id)} is known; check the id")
