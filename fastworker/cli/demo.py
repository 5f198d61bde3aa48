"""``fastworker demo``: a control plane, two subworkers and a client count the words of a folder.

The processes are those of the real commands, on free ports, with a token and a state folder of
their own; all of it is gone when the demo ends, however it ends.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from fastworker.cli.demo_report import Tally, show_report, shown_progress
from fastworker.cli.demo_tasks import count_words
from fastworker.cli.exits import OK
from fastworker.cli.output import show
from fastworker.client.calls import call
from fastworker.client.client import Client
from fastworker.client.handles import TaskHandle
from fastworker.config import environment
from fastworker.errors import InvalidOption, PeerError
from fastworker.logs import configure_logging

SUBWORKERS: Final = 2
THREADS: Final = 4
"""Of each subworker: the task waits for the disk a little and computes a lot."""
CONNECT_SECONDS: Final = 30.0
"""For a first start on a slow disk; it is a second otherwise."""
STOP_SECONDS: Final = 10.0
"""A process that has not stopped by then is killed."""
PENDING_JOBS: Final = 5_000
"""Jobs on their way at once: bounds the memory of a folder of any size."""

_NOT_LIBRARY: Final = frozenset({"site-packages", "dist-packages", "__pycache__"})
"""Folders inside that of the standard library that are not it."""


def run_demo(folder: Path | None) -> int:
    """Count the words of every file of ``folder`` and return the exit code.

    A signal that means to stop does so, cleans up, and is 128 more as the exit code.

    Args:
        folder: None: that of Python's standard library.

    Raises:
        InvalidOption: it is no folder, cannot be read, or has no files.
        PeerError: one of the processes ended by itself.
    """
    if sys.platform == "win32":
        raise InvalidOption("the demo starts a control plane, which needs Linux or macOS")
    configure_logging("error")  # the client's first tries find nobody yet, and would say so
    if folder is None:
        chosen, skipped = Path(sysconfig.get_path("stdlib")), _NOT_LIBRARY
    else:
        chosen, skipped = Path(os.path.abspath(folder)), frozenset()
    found = find_files(chosen, skipped)
    show(f"{len(found.files):,} files in {chosen!s}")
    if found.unreadable_folders:
        show(f"{found.unreadable_folders:,} folders in it cannot be read and are left out")
    tally = Tally(len(found.files))
    ending = trio.run(_run, found.files, tally)
    if ending.signal is not None:
        return 128 + ending.signal
    show_report(chosen, tally, seconds=ending.seconds)
    return OK


@dataclass(frozen=True, slots=True)
class Found:
    """The files of a folder, and how many folders in it could not be read."""

    files: list[bytes]
    unreadable_folders: int


def find_files(folder: Path, skipped: frozenset[str]) -> Found:
    """List the files of a folder and of all folders in it; links to folders are not followed.

    Args:
        folder: an absolute path.
        skipped: names of folders to leave out.

    Raises:
        InvalidOption: it is no folder, cannot be read, or has no files.
    """
    try:
        os.listdir(folder)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InvalidOption(f"cannot read the folder {str(folder)!a}: {reason}") from error
    errors: list[OSError] = []
    files: list[bytes] = []
    leave_out = {os.fsencode(name) for name in skipped}
    for where, folders, names in os.walk(os.fsencode(folder), onerror=errors.append):
        folders[:] = sorted(name for name in folders if name not in leave_out)
        paths = (os.path.join(where, name) for name in sorted(names))
        files += [path for path in paths if os.path.isfile(path)]  # a pipe would never end
    if not files:
        raise InvalidOption(f"the folder {str(folder)!a} has no files to count words in")
    return Found(files, len(errors))


@dataclass(slots=True)
class _Ending:
    """The seconds that counting took, and the signal that ended it before its end, if one did."""

    seconds: float = 0.0
    signal: int | None = None


async def _run(files: Sequence[bytes], tally: Tally) -> _Ending:
    """Start everything, count, stop everything."""
    ending = _Ending()
    # As signals and not as KeyboardInterrupt: stopping everything is not to be interrupted.
    with trio.open_signal_receiver(*_stop_signals()) as signals, _scratch_folder() as scratch:
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as work:
                nursery.start_soon(_cancel_at, signals, work, ending)
                async with _cluster(scratch) as client:
                    began = time.perf_counter()
                    with shown_progress(len(files)) as advance:
                        await _count(client, files, tally, advance)
                    ending.seconds = time.perf_counter() - began
            nursery.cancel_scope.cancel()
    return ending


def _stop_signals() -> list[signal.Signals]:
    """Those that were not ignored when this began: by ``nohup``, or in a shell's background."""
    wanted = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    ignored = {one for one in wanted if signal.getsignal(one) is signal.SIG_IGN}
    return [one for one in wanted if one is signal.SIGTERM or one not in ignored]


async def _cancel_at(signals: AsyncIterator[int], work: trio.CancelScope, ending: _Ending) -> None:
    """The first signal ends the work; further ones find it ending already."""
    async for number in signals:
        if ending.signal is None:
            ending.signal = number
        work.cancel()


async def _count(
    client: Client, files: Sequence[bytes], tally: Tally, advance: Callable[[Tally], None]
) -> None:
    pending: deque[tuple[bytes, TaskHandle[object]]] = deque()

    async def take_first() -> None:
        path, handle = pending.popleft()
        tally.add(path, await handle.wait())
        advance(tally)

    numbered = iter(files)
    async for handle in client.submit_stream(call(count_words, path) for path in files):
        pending.append((next(numbered), handle))
        while pending and (len(pending) > PENDING_JOBS or pending[0][1].done):
            await take_first()
    while pending:
        await take_first()


@contextmanager
def _scratch_folder() -> Iterator[Path]:
    """A folder for state and logs, removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="fastworker-demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def _cluster(scratch: Path) -> AsyncIterator[Client]:
    """A connected client, with its control plane and subworkers for the length of the block."""
    base, discovery = (f"tcp://127.0.0.1:{port}" for port in _free_ports(2))
    token = f"demo.{secrets.token_hex(24)}"
    # Settings of the user's are not for the demo's processes; the folder has no settings file.
    kept = {
        name: text for name, text in environment().items() if not name.startswith("FASTWORKER_")
    }
    site = _Site(scratch, {**kept, "FASTWORKER_TOKEN": token})
    listen = ("--base-address", base, "--discovery-address", discovery)
    plane = ("control-plane", *listen, "--store", "state", "--local-worker", "never")
    subworker = ("subworker", "--control-plane-address", base, "--threads", str(THREADS))
    async with _running("control plane", plane, site), trio.open_nursery() as nursery:
        for number in range(1, SUBWORKERS + 1):
            label = f"subworker-{number}"
            nursery.start_soon(_run_process, label, (*subworker, "--worker-id", label), site)
        async with Client(control_plane_address=base, token=token) as client:
            await client.wait_connected(CONNECT_SECONDS)
            show(f"A control plane on {base} and {SUBWORKERS} subworkers; every job is on disk")
            yield client
        nursery.cancel_scope.cancel()


@dataclass(frozen=True, slots=True)
class _Site:
    """Where the processes run, and with what environment."""

    folder: Path
    environment: dict[str, str]


@asynccontextmanager
async def _running(name: str, arguments: Sequence[str], site: _Site) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_run_process, name, arguments, site)
        yield
        nursery.cancel_scope.cancel()


async def _run_process(name: str, arguments: Sequence[str], site: _Site) -> None:
    """Run ``fastworker run <arguments>`` until cancelled.

    Raises:
        PeerError: it ended by itself; the message has the last line that it wrote.
    """
    log = site.folder / f"{name}.log"
    module = count_words.definition.module
    with log.open("wb") as output:
        ended = await trio.run_process(
            [sys.executable, "-m", "fastworker", "run", *arguments, "--task-modules", module],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
            deliver_cancel=_stop,
            cwd=site.folder,
            env=site.environment,
            start_new_session=True,  # Ctrl-C is for the demo, which stops them in order
        )
    lines = log.read_text("utf-8", "replace").splitlines()
    said = lines[-1] if lines else "it said nothing"
    raise PeerError(f"the demo's {name} ended with exit code {ended.returncode}: {said}")


async def _stop(process: trio.Process) -> None:
    """SIGTERM, and SIGKILL once patience has ended; trio waits for the end itself."""
    with suppress(OSError):  # it ended by itself just now
        process.terminate()
        await trio.sleep(STOP_SECONDS)
        process.kill()


def _free_ports(count: int) -> list[int]:
    """TCP ports of the loopback that nobody listens on just now."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports
