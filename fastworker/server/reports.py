"""Answers to reads: how jobs stand, what is connected, what waits. All of it beside the loop."""

from __future__ import annotations

import math

from fastworker.core.memory import Memory
from fastworker.core.records import ALL_TENANTS, DEFAULT_TENANT, JobView, TaskStatus
from fastworker.errors import InvalidOption
from fastworker.server.callback_reports import callback_maps
from fastworker.server.criteria import named_tenant, text_option
from fastworker.server.dead_letters import (
    attempt_maps,
    dead_letter_map,
    dead_maps,
    without_traceback,
)
from fastworker.server.inspection import stack_map, tree_map
from fastworker.server.plane import Plane
from fastworker.server.usage import tenant_maps
from fastworker.store.contract import JobFilter
from fastworker.version import __version__
from fastworker.wire.fields import MAX_U64, OptionMap
from fastworker.wire.messages import Fetched, Query, Report, Roster
from fastworker.wire.views import progress_to_map, view_to_map

MAX_FETCHED_BYTES = 8 * 1024 * 1024
"""Of results in one answer: half of what one frame may hold."""

MAX_JOBS_PER_REPORT = 1000

KEYS_AT_ONCE = 100_000
"""Looked through in one read of a list: about 30 ms."""


def roster_message(plane: Plane, dialled: str | None, sees: str | None) -> Roster:
    """What a client is told about the cluster, as far as it concerns the jobs that it sees."""
    return Roster(plane.advertised(dialled), plane.worker_maps(sees), plane.task_maps(sees))


async def fetch_views(plane: Plane, request: int, ids: list[bytes], sees: str | None) -> Fetched:
    """How these jobs stand; what is not known is left out, and so is what may not be seen."""
    views = await plane.store.views(ids, sees)
    if sum(len(view.value or b"") for view in views) > MAX_FETCHED_BYTES:
        raise InvalidOption(
            f"these {len(ids)} jobs have results of more than {MAX_FETCHED_BYTES} bytes; "
            "ask for fewer at once"
        )
    return Fetched(request, [_with_reason(plane, view) for view in views])


def _with_reason(plane: Plane, view: JobView) -> OptionMap:
    found = view_to_map(view)
    reason = plane.dispatcher.why_waiting(
        *(view.task, view.queue, view.status),
        tenant=view.tenant,
        job_id=view.id,
        attempts=view.attempts,
    )
    if reason is not None:
        found["reason"] = reason
    if view.status is TaskStatus.RUNNING:
        progress = plane.running.of_attempt(view.id, view.token)
        if progress is not None:
            found["progress"] = progress_to_map(progress)
    return found


async def make_report(plane: Plane, query: Query, sees: str | None) -> Report:
    """Answer one `Query`.

    Args:
        sees: the tenant whose jobs the asker may know of; None: everybody's.

    Raises:
        InvalidOption: an unknown report, or options it does not have.
        UnknownJob: it is about one job, which is not there.
    """
    options = query.options or {}
    match query.what:
        case "tasks":
            body: OptionMap = {"tasks": plane.task_maps(sees)}
        case "workers":
            body = {"workers": plane.worker_maps(sees)}
        case "queues":
            body = {"queues": _queue_maps(plane, sees)}
        case "jobs":
            body = {"jobs": await _job_maps(plane, options, sees)}
        case "dead":
            body = {"dead": await dead_maps(plane, options, sees)}
        case "dead_letter":
            body = await dead_letter_map(plane, options, sees)
        case "attempts":
            body = {"attempts": await attempt_maps(plane, options, sees)}
        case "callbacks":
            body = {"callbacks": await callback_maps(plane, options, sees)}
        case "stack":
            body = await stack_map(plane, options, sees)
        case "tree":
            body = await tree_map(plane, options, sees)
        case "tenants":
            body = {"tenants": tenant_maps(plane, sees)}
        case "status":
            body = await _status_map(plane, sees)
        case _:
            raise InvalidOption(
                f"there is no report {query.what!r}; ask for tasks, workers, queues, jobs, dead, "
                "dead_letter, attempts, callbacks, stack, tree, tenants or status"
            )
    return Report(query.request, body)


def _queue_maps(plane: Plane, sees: str | None) -> list[OptionMap]:
    """What of each tenant waits in each queue, and what is known of how long, without asking the
    store. A queue that is paused for everybody, and that nobody has used, is shown without one."""
    memory = plane.dispatcher.memory
    found: dict[tuple[str, str], OptionMap] = {}
    for tenant, queue in sorted(memory.paused):
        if sees in (None, tenant):
            _queue_map(memory, found, tenant, queue)
    for lane in memory.lanes.values():
        if sees not in (None, lane.key.tenant):
            continue
        entry = _queue_map(memory, found, lane.key.tenant, lane.key.queue)
        entry["queued"] += lane.depth
        entry["priorities"][lane.key.priority] += lane.depth
        first = lane.ready[0] if lane.ready else None
        if first is not None and first.submitted_at < entry.get("oldest_at", math.inf):
            entry["oldest_at"] = first.submitted_at
    used = {queue for tenant, queue in found if tenant != ALL_TENANTS}
    for queue in used:
        found.pop((ALL_TENANTS, queue), None)
    return [found[tenant, queue] for tenant, queue in sorted(found, key=lambda key: key[::-1])]


def _queue_map(
    memory: Memory, found: dict[tuple[str, str], OptionMap], tenant: str, queue: str
) -> OptionMap:
    entry = found.get((tenant, queue))
    if entry is None:
        paused = memory.is_paused(tenant, queue)
        entry = {"queue": queue, "queued": 0, "priorities": [0, 0, 0, 0], "paused": paused}
        if tenant not in (DEFAULT_TENANT, ALL_TENANTS):
            entry["tenant"] = tenant
        found[tenant, queue] = entry
    return entry


async def _job_maps(plane: Plane, options: OptionMap, sees: str | None) -> list[OptionMap]:
    status = text_option(options, "status")
    if status is not None and status not in {word.value for word in TaskStatus}:
        raise InvalidOption(f"there is no status {status!r:.40}")
    limit = options.get("limit", 100)
    before = options.get("before")
    if before is not None and (type(before) is not int or not 0 <= before <= MAX_U64):
        raise InvalidOption(f"before is {before!r:.40}; expected the key of a job")
    if type(limit) is not int or not 1 <= limit <= MAX_JOBS_PER_REPORT:
        raise InvalidOption(f"limit is {limit!r:.40}; expected 1 to {MAX_JOBS_PER_REPORT}")
    criteria = JobFilter(
        status=status,
        task=text_option(options, "task"),
        queue=text_option(options, "queue"),
        before_key=before,
        limit=limit,
        tenant=named_tenant(options, sees),
    )
    rows = await _find_jobs(plane, criteria)
    return [{**_with_reason(plane, without_traceback(view)), "key": key} for key, view in rows]


async def _find_jobs(plane: Plane, criteria: JobFilter) -> list[tuple[int, JobView]]:
    """A page of jobs. What fits nobody is looked for among all jobs, so other reads take turns."""
    newest = plane.dispatcher.memory.next_key
    below = newest if criteria.before_key is None else min(newest, criteria.before_key)
    found: list[tuple[int, JobView]] = []
    while below > 0 and len(found) < criteria.limit:
        from_key, left = max(0, below - KEYS_AT_ONCE), criteria.limit - len(found)
        part = criteria._replace(before_key=below, from_key=from_key, limit=left)
        found += await plane.store.jobs(part)
        below = from_key
    return found


async def _status_map(plane: Plane, sees: str | None) -> OptionMap:
    info = plane.store.info
    report: OptionMap = {
        "version": __version__,
        "addresses": list(plane.addresses),
        "jobs": await plane.store.counts(sees),
        "queues": _queue_maps(plane, sees),
        "tenants": tenant_maps(plane, sees),
        "workers": plane.worker_maps(sees),
        "tasks": plane.task_maps(sees),
        "store": {"kind": info.kind, "durability": info.durability},
    }
    if sees is None:
        # What all tenants together make of it, and where it is kept.
        report["inbox"] = plane.inbox.statistics()
        report["connections"] = {**plane.gate.statistics(), "ended_badly": plane.peer_log.count}
        report["store"] |= {"location": info.location, "engine": info.engine_version}
    return report
