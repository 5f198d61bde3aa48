"""A cluster of real processes: control plane and subworkers as users start them, on free ports.

Everything is told by flags, token and tasks are files in the test's folder, and readiness is what
the processes themselves say: a line in the log, or `/readyz`.
"""

from __future__ import annotations

import http.client
import os
import secrets
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.process import WAIT_SECONDS, Member

ROOT = Path(__file__).parent.parent.parent
COMMAND = (sys.executable, "-m", "fastworker")
"""The console script, without depending on where it was installed."""

SUBWORKER_READY = r"\bconnected to\b"
RECHECK_SECONDS = 0.2
"""Readiness is looked at after every line of the log, and this long after a quiet one."""

TASKS = '''\
"""Tasks for tests with real processes."""
import os
import time

from fastworker import task


@task
def add(x: int, y: int) -> int:
    return x + y


@task
def fail(message: str) -> None:
    raise ValueError(message)


@task
def record(path: str, line: str, seconds: float = 0.0) -> int:
    """The effect ledger: one appended line for each execution."""
    with open(path, "a") as ledger:
        ledger.write(line + "\\n")
    time.sleep(seconds)
    return os.getpid()


@task
async def add_async(x: int, y: int) -> int:
    return x + y
'''


def _ports() -> Iterator[int]:
    """Ports below those that systems give to outgoing connections, each process its own."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first, count = 12_000 + 2_000 * (worker % 8), 2_000
    offset = os.getpid() * 7 % count
    while True:
        for number in range(count):
            yield first + (offset + number) % count


_PORTS = _ports()


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on just now."""
    for port in _PORTS:
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


def is_ready(port: int) -> bool:
    """Whether ``/readyz`` answers 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


class Cluster:
    """Starts members, restarts and kills them; leaving the block ends all of them.

    Args:
        folder: where store, token, tasks and everything else is.
        tasks: source of the task module.
        module: its name.
    """

    def __init__(self, folder: Path, *, tasks: str = TASKS, module: str = "cluster_tasks") -> None:
        self.folder = folder
        self.module = module
        self.port, self.discovery_port = free_port(), free_port()
        self.token = f"test.{secrets.token_hex(24)}"
        self.token_file = folder / "token"
        self.token_file.write_text(self.token)
        self.token_file.chmod(0o600)
        (folder / f"{module}.py").write_text(tasks)
        self.members: list[Member] = []
        self.expected_tracebacks = False
        """Set by a test that makes a process fail with one."""

    @property
    def address(self) -> str:
        """Where clients connect."""
        return f"tcp://127.0.0.1:{self.port}"

    @property
    def discovery_address(self) -> str:
        return f"tcp://127.0.0.1:{self.discovery_port}"

    def environment(self) -> dict[str, str]:
        """What the processes get: nothing of fastworker's, and the checkout to import from."""
        kept = {name: value for name, value in os.environ.items() if "FASTWORKER" not in name}
        return {**kept, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}

    def client_environment(self) -> dict[str, str]:
        """What an application gets, so that ``Client()`` without arguments finds this cluster."""
        return {
            **self.environment(),
            "FASTWORKER_CONTROL_PLANE_ADDRESS": self.address,
            "FASTWORKER_TOKEN": self.token,
        }

    def start(self, name: str, *arguments: str, extra: Mapping[str, str] | None = None) -> Member:
        """Start ``fastworker <arguments>``; does not wait for anything."""
        environment = {**self.environment(), **(extra or {})}
        member = Member(name, (*COMMAND, *arguments), environment=environment, folder=self.folder)
        self.members.append(member)
        return member

    def control_plane(self, *flags: str, ready: bool = True) -> Member:
        """Start a control plane on this cluster's ports and store, and wait until it is ready.

        Call it again, after the first has ended, for a restart on the same store.
        """
        # The local worker stays off unless a test asks: it would hide a lost subworker.
        defaults = ("--local-worker", "never") if "--local-worker" not in flags else ()
        member = self.start(
            "control-plane",
            "run",
            "control-plane",
            *("--base-address", self.address),
            *("--discovery-address", self.discovery_address),
            *("--store", str(self.folder / "store")),
            *("--token-file", str(self.token_file)),
            *("--task-modules", self.module),
            *defaults,
            *flags,
        )
        if ready:
            self.wait_ready(member)
        return member

    def subworker(self, worker_id: str, *flags: str, ready: bool = True) -> Member:
        """Start a subworker and wait until it has registered."""
        member = self.start(
            worker_id,
            "run",
            "subworker",
            *("--worker-id", worker_id),
            *("--control-plane-address", self.address),
            *("--token-file", str(self.token_file)),
            *("--task-modules", self.module),
            *flags,
        )
        if ready:
            member.wait_line(SUBWORKER_READY)
        return member

    def wait_ready(self, member: Member, *, seconds: float = WAIT_SECONDS) -> None:
        """Wait until the control plane serves, looking again at every line it writes.

        Raises:
            AssertionError: it ended, or is not ready in time; the message shows the log.
        """
        deadline = time.monotonic() + seconds
        seen = 0
        while not is_ready(self.port):
            if not member.running or time.monotonic() > deadline:
                raise AssertionError(f"{member.name} did not become ready:\n{member.log}")
            seen = member.wait_change(seen, seconds=RECHECK_SECONDS)

    def logs(self) -> str:
        """Everything all members have written, for a failure's message."""
        return "\n".join(f"--- {member.name}\n{member.log}" for member in self.members)

    def close(self) -> None:
        """End every member, the newest first. A second call does nothing."""
        for member in reversed(self.members):
            member.close()

    def check_logs(self) -> None:
        """No member may have shown a traceback, whatever happened to its peers."""
        if not self.expected_tracebacks:
            assert "Traceback" not in self.logs(), self.logs()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
        if error is None:
            self.check_logs()
        else:
            error.add_note(self.logs())
