"""``submit``, ``status``, ``result``, ``cancel``, ``tasks`` and ``workers``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastworker.cli.exits import FAILED, NOT_FOUND, OK
from fastworker.cli.flags import CONNECTION, AsJson, with_settings
from fastworker.cli.output import json_text, say, show, show_fields, show_json, show_table
from fastworker.config import Resolved
from fastworker.core.ids import id_bytes
from fastworker.core.names import check_name
from fastworker.core.records import TaskPriority, TaskStatus
from fastworker.errors import InvalidOption, UnknownJob
from fastworker.logs import escape_controls
from fastworker.options import CallOptions

if TYPE_CHECKING:
    from datetime import datetime

    from fastworker.client.dead import Attempt
    from fastworker.core.records import TaskResult

JobId = Annotated[str, typer.Argument(metavar="ID", help="the job's id", show_default=False)]


@with_settings(*CONNECTION)
def submit(
    resolved: Resolved,
    name: Annotated[str, typer.Argument(metavar="NAME", help="the task", show_default=False)],
    arguments: Annotated[
        str | None,
        typer.Argument(metavar="JSON", help="a list of arguments, or an object by name"),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="wait and print the result")] = False,
    priority: Annotated[
        str, typer.Option(metavar="WORD", help="critical, high, normal, low")
    ] = "normal",
    countdown: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="not before so many seconds")
    ] = None,
    expires: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="not after so many seconds")
    ] = None,
    queue: Annotated[str | None, typer.Option(metavar="NAME", help="the queue")] = None,
    as_json: AsJson = False,
) -> None:
    """Submit a job; print its id or, with --wait, result."""
    args, kwargs = read_arguments(arguments)
    options: dict[str, object] = {"priority": read_priority(priority)}
    if countdown is not None:
        options["countdown"] = countdown
    if expires is not None:
        options["expires"] = expires
    if queue is not None:
        options["queue"] = queue
    check_name("task", name)
    CallOptions(**options)  # type: ignore[arg-type]  # said now: what is wrong needs no connection
    from fastworker.cli.connecting import connected_client

    with connected_client(resolved.settings) as client:
        handle = client.apply(name, args, kwargs, **options)
        if wait:
            raise typer.Exit(_show_result(handle.wait(), as_json))
        show_json({"task_id": handle.id}) if as_json else show(handle.id)


@with_settings(*CONNECTION)
def status(
    resolved: Resolved,
    task_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="a job (default: the control plane)")
    ] = None,
    with_attempts: Annotated[
        bool, typer.Option("--attempts", help="with each attempt: where, when, how")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show how the control plane or a job stands."""
    if task_id is not None:
        id_bytes(task_id)
    elif with_attempts:
        raise InvalidOption("--attempts are those of a job; name its ID")
    from fastworker.cli.connecting import connected_client

    with connected_client(resolved.settings) as client:
        if task_id is None:
            report = client.status()
            show_json(report) if as_json else show_fields(summary(report))
            return
        history = client.attempts(task_id) if with_attempts else None
        found = _known(client.get_task_result(task_id), task_id)
    if as_json:
        record = {one.name: getattr(found, one.name) for one in dataclasses.fields(found)}
        show_json(record if history is None else {**record, "history": history})
        return
    show_fields(_fields(found))
    if history is not None:
        show_attempts(history)


@with_settings(*CONNECTION)
def result(resolved: Resolved, task_id: JobId, as_json: AsJson = False) -> None:
    """Print a result; exit 1 if there is none (yet)."""
    id_bytes(task_id)
    from fastworker.cli.connecting import connected_client

    with connected_client(resolved.settings) as client:
        found = _known(client.get_task_result(task_id), task_id)
    raise typer.Exit(_show_result(found, as_json))


@with_settings(*CONNECTION)
def cancel(
    resolved: Resolved,
    task_id: JobId,
    grace: Annotated[
        float | None, typer.Option(metavar="SECONDS", min=0, help="for running code to clean up")
    ] = None,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="why, for people")] = "",
    as_json: AsJson = False,
) -> None:
    """Cancel a job; exit 1 if it was too late."""
    id_bytes(task_id)
    from fastworker.cli.connecting import connected_client
    from fastworker.client.handles import CancelOutcome

    with connected_client(resolved.settings) as client:
        answer = client.cancel(task_id, reason=reason, grace=grace)
    outcome = answer.outcome
    if as_json:
        show_json({"task_id": task_id, "outcome": outcome, "stack": answer.stack})
    else:
        show(outcome)
        for line in (answer.stack or "").splitlines():
            say(escape_controls(line))
    if outcome is CancelOutcome.UNKNOWN:
        raise typer.Exit(NOT_FOUND)
    raise typer.Exit(OK if outcome is CancelOutcome.CANCELLED else FAILED)


@with_settings(*CONNECTION)
def tasks(resolved: Resolved, as_json: AsJson = False) -> None:
    """List the tasks that connected workers can run."""
    from fastworker.cli.connecting import connected_client

    with connected_client(resolved.settings) as client:
        rows = client.tasks()
    _show_rows(rows, ("name", "signature", "workers"), as_json, "no worker with tasks is connected")


@with_settings(*CONNECTION)
def workers(resolved: Resolved, as_json: AsJson = False) -> None:
    """List the connected workers."""
    from fastworker.cli.connecting import connected_client

    with connected_client(resolved.settings) as client:
        rows = client.workers()
    columns = ("label", "host", "pid", "connected", "running", "queues", "tags", "tasks")
    _show_rows(rows, columns, as_json, "no worker is connected")


def show_attempts(history: Sequence[Attempt]) -> None:
    """Print attempts as a table, under what is said of their job."""
    if not history:
        return say("it has not been handed out yet")
    headers = ("attempt", "worker", "host", "pid", "started", "finished", "outcome", "error")
    rows: list[tuple[object, ...]] = [
        (
            *(number, one.worker, one.host, one.pid),
            *(_time(one.started_at), _time(one.finished_at)),
            *(one.outcome, one.error),
        )
        for number, one in enumerate(history, start=1)
    ]
    show("")
    show_table(headers, rows)


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else f"{moment:%Y-%m-%d %H:%M:%S.%f}"[:-3]


def read_arguments(text: str | None) -> tuple[tuple[object, ...], dict[str, object]]:
    """Return positional and named arguments from the JSON of the command line.

    Raises:
        InvalidOption: it is not JSON, or neither a list nor an object.
    """
    if text is None:
        return (), {}
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidOption(
            f"the arguments are not valid JSON: {error}; for example '[2, 3]' or "
            '\'{"x": 2, "y": 3}\''
        ) from error
    if isinstance(given, list):
        return tuple(given), {}
    if isinstance(given, dict):
        return (), given
    raise InvalidOption(
        f"the arguments are a JSON {_json_kind(given)}; give a list, such as '[{text.strip()}]', "
        "or an object with the names"
    )


def read_priority(word: str) -> TaskPriority:
    """Return the priority of that name, in any case.

    Raises:
        InvalidOption: there is none.
    """
    try:
        return TaskPriority[word.upper()]
    except KeyError:
        words = ", ".join(one.name.lower() for one in reversed(TaskPriority))
        raise InvalidOption(f"--priority expects one of {words}, not {word!a:.60}") from None


def _json_kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    return "text" if isinstance(value, str) else "number"


def _known(found: TaskResult | None, task_id: str) -> TaskResult:
    if found is None:
        raise UnknownJob(f"no job {task_id[:60]!a} is known, or its result is no longer kept")
    return found


def _show_result(found: TaskResult, as_json: bool) -> int:
    if as_json:
        show_json(found)
    elif found.status is TaskStatus.SUCCESS:
        show(json_text(found.result))
    elif not found.status.is_terminal:
        say(f"job {found.task_id} has not ended: {found.status.value}")
    else:
        say(f"job {found.task_id}: {found.status.value}: {found.error or found.reason or ''}")
        if found.traceback:
            for line in found.traceback.splitlines():
                say(escape_controls(line))
    return OK if found.status is TaskStatus.SUCCESS else FAILED


def summary(report: Mapping[str, Any]) -> dict[str, object]:
    """Return the control plane's report in a few lines; ``--json`` has all of it."""
    jobs = report.get("jobs") or {}
    store = report.get("store") or {}
    queues = report.get("queues") or []
    return {
        "version": report.get("version"),
        "addresses": ", ".join(report.get("addresses") or []),
        "store": _store(store),
        "durability": store.get("durability"),
        "jobs": ", ".join(f"{count} {status}" for status, count in jobs.items() if count)
        # Of one tenant only those that have not ended are counted.
        or ("none" if TaskStatus.SUCCESS in jobs or not jobs else "none that wait or run"),
        "queues": ", ".join(map(_queue, queues)) or "empty",
        "tenants": ", ".join(map(_tenant, report.get("tenants") or [])) or None,
        "workers": len(report.get("workers") or []),
        "tasks": ", ".join(one["name"] for one in report.get("tasks") or []) or "none",
    }


def _store(one: Mapping[str, Any]) -> str | None:
    kind = one.get("kind")
    return f"{one['location']} ({kind})" if "location" in one else kind


def _queue(one: Mapping[str, Any]) -> str:
    whose = f" of {one['tenant']}" if "tenant" in one else ""
    return f"{one['queue']} {one['queued']}{whose}" + (" (paused)" if one.get("paused") else "")


def _tenant(one: Mapping[str, Any]) -> str:
    most = one.get("max_queued_jobs")
    return f"{one['tenant']} {one['queued']}" + ("" if most is None else f" of {most}")


def _fields(found: TaskResult) -> dict[str, object]:
    record = {one.name: getattr(found, one.name) for one in dataclasses.fields(found)}
    if found.status is not TaskStatus.SUCCESS:
        del record["result"]
    else:
        record["result"] = json_text(found.result)
    return {name: str(value) if value is not None else None for name, value in record.items()}


def _show_rows(
    rows: Sequence[Mapping[str, object]], columns: Sequence[str], as_json: bool, if_none: str
) -> None:
    if as_json:
        show_json(rows)
    elif not rows:
        say(if_none)
    else:
        show_table(columns, [[row.get(name) for name in columns] for row in rows])
