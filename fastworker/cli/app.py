"""The tree of commands. Each command lives in the module named after what it is about."""

from __future__ import annotations

from typing import Annotated

import typer

from fastworker.cli import callbacks as callback_commands
from fastworker.cli import dead as dead_letters
from fastworker.cli import jobs, running, servers, settings, store, tokens
from fastworker.cli import logs as job_logs
from fastworker.cli import queues as queue_commands
from fastworker.cli import tenants as tenant_commands
from fastworker.cli.flags import AsJson

app = typer.Typer(
    name="fastworker",
    help="A durable task queue for Python that needs no broker.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
run = typer.Typer(
    name="run", help="Run a control plane, a subworker, or both.", no_args_is_help=True
)
config = typer.Typer(name="config", help="Show the settings in force.", no_args_is_help=True)

dead = typer.Typer(
    name="dead", help="Jobs that failed for good: see, replay, discard.", no_args_is_help=True
)
queues = typer.Typer(name="queues", help="See, pause and resume queues.", no_args_is_help=True)

app.add_typer(run)
run.command("control-plane")(servers.control_plane)
run.command("subworker")(servers.subworker)
run.command("dev")(servers.dev)
app.command("control-plane")(servers.control_plane)
app.command("subworker")(servers.subworker)
app.command("submit")(jobs.submit)
app.command("status")(jobs.status)
app.command("result")(jobs.result)
app.command("logs")(job_logs.logs)
app.command("cancel")(jobs.cancel)
app.command("stack")(running.stack)
app.command("tree")(running.tree)
app.command("callbacks")(callback_commands.list_callbacks)
app.command("tasks")(jobs.tasks)
app.command("workers")(jobs.workers)
app.command("tenants")(tenant_commands.tenants)
app.add_typer(dead)
dead.command("list")(dead_letters.list_dead)
dead.command("show")(dead_letters.show_dead)
dead.command("replay")(dead_letters.replay_dead)
dead.command("discard")(dead_letters.discard_dead)
app.add_typer(queues)
queues.command("list")(queue_commands.list_queues)
queues.command("pause")(queue_commands.pause)
queues.command("resume")(queue_commands.resume)
app.add_typer(config)
config.command("show")(settings.show_settings)
app.add_typer(store.store)
app.add_typer(tokens.token)


@app.command("demo")
def demo(
    folder: Annotated[
        str | None, typer.Argument(metavar="FOLDER", help="folder with files to count words in")
    ] = None,
) -> None:
    """See it work: count the words of a folder of files."""
    from pathlib import Path

    from fastworker.cli.demo import run_demo

    raise typer.Exit(run_demo(None if folder is None else Path(folder)))


@app.command("version")
def version(as_json: AsJson = False) -> None:
    """Print the version."""
    from fastworker.cli.about import show_version

    raise typer.Exit(show_version(as_json=as_json))
