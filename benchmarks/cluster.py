"""A control plane and a subworker of one interpreter, started as users start them."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Final

HERE: Final = Path(__file__).resolve().parent
START_SECONDS: Final = 60.0
"""For imports and the first connection on a busy machine."""
STOP_SECONDS: Final = 30.0
"""For a drain and the last write to the store; then SIGKILL."""

Metrics = dict[str, list[float]]


class BenchmarkFailed(Exception):
    """A measured process said something unexpected, or a result was wrong."""


class Cluster:
    """One set of processes in ``folder``; leaving the block stops all of them.

    Args:
        python: the interpreter whose fastworker is measured.
        folder: empty; state and logs go there.
        durability: as the control plane's flag.
    """

    def __init__(self, python: str, folder: Path, durability: str) -> None:
        self._python = python
        self._folder = folder
        self._stack = ExitStack()
        self._logs: list[Path] = []
        self._plane: subprocess.Popen[str] | None = None
        base, discovery = (f"tcp://127.0.0.1:{port}" for port in _free_ports(2))
        kept = {name: text for name, text in os.environ.items() if "FASTWORKER" not in name}
        self.environment: dict[str, str] = {
            **kept,
            "FASTWORKER_BASE_ADDRESS": base,
            "FASTWORKER_DISCOVERY_ADDRESS": discovery,
            "FASTWORKER_CONTROL_PLANE_ADDRESS": base,
            "FASTWORKER_TOKEN": f"bench.{secrets.token_hex(24)}",
            "FASTWORKER_STORE": str(folder / "state"),
            "FASTWORKER_TOKENS_FILE": str(folder / "tokens.json"),
            "FASTWORKER_DURABILITY": durability,
            "FASTWORKER_LOCAL_WORKER": "never",
            "FASTWORKER_TASK_MODULES": "load_tasks",
        }
        """What its processes are told."""
        self.pids: dict[str, list[int]] = {}
        self.tokens: dict[str, str] = {}
        """By tenant, those that were created."""

    def __enter__(self) -> Cluster:
        shutil.copy(HERE / "load_tasks.py", self._folder)
        try:
            self._start_plane()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def start_subworker(self, *flags: str) -> None:
        """Start a subworker with one runner and wait until it is connected."""
        pid = self._start("subworker", *flags, until="connected to").pid
        self.pids["subworker"] = [pid]
        self.pids["runner"] = _children(pid)

    def restart_control_plane(self) -> float:
        """Stop it as an operator would; returns the seconds from its next start until it listens.

        Raises:
            BenchmarkFailed: it did not start again.
        """
        assert self._plane is not None
        _stop(self._plane)
        began = time.perf_counter()
        self._start_plane()
        return time.perf_counter() - began

    def _start_plane(self) -> None:
        self._plane = self._start("control-plane", until="listening on")
        self.pids["control plane"] = [self._plane.pid]

    def measure(self, what: str, sizes: Mapping[str, Any]) -> Metrics:
        """Run the client to its end.

        Args:
            what: ``steady``, or ``backlog``: then the subworker is started in between.

        Raises:
            BenchmarkFailed: it did not end with metrics.
        """
        with self.start_client("load.py", what, json.dumps(sizes), json.dumps(self.pids)) as client:
            try:
                return self._follow(client)
            finally:
                client.kill()

    def _follow(self, client: subprocess.Popen[str]) -> Metrics:
        assert client.stdout is not None and client.stdin is not None
        for line in client.stdout:
            said = json.loads(line)
            if "metrics" in said:
                metrics: Metrics = said["metrics"]
                return metrics
            if said["event"] == "submitted":
                self.start_subworker()
                client.stdin.write("started\n")
                client.stdin.flush()
        raise BenchmarkFailed(f"the client ended without metrics:\n{self.logs()}")

    def logs(self) -> str:
        """What all processes wrote, for a failure's message."""
        return "\n".join(f"--- {path.stem}\n{path.read_text()}" for path in self._logs)

    def _log(self, name: str) -> Path:
        path = self._folder / f"{name}.log"
        self._logs.append(path)
        return path

    def create_token(self, tenant: str) -> str:
        """A token that submits for one tenant; makes it before anything is started, too.

        Raises:
            BenchmarkFailed: it was not made.
        """
        command = (self._python, "-m", "fastworker", "token", "create")
        made = subprocess.run(
            [*command, "--role", "submit", "--tenant", tenant],
            cwd=self._folder,
            env=self.environment,
            capture_output=True,
            text=True,
        )
        if made.returncode != 0:
            raise BenchmarkFailed(f"no token for {tenant}:\n{made.stderr}")
        self.tokens[tenant] = made.stdout.strip()
        return self.tokens[tenant]

    def start_client(
        self, program: str, *arguments: str, token: str | None = None
    ) -> subprocess.Popen[str]:
        """A program of this folder, under the interpreter that is measured.

        Args:
            token: in place of the operator's.
        """
        own = {} if token is None else {"FASTWORKER_TOKEN": token}
        with self._log(f"client-{len(self._logs)}").open("wb") as stderr:
            return subprocess.Popen(
                [self._python, str(HERE / program), *arguments],
                cwd=self._folder,
                env=self.environment | own,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )

    def _start(self, what: str, *flags: str, until: str) -> subprocess.Popen[str]:
        log = self._log(f"{what}-{len(self._logs)}")
        process = subprocess.Popen(
            [self._python, "-m", "fastworker", "run", what, *flags],
            cwd=self._folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        output = _Output(process, log, until)
        self._stack.callback(output.close)
        self._stack.callback(_stop, process)
        if not output.wait_ready():
            raise BenchmarkFailed(f"{what} never said {until!r}:\n{self.logs()}")
        return process


class _Output:
    """Copies what a process writes to its log, and knows whether it has said one thing."""

    def __init__(self, process: subprocess.Popen[str], log: Path, until: str) -> None:
        self._said = threading.Event()
        self._found = False
        self._thread = threading.Thread(target=self._copy, args=(process.stderr, log, until))
        self._thread.start()

    def _copy(self, source: IO[str], log: Path, until: str) -> None:
        with source, log.open("w", buffering=1) as file:
            for line in source:
                file.write(line)
                if until in line:
                    self._found = True
                    self._said.set()
        self._said.set()

    def wait_ready(self) -> bool:
        """Wait for the line; False if the process ended without it, or takes too long."""
        self._said.wait(START_SECONDS)
        return self._found

    def close(self) -> None:
        """Wait until all is copied: the process has ended."""
        self._thread.join(STOP_SECONDS)


def _stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _children(pid: int) -> list[int]:
    found: list[int] = []
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        found += map(int, listing.read_text().split())
    return found


def _free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports
