"""``python -m fastworker.runner``: started by a subworker, with its two ends of socketpairs."""

from __future__ import annotations

import argparse
import faulthandler
import logging
import mmap
import os
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType

from fastworker.errors import FastWorkerError
from fastworker.logs import configure_logging
from fastworker.runner.board import Board
from fastworker.runner.channel import Channel, framed
from fastworker.runner.collecting import start_collecting
from fastworker.runner.failures import failure_from
from fastworker.runner.watchdog import Watchdog
from fastworker.runner.wiring import RunnerLimits, run_service
from fastworker.tasks import Runtime, load_task_modules, registry
from fastworker.wire.codec import encode
from fastworker.wire.messages import RunnerFailed

WHOLE = 0
"""As long as the file is."""

EXIT_USAGE = 2
"""The task modules do not load, or a lifespan hook fails: a mistake in settings or modules."""

_log = logging.getLogger("fastworker.runner")


@dataclass(frozen=True, slots=True)
class RunnerArguments:
    """The command line of a runner, which only subworkers write."""

    data: int
    control: int
    board: int | None
    task_modules: tuple[str, ...]
    tags: frozenset[str]
    runtime: Runtime
    limits: RunnerLimits
    label: str
    log_level: str
    log_format: str
    collect_logs: bool


def parse_arguments(arguments: Sequence[str]) -> RunnerArguments:
    """Read the command line; exits with 2 and a sentence if it does not fit."""
    parser = argparse.ArgumentParser(
        prog="python -m fastworker.runner",
        description="Runs the jobs of one subworker. Subworkers start it; it is of no other use.",
    )
    parser.add_argument("--data-fd", type=int, required=True)
    parser.add_argument("--control-fd", type=int, required=True)
    parser.add_argument("--board-fd", type=int)
    parser.add_argument("--task-modules", default="")
    parser.add_argument("--tags", default="")
    parser.add_argument("--async-runtime", choices=("asyncio", "trio"), default="asyncio")
    parser.add_argument("--concurrency", type=int, default=100)
    parser.add_argument("--threads", type=int, default=32)
    parser.add_argument("--label", default="runner")
    parser.add_argument("--log-level", default="info")
    parser.add_argument("--log-format", choices=("text", "json"), default="text")
    parser.add_argument("--no-collect-logs", action="store_true")
    given = parser.parse_args(arguments)
    return RunnerArguments(
        data=given.data_fd,
        control=given.control_fd,
        board=given.board_fd,
        task_modules=tuple(name for name in given.task_modules.split(",") if name),
        tags=frozenset(tag for tag in given.tags.split(",") if tag),
        runtime="trio" if given.async_runtime == "trio" else "asyncio",
        limits=RunnerLimits(concurrency=given.concurrency, threads=given.threads),
        label=given.label,
        log_level=given.log_level,
        log_format=given.log_format,
        collect_logs=not given.no_collect_logs,
    )


def main(arguments: Sequence[str]) -> int:
    """Run until the subworker says stop; returns the exit code."""
    given = parse_arguments(arguments)
    configure_logging(given.log_level, given.log_format)
    data = socket.socket(fileno=given.data)
    control = socket.socket(fileno=given.control)
    for sock in (data, control):
        sock.set_inheritable(False)
    # First of all: importing user modules may take for ever.
    watchdog = Watchdog(control)
    watchdog.start()
    _leave_signals_to_the_parent(data, control)
    _log.debug("runner %s starts", given.label)
    failure = _load(given.task_modules)
    if failure is not None:
        return _fail(data, failure)
    if given.collect_logs:
        start_collecting()
    failure = run_service(
        Channel(data),
        list(registry),
        tags=given.tags,
        default_runtime=given.runtime,
        limits=given.limits,
        pid=os.getpid(),
        board=_open_board(given.board),
        watchdog=watchdog,
    )
    return 0 if failure is None else _fail(data, failure)


def _fail(data: socket.socket, failure: str) -> int:
    data.setblocking(True)
    data.sendall(framed(encode([RunnerFailed(message=failure)])))
    return EXIT_USAGE


def _open_board(descriptor: int | None) -> Board:
    """The memory shared with the subworker; nothing but a place for all jobs if there is none."""
    if descriptor is None:
        return Board([0])
    try:
        memory = memoryview(mmap.mmap(descriptor, WHOLE))
    finally:
        os.close(descriptor)
    half = len(memory) // 2
    return Board(memory[:half].cast("Q"), memory[half:].cast("d"))


def _load(task_modules: Sequence[str]) -> str | None:
    """Import the task modules; a sentence if that fails."""
    try:
        load_task_modules(task_modules)
    except FastWorkerError as error:
        return str(error)
    except BaseException as error:  # importing runs user code, which may even exit
        _log.exception("a task module cannot be imported")
        failure = failure_from(error)
        return f"a task module cannot be imported: {failure.type_name}: {failure.message}"
    return None


def _leave_signals_to_the_parent(*sockets: socket.socket) -> None:
    """Ctrl-C and SIGTERM are for the subworker, which stops its runners in order.

    They are caught and dropped, not ignored: what tasks start would inherit that.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _drop)
    if sys.stderr is not None:
        faulthandler.register(signal.SIGUSR1, all_threads=True)

    def after_fork() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for sock in sockets:
            sock.close()

    os.register_at_fork(after_in_child=after_fork)


def _drop(number: int, frame: FrameType | None) -> None:
    pass


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
