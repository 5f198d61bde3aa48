"""Process 1 of a container: it reaps orphans, and signals reach the server."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cluster import COMMAND, Cluster
from tests.support.process import WAIT_SECONDS, Member

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(sys.platform != "linux", reason="containers are Linux"),
]

# Being a "subreaper" gives a process what process 1 gets: the orphans below it.
SCRIPT = """
import ctypes, os, signal, sys, time
from fastworker.cli.first_process import serve_in_child

assert ctypes.CDLL(None).prctl(36, 1) == 0

def children_of(parent):
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            rest = open(f"/proc/{name}/stat").read().rpartition(")")[2].split()
        except OSError:
            continue
        if int(rest[1]) == parent:
            found.append((int(name), rest[0]))
    return found

def serve():
    heard = []
    signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    for _ in range(20):
        if os.fork() == 0:
            if os.fork() == 0:
                time.sleep(0.3)  # long enough to lose its parent
            os._exit(0)
        os.wait()
    print("serving", flush=True)
    while not heard:
        time.sleep(0.05)
    deadline = time.monotonic() + 20
    while len(children_of(os.getppid())) > 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    print("left:", children_of(os.getppid()) == [(os.getpid(), "R")], len(heard), flush=True)
    if sys.argv[1] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    return 7

sys.exit(serve_in_child(serve))
"""


@pytest.mark.parametrize(("how", "code"), [("ends", 7), ("killed", 128 + signal.SIGKILL)])
def test_orphans_are_reaped_signals_passed_on_and_the_code_handed_up(
    cluster: Cluster, how: str, code: int
) -> None:
    member = Member(
        "first",
        (sys.executable, "-c", SCRIPT, how),
        environment=cluster.environment(),
        folder=cluster.folder,
    )
    cluster.members.append(member)
    member.wait_line("serving")
    member.process.send_signal(signal.SIGTERM)
    assert member.wait_line("left:") == "left: True 1"
    assert member.process.wait(WAIT_SECONDS) == code


def _namespaces_work() -> bool:
    command = ["unshare", "--pid", "--fork", "--mount-proc", "true"]
    return (
        shutil.which("unshare") is not None
        and subprocess.run(command, capture_output=True).returncode == 0
    )


@pytest.mark.slow
def test_a_control_plane_as_process_1_stops_well(cluster: Cluster, tmp_path: Path) -> None:
    if not _namespaces_work():
        pytest.skip("this user may not make namespaces of processes")
    member = Member(
        "container",
        (
            *("unshare", "--pid", "--fork", "--mount-proc", *COMMAND, "run", "control-plane"),
            *("--base-address", cluster.address, "--discovery-address", cluster.discovery_address),
            *("--token-file", str(cluster.token_file), "--store", str(tmp_path / "store")),
            *("--local-worker", "never"),
        ),
        environment=cluster.environment(),
        folder=cluster.folder,
    )
    cluster.members.append(member)
    cluster.wait_ready(member)
    (first,) = Path(f"/proc/{member.pid}/task/{member.pid}/children").read_text().split()
    (server,) = Path(f"/proc/{first}/task/{first}/children").read_text().split()
    os.kill(int(first), signal.SIGTERM)
    assert member.process.wait(WAIT_SECONDS) == 0
    assert "stopped" in member.log and not Path(f"/proc/{server}").exists()
