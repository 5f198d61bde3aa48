"""One job's way with real processes: a control plane, a subworker, and answers pushed back.

Starts `fastworker run control-plane` and `fastworker run subworker` on free ports, submits jobs
from asyncio, prints their results, and stops everything. Needs nothing but fastworker installed:

    python examples/end_to_end.py
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from fastworker import Client, TaskError, TaskPriority

CONNECT_SECONDS = 30.0
STOP_SECONDS = 30.0
MANY_JOBS = 1_000

TASKS = """\
import os

from fastworker import task


@task
def add(x: int, y: int) -> int:
    return x + y


@task
async def greet(name: str) -> str:
    return f"hello {name} from process {os.getpid()}"


@task
def divide(x: int, y: int) -> float:
    return x / y
"""


def free_port() -> int:
    """A TCP port of the loopback that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextlib.contextmanager
def running(folder: Path, *arguments: str, environment: dict[str, str]) -> Iterator[None]:
    """``fastworker run <arguments>`` for the length of the block, then SIGTERM."""
    command = [sys.executable, "-m", "fastworker", "run", *arguments]
    command += ["--task-modules", "demo_tasks"]
    process = subprocess.Popen(command, cwd=folder, env=environment)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()


async def submit_jobs(client: Client) -> None:
    """What an application does."""
    await client.wait_connected(CONNECT_SECONDS)

    task_id = await client.delay("add", 2, 3)
    print(f"add(2, 3) = {await client.result(task_id)}  (job {task_id})")

    urgent = await client.delay("greet", "world", priority=TaskPriority.CRITICAL)
    print(await client.result(urgent))

    failing = await client.submit("divide", 1, 0)
    try:
        await failing.result()
    except (ZeroDivisionError, TaskError) as error:
        print(f"divide(1, 0) raised {type(error).__name__}: {error}")

    began = time.perf_counter()
    handles = await asyncio.gather(*(client.submit("add", n, n) for n in range(MANY_JOBS)))
    results = await asyncio.gather(*(handle.result() for handle in handles))
    seconds = time.perf_counter() - began
    assert results == [2 * n for n in range(MANY_JOBS)]
    print(f"{MANY_JOBS} more jobs in {seconds:.2f} s, every result checked")


async def use(address: str, token: str) -> None:
    async with Client(control_plane_address=address, token=token) as client:
        await submit_jobs(client)


def main() -> None:
    """Start, submit, stop; a wrong result is an exception."""
    # The client dials while the control plane is still starting, and would say so.
    logging.getLogger("fastworker.client").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="fastworker-") as name:
        folder = Path(name)
        (folder / "demo_tasks.py").write_text(TASKS, encoding="utf-8")
        address = f"tcp://127.0.0.1:{free_port()}"
        token = f"demo.{secrets.token_hex(24)}"
        environment = {
            **os.environ,
            "FASTWORKER_BASE_ADDRESS": address,
            "FASTWORKER_DISCOVERY_ADDRESS": f"tcp://127.0.0.1:{free_port()}",
            "FASTWORKER_CONTROL_PLANE_ADDRESS": address,
            "FASTWORKER_TOKEN": token,
            "FASTWORKER_STORE": str(folder / "state"),
        }
        with (
            running(folder, "control-plane", environment=environment),
            running(folder, "subworker", "--worker-id", "sw1", environment=environment),
        ):
            asyncio.run(use(address, token))


if __name__ == "__main__":
    main()
