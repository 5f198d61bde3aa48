"""``python -m benchmarks.connections``: what connections cost a control plane.

A crowd of idle, authenticated clients from two processes: how long they take to come in, the
memory of the control plane, and how long a submission takes beside them and without them. Then
churn: connections that come and go, and what is left of them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.cluster import BenchmarkFailed, Cluster
from benchmarks.load import cpu_seconds, resident_bytes
from fastworker import BlockingClient

CROWDS: Final = 2
"""Client processes; each is limited in its open files, too."""
HOLD_SECONDS: Final = 120.0
"""For a whole crowd to come in."""
SETTLE_SECONDS: Final = 3.0
"""For what follows the last event: acknowledgements, closing handshakes, descriptors."""
MEGABYTE: Final = 1024 * 1024


@dataclass(slots=True)
class Findings:
    """What was measured."""

    connections: int = 0
    refused: int = 0
    still_standing: int = 0
    accept_seconds: float = 0.0
    rss_before: int = 0
    rss_after: int = 0
    submit_ms_before: dict[str, float] = field(default_factory=dict)
    submit_ms_beside: dict[str, float] = field(default_factory=dict)
    cpu_of_idle: float = 0.0
    """Share of one processor that the crowd takes by being there."""
    churned: int = 0
    churn_failed: int = 0
    churn_seconds: float = 0.0
    files_before: int = 0
    files_after: int = 0
    churn_rss: list[int] = field(default_factory=list)
    """Each fifth of the churn: memory."""

    @property
    def bytes_per_connection(self) -> float:
        """Memory of the control plane for each of the crowd."""
        return (self.rss_after - self.rss_before) / max(1, self.connections)

    @property
    def p99_ratio(self) -> float:
        """How much longer a submission takes beside the crowd."""
        return self.submit_ms_beside["p99"] / self.submit_ms_before["p99"]

    def as_json(self) -> str:
        """Everything, with what follows from it."""
        found: dict[str, Any] = asdict(self)
        if self.connections:
            found["bytes_per_connection"] = round(self.bytes_per_connection)
            found["rss_after_mb"] = round(self.rss_after / MEGABYTE, 1)
            found["p99_ratio"] = round(self.p99_ratio, 2)
        return json.dumps(found, indent=2)


def submit_times(client: BlockingClient, count: int) -> dict[str, float]:
    """Milliseconds until a submission is accepted, one after another."""
    took = []
    for number in range(count):
        began = time.perf_counter()
        client.submit("add", number, 1)
        took.append((time.perf_counter() - began) * 1e3)
        time.sleep(0.005)
    ordered = sorted(took)
    return {
        "p50": round(statistics.median(ordered), 3),
        "p99": round(ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)], 3),
    }


def open_files(pid: int) -> int:
    """How many descriptors a process has."""
    return len(os.listdir(f"/proc/{pid}/fd"))


@contextlib.contextmanager
def crowds(
    cluster: Cluster, address: str, count: int, found: Findings, role: str = "client"
) -> Iterator[None]:
    """Hold so many connections of clients or subworkers for the length of the block."""
    shares = [share for at in range(CROWDS) if (share := (count + at) // CROWDS)]
    commands = [
        [sys.executable, "-m", "benchmarks.crowd", "hold", address, str(share), role]
        for share in shares
    ]
    with contextlib.ExitStack() as stack:
        members = [stack.enter_context(_started(cluster, command)) for command in commands]
        for member in members:
            said = _line(member)
            found.connections += said["standing"]
            found.refused += said["refused"]
            found.accept_seconds = max(found.accept_seconds, said["seconds"])
        yield
        for member in members:
            assert member.stdin is not None
            member.stdin.close()
            found.still_standing += _line(member)["standing"]


@contextlib.contextmanager
def _started(cluster: Cluster, command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        command,
        env={**cluster.environment, "PYTHONPATH": str(Path(__file__).parents[1])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def _line(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise BenchmarkFailed("a crowd ended without a word")
    said: dict[str, Any] = json.loads(line)
    return said


def measure_crowd(
    cluster: Cluster, address: str, count: int, probes: int, settle: float, found: Findings
) -> None:
    """Submit alone, then beside the crowd."""
    plane = cluster.pids["control plane"]
    token = cluster.environment["FASTWORKER_TOKEN"]
    with BlockingClient(control_plane_address=address, token=token) as client:
        submit_times(client, probes)  # warm
        found.submit_ms_before = submit_times(client, probes)
        found.rss_before = resident_bytes(plane)
        with crowds(cluster, address, count, found):
            time.sleep(settle)
            used, began = cpu_seconds(plane), time.monotonic()
            time.sleep(settle * 2)
            found.cpu_of_idle = (cpu_seconds(plane) - used) / (time.monotonic() - began)
            found.rss_after = resident_bytes(plane)
            found.submit_ms_beside = submit_times(client, probes)


def measure_churn(
    cluster: Cluster, address: str, rate: float, seconds: float, settle: float, found: Findings
) -> None:
    """Connections that come and go: descriptors before and after, memory in between."""
    pids = cluster.pids["control plane"]
    # What comes first is allocated once: it is no slope.
    _churn(cluster, address, rate, max(2.0, seconds / 10))
    time.sleep(settle)
    found.files_before = open_files(pids[0])
    found.churn_rss = [resident_bytes(pids)]
    for _ in range(5):
        said = _churn(cluster, address, rate, seconds / 5)
        found.churned += said["done"]
        found.churn_failed += said["failed"]
        found.churn_seconds += said["seconds"]
        found.churn_rss.append(resident_bytes(pids))
    time.sleep(settle)
    found.files_after = open_files(pids[0])


def _churn(cluster: Cluster, address: str, rate: float, seconds: float) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.crowd", "churn", address, str(rate), str(seconds)]
    with _started(cluster, command) as process:
        return _line(process)


def measure(
    folder: Path,
    *,
    connections: int,
    probes: int,
    churn_rate: float,
    churn_seconds: float,
    python: str = sys.executable,
    durability: str = "power",
    settle: float = SETTLE_SECONDS,
) -> Findings:
    """Start processes of their own in ``folder``, and measure; 0 connections or seconds: not."""
    found = Findings()
    with Cluster(python, folder.resolve(), durability) as cluster:
        cluster.start_subworker()
        address = cluster.environment["FASTWORKER_BASE_ADDRESS"]
        if connections:
            measure_crowd(cluster, address, connections, probes, settle, found)
            time.sleep(settle)
        if churn_seconds:
            measure_churn(cluster, address, churn_rate, churn_seconds, settle, found)
    return found


def main() -> int:
    """Measure, and print what was found as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.connections", description=__doc__)
    add = parser.add_argument
    add("--connections", type=int, default=10_000, help="of the crowd (%(default)s)")
    add("--probes", type=int, default=500, help="submissions timed (%(default)s)")
    add("--churn-rate", type=float, default=200.0, help="connections a second (%(default)s)")
    add("--churn-seconds", type=float, default=120.0, help="how long (%(default)s)")
    add("--durability", default="power", help="of the control plane (%(default)s)")
    add("--python", default=sys.executable, help="whose fastworker is measured")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="connections-") as folder:
        found = measure(
            Path(folder),
            connections=given.connections,
            probes=given.probes,
            churn_rate=given.churn_rate,
            churn_seconds=given.churn_seconds,
            python=given.python,
            durability=given.durability,
        )
    print(found.as_json())
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
