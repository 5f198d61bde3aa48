"""``fastworker run control-plane``, ``run subworker`` and ``run dev``."""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from fastworker.cli.flags import TLS, with_settings
from fastworker.cli.output import say
from fastworker.config import Resolved
from fastworker.errors import InvalidOption

_RUNNER = (
    *("task_modules", "concurrency", "threads", "processes", "async_runtime", "drain_seconds"),
    *("task_processes", "max_jobs_per_runner", "max_runner_memory", "tags", "reload"),
)
_LOGS = ("log_level", "log_format", "collect_logs")
_LISTEN = ("base_address", "discovery_address", "advertise")
_LIMITS = (
    "keep_results_seconds",
    "keep_results_count",
    "keep_results_bytes",
    "keep_failures_seconds",
    "max_queued_jobs",
    "max_queued_bytes",
    "tenants",
    "max_connections",
    "max_connections_per_address",
)
_SAFETY = ("callback_allow", "token_file", "tokens_file", *TLS, "insecure")


@with_settings(
    *_LISTEN, "store", "durability", *_LIMITS, "local_worker", *_RUNNER, *_SAFETY, *_LOGS
)
def control_plane(resolved: Resolved) -> None:
    """Run a control plane, which takes and keeps jobs."""
    _refuse_windows("a control plane")
    raise typer.Exit(_start_control_plane(resolved))


@with_settings(
    "worker_id",
    "control_plane_address",
    "discovery_address",
    "base_address",
    "queues",
    *_RUNNER,
    "token_file",
    *TLS,
    "insecure",
    *_LOGS,
)
def subworker(resolved: Resolved) -> None:
    """Run a subworker, which runs the jobs."""
    _refuse_windows("a subworker")
    from fastworker.cli.first_process import serve_as_first_process
    from fastworker.cli.starting import start_subworker

    raise typer.Exit(serve_as_first_process(lambda: start_subworker(resolved.settings)))


@with_settings(*_LISTEN, *_RUNNER, *_SAFETY, *_LOGS)
def dev(
    resolved: Resolved,
    modules: Annotated[
        list[str] | None, typer.Argument(metavar="MODULES", help="modules with tasks")
    ] = None,
) -> None:
    """Run both at once, and forget all at the end."""
    _refuse_windows("a control plane")
    settings = resolved.settings
    if modules:
        from fastworker.config import resolve

        settings = dataclasses.replace(
            settings, task_modules=resolve({"task_modules": modules}).settings.task_modules
        )
    with tempfile.TemporaryDirectory(prefix="fastworker-dev-") as folder:
        settings = dataclasses.replace(settings, store=Path(folder), local_worker="always")
        say("fastworker: jobs and results are forgotten when this ends")
        code = _start_control_plane(dataclasses.replace(resolved, settings=settings))
    raise typer.Exit(code)


def _start_control_plane(resolved: Resolved) -> int:
    from fastworker.cli.first_process import serve_as_first_process
    from fastworker.cli.starting import start_control_plane

    return serve_as_first_process(lambda: start_control_plane(resolved.settings))


def _refuse_windows(what: str) -> None:
    if sys.platform == "win32":
        raise InvalidOption(
            f"{what} needs Linux or macOS; on Windows only clients work, and the control plane "
            "can run in WSL or a container"
        )
