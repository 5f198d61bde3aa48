"""``fastworker store``: info, check, backup, restore and prune. None of them needs a control plane.

They work on the folder of the store itself, so they run where it is.
"""

from __future__ import annotations

import sys
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fastworker.cli.exits import OK
from fastworker.cli.flags import AsJson, with_settings
from fastworker.cli.output import say, show, show_fields, show_json
from fastworker.config import Resolved
from fastworker.errors import InvalidOption, StoreUnusable

if TYPE_CHECKING:
    from fastworker.store.contract import Retention

SECONDS_PER_DAY = 86_400.0

_RETENTION = (
    "keep_results_seconds",
    "keep_results_count",
    "keep_results_bytes",
    "keep_failures_seconds",
)

store = typer.Typer(name="store", help="Look after the store.", no_args_is_help=True)


@store.command("info")
@with_settings("store")
def info(resolved: Resolved, as_json: AsJson = False) -> None:
    """Show what is in the store; also while it is in use."""
    folder = _folder(resolved)
    from fastworker.store.care import survey

    found = survey(folder)
    if as_json:
        show_json(found)
        return
    record = found._asdict()
    record["jobs"] = _counted(found.jobs)
    record["queues"] = _counted(found.queues)
    record["oldest_job"] = _moment(found.oldest_job)
    record["newest_job"] = _moment(found.newest_job)
    show_fields(record)


@store.command("check")
@with_settings("store")
def check(resolved: Resolved, as_json: AsJson = False) -> None:
    """Check the store; exit 65 if it is not sound."""
    folder = _folder(resolved)
    from fastworker.store.care import check as check_store

    report = check_store(folder)
    if as_json:
        show_json(report)
    elif report.problems:
        for problem in report.problems:
            show(problem)
        say(f"{folder} is not sound; restore a backup with: fastworker store restore")
    else:
        show(f"{folder} is sound: format {report.format}, {report.jobs} jobs")
    raise typer.Exit(StoreUnusable.exit_code if report.problems else OK)


@store.command("backup")
@with_settings("store")
def backup(
    resolved: Resolved,
    destination: Annotated[Path, typer.Argument(metavar="FILE", help="the copy to make")],
    force: Annotated[bool, typer.Option("--force", help="replace an older copy")] = False,
) -> None:
    """Copy the store into a file; also while it is in use."""
    folder = _folder(resolved)
    from fastworker.store.backup import back_up

    size = back_up(folder, destination, force=force)
    show(f"{destination}: {size} bytes, verified")


@store.command("restore")
@with_settings("store")
def restore(
    resolved: Resolved,
    source: Annotated[Path, typer.Argument(metavar="FILE", help="a copy made by store backup")],
) -> None:
    """Put a copy in place of the store; needs the control plane to be stopped."""
    folder = _folder(resolved)
    from fastworker.store.backup import restore as restore_store

    old = restore_store(source, folder)
    show(f"{folder} is restored from {source}")
    if old is not None:
        say(f"what was there is now {old}; delete it when it is not missed")


@store.command("prune")
@with_settings("store", *_RETENTION)
def prune(
    resolved: Resolved,
    older_than: Annotated[
        float | None,
        typer.Option(metavar="DAYS", min=0.0, help="outcomes older than this (default: as kept)"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only count")] = False,
    compact: Annotated[
        bool, typer.Option("--vacuum", help="also give the space back to the disk")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Remove old outcomes; needs the control plane to be stopped."""
    folder = _folder(resolved)
    retention = _retention(resolved, older_than)
    from fastworker.store import tidying

    count = tidying.count_outdated if dry_run else tidying.prune_all
    report = count(folder, retention, now=time.time())
    sizes = tidying.vacuum(folder) if compact and not dry_run else None
    if as_json:
        record: dict[str, object] = {"outcomes": report.results, "ids": report.tombstones}
        show_json(record | ({} if sizes is None else {"bytes": sizes[1]}))
        return
    done = "to be removed" if dry_run else "removed"
    show(f"{done}: {report.results} outcomes, {report.tombstones} ids of jobs long ended")
    if sizes is not None:
        show(f"{sizes[0]} bytes before, {sizes[1]} after")


def _folder(resolved: Resolved) -> Path:
    if sys.platform == "win32":
        raise InvalidOption("stores are on Linux or macOS, where the control plane runs")
    return resolved.settings.state_folder(Path.cwd())


def _retention(resolved: Resolved, older_than: float | None) -> Retention:
    from fastworker.store.contract import Retention

    settings = resolved.settings
    results, failures = settings.keep_results_seconds, settings.keep_failures_seconds
    if older_than is not None:
        results = failures = older_than * SECONDS_PER_DAY
    return Retention(
        results_seconds=results,
        results_count=settings.keep_results_count,
        results_bytes=settings.keep_results_bytes,
        failures_seconds=failures,
    )


def _moment(moment: datetime | None) -> str:
    return "none" if moment is None else moment.isoformat()


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "none"
