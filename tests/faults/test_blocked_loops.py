"""Code that blocks a runner's event loop: its leases stay, and it is named."""

from __future__ import annotations

import json
import re
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Final

from fastworker import BlockingClient, TaskStatus
from tests.faults.report import REPORT
from tests.support.cluster import Cluster
from tests.support.process import Member
from tests.survival import control_plane

SHORT_LEASE: Final = 3.0
BLOCK_SECONDS: Final = 10.0
NAMED_SECONDS: Final = 1.0
TASKS = """\
import time

from fastworker import task


@task
async def block(ledger: str, seconds: float) -> str:
    with open(ledger, "a") as lines:
        lines.write("started\\n")
    began = time.time()
    time.sleep(seconds)  # the culprit
    return str(began)


@task
async def quick() -> int:
    return 1
"""


def start_plane(cluster: Cluster) -> Member:
    """A control plane with a lease that is shorter than the block."""
    member = Member(
        "control-plane",
        (
            *(sys.executable, str(control_plane.__file__)),
            *("--base-address", cluster.address),
            *("--store", str(cluster.folder / "store")),
            *("--token-file", str(cluster.token_file)),
            *("--lease-seconds", str(SHORT_LEASE)),
        ),
        environment=cluster.environment(),
        folder=cluster.folder,
    )
    cluster.members.append(member)
    cluster.wait_ready(member)
    return member


def logged_at(line: str) -> float:
    """The moment a log line tells, in seconds."""
    return datetime.fromisoformat(line.split(" ")[0].replace("Z", "+00:00")).timestamp()


def test_c27_blocked_loop_keeps_its_leases_and_is_named(tmp_path: Path, patience: float) -> None:
    with Cluster(tmp_path, tasks=TASKS) as cluster:
        start_plane(cluster)
        worker = cluster.subworker("one", "--processes", "1")
        ledger = tmp_path / "ledger"
        with BlockingClient(control_plane_address=cluster.address, token=cluster.token) as client:
            blocking = client.submit("block", str(ledger), BLOCK_SECONDS)
            others = [client.submit("quick") for _ in range(20)]
            worker.wait_line(r"has been blocked")
            asked_at = time.monotonic()
            stack = client.stack(blocking.id)
            answered = time.monotonic() - asked_at
            result = blocking.wait(60)
            assert result.status is TaskStatus.SUCCESS
            assert [other.result(60) for other in others] == [1] * 20
            worker.wait_line(r"turns again")
            assert len(client.attempts(blocking.id)) == 1
        assert ledger.read_text() == "started\n", "a lease was lost: it ran twice"
        assert stack is not None
        assert "# the culprit" in stack.stack
        assert answered < NAMED_SECONDS * patience

        lines = worker.log.split("\n")
        [first, *later] = [line for line in lines if "has been blocked" in line]
        assert re.search(rf"by job {blocking.id} \(task block\) at .*cluster_tasks.py:\d+", first)
        named = logged_at(first) - float(str(result.result))
        assert named < NAMED_SECONDS * patience
        assert len(later) == 1, "again at 5 s, and not oftener"
        assert "  |     time.sleep(seconds)  # the culprit" in lines
        [ended] = [line for line in lines if "turns again" in line]
        assert abs(float(re.findall(r"blocked for ([\d.]+) s", ended)[0]) - BLOCK_SECONDS) < 1.0
        REPORT.figures.append(f"C27: a blocked loop was named after {named:.2f} s")


def test_c27_what_runs_is_shown_while_a_loop_is_blocked(tmp_path: Path) -> None:
    with Cluster(tmp_path, tasks=TASKS) as cluster:
        cluster.control_plane()
        worker = cluster.subworker("one", "--processes", "1")
        with BlockingClient(control_plane_address=cluster.address, token=cluster.token) as client:
            handle = client.submit("block", str(tmp_path / "ledger"), 8.0)
            worker.wait_line(r"has been blocked")
            flags = ("--control-plane-address", cluster.address)
            flags = (*flags, "--token-file", str(cluster.token_file))
            shown = cluster.start("tree", "tree", "--stacks", *flags)
            assert shown.wait() == 0
            assert f"block {handle.id}  asyncio" in shown.log
            assert "# the culprit" in shown.log
            told = cluster.start("stack", "stack", handle.id, "--json", *flags)
            assert told.wait() == 0
            found = json.loads(told.log)
            assert (found["task"], found["worker"], found["watchers"]) == ("block", "one", 1)
            handle.result(60)
            ended = cluster.start("stack", "stack", handle.id, *flags)
            assert ended.wait() == 1
            assert "does not run" in ended.log
            other = "f" + handle.id[1:]
            unknown = cluster.start("stack", "stack", other, *flags)
            assert unknown.wait() == 4
