"""What running jobs say survives the death of any process; waiting jobs give their slots back."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastworker import BlockingClient, BlockingHandle
from tests.support.cluster import Cluster

TASKS = (Path(__file__).parent / "sample_tasks.py").read_text("utf-8")

pytestmark = [pytest.mark.process, pytest.mark.slow]

WAIT_SECONDS = 90
"""For a result on a busy machine: a lease has to end first where a subworker was killed."""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path, tasks=TASKS) as cluster:
        yield cluster
        cluster.close()
        print(cluster.logs())


def client_of(cluster: Cluster) -> BlockingClient:
    return BlockingClient(control_plane_address=cluster.address, token=cluster.token)


def hold(client: BlockingClient, path: Path) -> BlockingHandle[object]:
    """Start a job that leaves a checkpoint; returns once its progress has been told, too."""
    handle = client.submit("running-hold", str(path))
    assert next(iter(handle.progress())).done == 41
    return handle


@pytest.mark.parametrize("task", ["running-kill-once", "running-kill-once-async"])
def test_a_checkpoint_survives_the_death_of_its_runner(cluster: Cluster, task: str) -> None:
    cluster.control_plane()
    cluster.subworker("one")
    with client_of(cluster) as client:
        assert client.submit(task).result(timeout=WAIT_SECONDS) == [1, "half"]


def test_a_checkpoint_survives_the_death_of_its_subworker(cluster: Cluster, tmp_path: Path) -> None:
    cluster.control_plane()
    first = cluster.subworker("one")
    with client_of(cluster) as client:
        handle = hold(client, tmp_path / "go")
        first.process.kill()
        cluster.subworker("two")
        assert handle.result(timeout=WAIT_SECONDS) == {"seen": 41}


def test_a_checkpoint_survives_the_death_of_everybody(cluster: Cluster, tmp_path: Path) -> None:
    control_plane = cluster.control_plane()
    subworker = cluster.subworker("one")
    with client_of(cluster) as client:
        handle = hold(client, tmp_path / "go")
        control_plane.process.kill()
        subworker.process.kill()
        control_plane.process.wait()
        cluster.control_plane()
        cluster.subworker("two")
        assert handle.result(timeout=WAIT_SECONDS) == {"seen": 41}


def test_lines_are_followed_over_a_restart_of_the_control_plane(cluster: Cluster) -> None:
    control_plane = cluster.control_plane()
    cluster.subworker("one")
    with client_of(cluster) as client:
        handle = client.submit("running-count-aloud", 40)
        lines = handle.logs()
        seen = [next(lines).text for _ in range(3)]
        control_plane.process.kill()
        control_plane.process.wait()
        cluster.control_plane()
        seen += [line.text for line in lines]
        assert seen == [f"line {number}" for number in range(40)]
        assert handle.result(timeout=WAIT_SECONDS) == 40


def test_log_collection_can_be_switched_off(cluster: Cluster) -> None:
    cluster.control_plane()
    cluster.subworker("one", "--no-collect-logs")
    with client_of(cluster) as client:
        handle = client.submit("running-talk-thread")
        handle.result(timeout=WAIT_SECONDS)
        assert list(handle.logs()) == []


@pytest.mark.parametrize(
    ("task", "flags"),
    [
        ("running-recurse", ("--concurrency", "1")),
        ("running-recurse-sync", ("--threads", "1")),
    ],
)
def test_recursion_of_depth_ten_in_one_slot_ends(
    cluster: Cluster, task: str, flags: tuple[str, ...]
) -> None:
    cluster.control_plane()
    cluster.subworker("one", *flags)
    with client_of(cluster) as client:
        assert client.submit(task, 10).result(timeout=WAIT_SECONDS) == 10


def test_a_draining_worker_tells_its_jobs(cluster: Cluster) -> None:
    cluster.control_plane()
    worker = cluster.subworker("one")
    with client_of(cluster) as client:
        handle = client.submit("running-until-drained")
        assert next(iter(handle.logs())).text == "here I am"
        os.kill(worker.process.pid, signal.SIGTERM)
        assert handle.result(timeout=WAIT_SECONDS) == "drained"


def test_the_command_line_shows_progress_and_lines(cluster: Cluster, tmp_path: Path) -> None:
    cluster.control_plane()
    cluster.subworker("one")
    with client_of(cluster) as client:
        handle = hold(client, tmp_path / "go")
        assert re.search(r"^progress +41 of 42$", told(cluster, "status", handle.id), re.MULTILINE)
        (tmp_path / "go").touch()
        handle.result(timeout=WAIT_SECONDS)
        aloud = client.submit("running-count-aloud", 5)
        lines = told(cluster, "logs", aloud.id, "--follow").splitlines()
        assert [line.partition(" ")[2][13:] for line in lines] == [f"line {n}" for n in range(5)]
        (first, *_) = told(cluster, "logs", aloud.id, "--json").splitlines()
        assert json.loads(first)["text"] == "line 0" and json.loads(first)["level"] is None


def told(cluster: Cluster, *arguments: str) -> str:
    """What a command prints."""
    finished = subprocess.run(
        [sys.executable, "-m", "fastworker", *arguments],
        env=cluster.client_environment(),
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_a_job_in_a_process_of_its_own_is_heard(cluster: Cluster) -> None:
    cluster.control_plane()
    cluster.subworker("one")
    with client_of(cluster) as client:
        handle = client.submit("running-alone")
        assert [line.text for line in handle.logs()] == ["attempt 1", "attempt 2"]
        assert handle.result(timeout=WAIT_SECONDS) == "left by attempt 1"
