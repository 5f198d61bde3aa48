"""What must hold when all is healed and every job has ended. Each violation is one sentence."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from fastworker.core.records import JobView, TaskStatus
from fastworker.core.returns import DEATHS_ALONE
from fastworker.wire.values import open_value
from tests.simulation.family_oracle import family_violations, may_be_cancelled
from tests.simulation.ledgers import Effect, Effects, Entry
from tests.simulation.owner_oracle import owner_violations
from tests.simulation.processes import LEASE_SECONDS
from tests.simulation.views import views_of
from tests.simulation.world import World

CLOCK_SECONDS: Final = 0.01
"""Between a decision and the moment at which the ledger notes what came of it."""


def violations(world: World) -> Iterator[str]:
    """Everything that is wrong with a run that has come to rest."""
    yield from world.record.bugs
    yield from world.commit_bugs
    for entry in world.entries:
        views = views_of(world, entry)
        if len(views) > 1:
            yield f"duplicate: {entry.key} is stored as {len(views)} jobs with one key"
        yield from _judge(world, entry, views[0] if views else None)
        yield from _duplicates(world, entry)
    known = {entry.key for entry in world.entries}
    for key in world.effects.by_key:
        if key not in known:
            yield f"phantom: {key} ran, but nobody meant it to"
    yield from family_violations(world)
    yield from owner_violations(world)
    yield from _left_behind(world)


def _judge(world: World, entry: Entry, view: JobView | None) -> Iterator[str]:
    starts = world.effects.starts(entry.key)
    who = f"{entry.key} ({entry.id}, {entry.state})"
    surely_not = entry.state in ("rejected", "unsent") and not entry.open_calls
    if surely_not and (view is not None or starts):
        yield f"phantom: {who} was refused, but is stored or ran"
    if view is None:
        if entry.state == "acked":
            yield f"lost: {who} was accepted, and the store does not know it"
        if starts:
            yield f"phantom: {who} ran, but is not stored"
        return
    if not view.status.is_terminal:
        yield f"stuck: {who} is {view.status}"
        return
    final = (str(view.status), repr(open_value(view.value)) if view.value is not None else "")
    if not entry.observed <= {final}:
        yield f"flip: {who} ended as {final}, and clients saw {sorted(entry.observed)}"
    yield from _fits(world, entry, view, starts, who)


def _fits(
    world: World, entry: Entry, view: JobView, starts: list[Effect], who: str
) -> Iterator[str]:
    """Whether the recorded end follows from what happened."""
    ends = {e.token for e in world.effects.by_key.get(entry.key, ()) if e.what == "end"}
    match view.status:
        case TaskStatus.SUCCESS | TaskStatus.FAILURE:
            # A retry that would come after the deadline is none, nor is that of a cancelled job.
            no_retry = entry.expires or entry.cancel_asked or entry.owned is not None
            may_fail = entry.task in ("fail", "stubborn") or (entry.task == "flaky" and no_retry)
            if (view.status is TaskStatus.FAILURE and not may_fail) or (
                view.status is TaskStatus.SUCCESS and entry.task in ("fail", "poison", "stubborn")
            ):
                yield f"wrong end: {who} is {view.status}: {view.failure}"
            elif view.token not in ends and entry.task != "stubborn":
                yield f"lost: {who} is {view.status} as token {view.token}, which never ended"
        case TaskStatus.CANCELLED if not may_be_cancelled(world, entry):
            yield f"wrong end: {who} is cancelled, and nobody asked for it"
        case TaskStatus.EXPIRED if entry.expires_at == math.inf:
            yield f"wrong end: {who} is expired, and has no deadline"
        case TaskStatus.DEAD if not _may_be_dead(entry, starts):
            yield f"wrong end: {who} is dead: {view.failure}"
        case _:
            pass
    if view.status is TaskStatus.SUCCESS and view.value is not None:
        key, token = open_value(view.value)
        if (key, token) != (entry.key, view.token):
            yield f"fencing: {who} has the result of {key} as {token}, not as {view.token}"
    if entry.cancelled and view.status is not TaskStatus.CANCELLED:
        yield f"flip: {who} was said to be cancelled, and is {view.status}"
    if view.status is TaskStatus.CANCELLED:
        settled = world.settled[view.id]
        for start in starts:
            if start.at > settled + CLOCK_SECONDS:
                yield f"late start: {who} started at {start.at:.3f}, cancelled at {settled:.3f}"
    for start in starts:
        # A deadline travels as what is left of it, so that no clock matters but those of the two
        # ends: time under way is not counted.
        under_way = world.under_way.get(start.token, 0.0)
        if start.at > entry.expires_at + under_way + CLOCK_SECONDS:
            late = start.at - entry.expires_at
            yield f"late start: {who} started {late:.3f} s after its deadline"


def _may_be_dead(entry: Entry, starts: list[Effect]) -> bool:
    """At most once; or four of its runners died, the first one perhaps by chance (G5)."""
    died = sum(start.place.died_at < math.inf for start in starts)
    return entry.on_lost == "fail" or died > DEATHS_ALONE


def _duplicates(world: World, entry: Entry) -> Iterator[str]:
    """Every start but the first needs an excuse (guarantees, G2)."""
    effects = world.effects
    starts = effects.starts(entry.key)
    if entry.on_lost == "fail" and len(starts) > 1:
        yield f"duplicate: {entry.key} asked never to be started twice, and was"
    # By token, that is by lease: a subworker that was cut off may begin with an old one last.
    for before, after in pairwise(sorted(starts, key=lambda start: start.token)):
        if before.token == after.token:
            yield f"duplicate: {entry.key} started twice as token {before.token}"
        elif entry.task == "careful" and _overlap(effects, before, after):
            yield f"overlap: {entry.key} started as {after.token} beside {before.token}"
        elif not _excused(world, before, after):
            yield (
                f"duplicate: {entry.key} started at {before.at:.3f} as {before.token} at "
                f"{before.place} and at {after.at:.3f} as {after.token} at {after.place} "
                "for no reason"
            )


def _overlap(effects: Effects, one: Effect, other: Effect) -> bool:
    return one.at < effects.stopped_at(other.key, other.token) and other.at < effects.stopped_at(
        one.key, one.token
    )


def _excused(world: World, before: Effect, after: Effect) -> bool:
    if before.token in world.retried:
        world.record.count("started again: its policy asked for it")
        return True
    if before.token in world.given_up:
        world.record.count("started again: given up in time")
        return True
    stopped_at = world.effects.stopped_at(before.key, before.token)
    if before.token in world.drained and stopped_at <= after.at:
        world.record.count("started again: its worker had ended")
        return True
    if before.place.died_at <= after.at:
        world.record.count("started again: its runner was dead")
        return True
    # It may have expired before the code began: the subworker did not know it yet.
    silence = world.silence(before.place.worker, world.leased_at[before.token], after.at)
    if silence >= LEASE_SECONDS - CLOCK_SECONDS:
        world.record.count("started again: its lease had expired")
        return True
    return False


def _left_behind(world: World) -> Iterator[str]:
    """What memory still holds of jobs that have all ended, and whoever waits still."""
    for application in (*world.applications, *world.operators):
        for call in application.calls:
            yield f"stuck: {application.name}: {call} has not returned"
    if world.disk.open_jobs():
        return
    if world.disk.store.cancelled_parents() or world.disk.store.owners():
        yield "left behind: families of jobs that have all ended"
    plane = world.control_plane.plane
    if plane is None:
        yield "stuck: no control plane stands"
        return
    memory = plane.dispatcher.memory
    if memory.jobs:
        yield f"left behind: {len(memory.jobs)} jobs in memory, all have ended"
    for lane in memory.lanes.values():
        if lane.depth:
            yield f"left behind: a lane of depth {lane.depth}, and nothing waits"
    for session in memory.sessions.values():
        if session.held or any(map(any, session.outstanding)):
            yield f"left behind: {session.label} is counted as holding {len(session.held)} jobs"
