"""``dead list``, ``show``, ``replay`` and ``discard``: jobs that failed for good."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from fastworker.cli.flags import CONNECTION, AsJson, with_settings
from fastworker.cli.jobs import JobId, read_arguments, show_attempts
from fastworker.cli.output import json_text, say, show, show_fields, show_json, show_table
from fastworker.config import Resolved
from fastworker.core.ids import id_bytes
from fastworker.core.names import check_name
from fastworker.core.records import DEFAULT_TENANT
from fastworker.errors import InvalidOption

if TYPE_CHECKING:
    from fastworker.client.dead import DeadLetter, DeadLetterDetails

Task = Annotated[str | None, typer.Option(metavar="NAME", help="only of this task")]
Error = Annotated[
    str | None, typer.Option(metavar="TYPE", help="only of this error type, or reason")
]
OlderThan = Annotated[
    str | None, typer.Option(metavar="AGE", help="only ended so long ago: 90s, 30m, 2h, 7d")
]
NewerThan = Annotated[
    str | None, typer.Option(metavar="AGE", help="only ended less than so long ago")
]
TenantName = Annotated[
    str | None, typer.Option("--tenant", metavar="NAME", help="only of this tenant")
]
Ids = Annotated[list[str] | None, typer.Argument(metavar="ID", help="jobs, if not by filter")]
Limit = Annotated[int | None, typer.Option(metavar="NUMBER", help="at most so many", min=1)]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="really do it to all that fit")]
All = Annotated[bool, typer.Option("--all", help="really do it to all, without a filter too")]

_AGE: Final = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)([smhd]?)\Z", re.ASCII)
_UNIT_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_PAGE: Final = 500
_COLUMNS: Final = ("task_id", "task", "queue", "status", "ended_at", "error", "message")


@with_settings(*CONNECTION)
def list_dead(
    resolved: Resolved,
    task: Task = None,
    error: Error = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    tenant: TenantName = None,
    limit: Annotated[int, typer.Option(metavar="NUMBER", help="at most so many", min=1)] = 100,
    as_json: AsJson = False,
) -> None:
    """List dead letters, newest first."""
    criteria = read_filter(task, error, older_than, newer_than, tenant)
    from fastworker.cli.connecting import connected_client

    found: list[DeadLetter] = []
    with connected_client(resolved.settings) as client:
        while len(found) < limit:
            asked = min(_PAGE, limit - len(found))
            before = found[-1].cursor if found else None
            page = client.dead(**criteria, limit=asked, before=before)
            found += page
            if len(page) < asked:
                break
    if as_json:
        show_json(found)
    elif not found:
        say("no dead letters")
    else:
        several = any(letter.tenant != DEFAULT_TENANT for letter in found)
        columns = ("tenant", *_COLUMNS) if several else _COLUMNS
        show_table(columns, [_row(letter, columns) for letter in found])


@with_settings(*CONNECTION)
def show_dead(resolved: Resolved, task_id: JobId, as_json: AsJson = False) -> None:
    """Show one: arguments, traceback, attempts."""
    id_bytes(task_id)
    from fastworker.cli.connecting import connected_client

    with connected_client(resolved.settings) as client:
        letter = client.dead_letter(task_id)
    if as_json:
        show_json(letter)
        return
    show_fields(_fields(letter))
    show_attempts(letter.history)


@with_settings(*CONNECTION)
def replay_dead(
    resolved: Resolved,
    ids: Ids = None,
    arguments: Annotated[
        str | None,
        typer.Option("--args", metavar="JSON", help="other arguments, for one ID"),
    ] = None,
    task: Task = None,
    error: Error = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    tenant: TenantName = None,
    limit: Limit = None,
    yes: Yes = False,
    everything: All = False,
    as_json: AsJson = False,
) -> None:
    """Run again, as new jobs; print their ids or number."""
    criteria = read_filter(task, error, older_than, newer_than, tenant)
    check_choice("replay", ids or [], criteria, limit, yes=yes, everything=everything)
    if arguments is not None and len(ids or []) != 1:
        raise InvalidOption("--args is for one job; name its ID")
    edited = () if arguments is None else read_arguments(arguments)
    from fastworker.cli.connecting import connected_client

    with connected_client(resolved.settings) as client:
        if not ids:
            count = client.replay_dead(**criteria, limit=limit)
            show_json({"replayed": count}) if as_json else show(f"{count} replayed")
            return
        for task_id in ids:
            new = client.replay(task_id, *edited).id
            show_json({"task_id": new, "replay_of": task_id}) if as_json else show(new)


@with_settings(*CONNECTION)
def discard_dead(
    resolved: Resolved,
    ids: Ids = None,
    task: Task = None,
    error: Error = None,
    older_than: OlderThan = None,
    newer_than: NewerThan = None,
    tenant: TenantName = None,
    limit: Limit = None,
    yes: Yes = False,
    everything: All = False,
    as_json: AsJson = False,
) -> None:
    """Forget them and their arguments."""
    criteria = read_filter(task, error, older_than, newer_than, tenant)
    check_choice("discard", ids or [], criteria, limit, yes=yes, everything=everything)
    from fastworker.cli.connecting import connected_client

    with connected_client(resolved.settings) as client:
        for task_id in ids or ():
            client.discard(task_id)
        count = len(ids) if ids else client.discard_dead(**criteria, limit=limit)
    show_json({"discarded": count}) if as_json else show(f"{count} discarded")


def read_filter(
    task: str | None,
    error: str | None,
    older_than: str | None,
    newer_than: str | None,
    tenant: str | None = None,
) -> dict[str, Any]:
    """The flags of a filter as the client takes them; those not given are left out.

    Raises:
        InvalidOption: an age that is none.
        InvalidName: no task, or no tenant, can be called that.
    """
    given = {
        "task": None if task is None else check_name("task", task),
        "error": error,
        "older_than": read_age("--older-than", older_than),
        "newer_than": read_age("--newer-than", newer_than),
        "tenant": None if tenant is None else check_name("tenant", tenant),
    }
    return {name: value for name, value in given.items() if value is not None}


def read_age(flag: str, text: str | None) -> float | None:
    """A length of time in seconds from ``90``, ``90s``, ``30m``, ``2h`` or ``7d``.

    Raises:
        InvalidOption: it is something else.
    """
    if text is None:
        return None
    found = _AGE.match(text.strip())
    if found is None:
        raise InvalidOption(f"{flag} expects a length of time, such as 30m, 2h or 7d, not {text!a}")
    return float(found[1]) * _UNIT_SECONDS[found[2]]


def check_choice(
    what: str,
    ids: Sequence[str],
    criteria: dict[str, Any],
    limit: int | None,
    *,
    yes: bool,
    everything: bool,
) -> None:
    """Refuse what is neither single jobs nor a bulk change that is really meant.

    Raises:
        InvalidOption: with what to add.
    """
    for task_id in ids:
        id_bytes(task_id)
    if ids and (criteria or limit is not None or everything):
        raise InvalidOption(f"{what} takes either IDs or a filter, not both")
    if ids or everything:
        return
    if not criteria:
        raise InvalidOption(f"{what} what? Give IDs, a filter such as --task NAME, or --all")
    if not yes:
        raise InvalidOption(
            f"this would {what} every dead letter that fits (see `fastworker dead list` with the "
            "same filter); add --yes to do it"
        )


def _row(letter: DeadLetter, columns: Sequence[str]) -> list[object]:
    values = {one.name: getattr(letter, one.name) for one in dataclasses.fields(letter)}
    values["error"] = letter.reason or letter.error
    values["ended_at"] = f"{letter.ended_at:%Y-%m-%d %H:%M:%SZ}"
    return [values[name] for name in columns]


def _fields(letter: DeadLetterDetails) -> dict[str, object]:
    kept = letter.args is not None
    return {
        "task_id": letter.task_id,
        "task": letter.task,
        **({"tenant": letter.tenant} if letter.tenant != DEFAULT_TENANT else {}),
        "queue": letter.queue,
        "priority": letter.priority.name.lower(),
        "status": letter.status.value,
        "reason": letter.reason,
        "error": f"{letter.error}: {letter.message}",
        "attempts": str(letter.attempts),
        "submitted_at": str(letter.submitted_at),
        "ended_at": str(letter.ended_at),
        "replay_of": letter.replay_of,
        "replayed_by": letter.replayed_by,
        "args": json_text(letter.args) if kept else "not kept, or damaged",
        "kwargs": json_text(letter.kwargs) if letter.kwargs else None,
        "traceback": letter.traceback or None,
    }
