"""``fastworker logs``: what a job logs and prints."""

from __future__ import annotations

import logging
from typing import Annotated, Any

import typer

from fastworker.cli.flags import CONNECTION, AsJson, with_settings
from fastworker.cli.jobs import JobId
from fastworker.cli.output import show, show_json
from fastworker.config import Resolved
from fastworker.core.ids import id_bytes


@with_settings(*CONNECTION)
def logs(
    resolved: Resolved,
    task_id: JobId,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="go on until the job has ended")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a job has logged and printed."""
    id_bytes(task_id)
    from fastworker.cli.connecting import connected_client

    with connected_client(resolved.settings) as client:
        for line in client.logs(task_id, follow=follow):
            level = level_word(line.level)
            if as_json:
                show_json({"at": line.at, "level": level, "text": line.text}, indent=None)
            else:
                show(_line(line.at, level, line.text))


def level_word(level: int) -> str | None:
    """The name of a level of `logging`; None for what was printed."""
    return logging.getLevelName(level).lower() if level else None


def _line(at: Any, level: str | None, text: str) -> str:
    said = text if level is None else f"{level.upper()} {text}"
    return f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d} {said}"
