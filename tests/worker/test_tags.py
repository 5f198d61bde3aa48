"""Tasks with tags are offered only where all of them are."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from fastworker import BlockingClient
from tests.support.cluster import COMMAND, Cluster

pytestmark = pytest.mark.process

TASKS = """\
from fastworker import task


@task(tags={"gpu", "ssd"})
def train() -> str:
    return "trained"


@task
def plain() -> str:
    return "done"
"""

PATIENCE_SECONDS = 30.0


def show(cluster: Cluster, *command: str) -> str:
    shown = subprocess.run(
        [*COMMAND, *command],
        env=cluster.client_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return shown.stdout


def test_a_task_waits_for_a_subworker_with_all_its_tags(tmp_path: Path) -> None:
    with Cluster(tmp_path, tasks=TASKS) as cluster:
        cluster.control_plane()
        cluster.subworker("sw1", "--tags", "gpu", "--queues", "default,mail")
        client = BlockingClient(control_plane_address=cluster.address, token=cluster.token)
        with client:
            handle = client.submit("train")
            assert client.submit("plain").result(timeout=PATIENCE_SECONDS) == "done"
            reason = show(cluster, "status", handle.id)
            assert "has its tag 'ssd'" in reason and "--tags" in reason
            shown = json.loads(show(cluster, "workers", "--json"))
            assert (shown[0]["tags"], shown[0]["queues"]) == (["gpu"], ["default", "mail"])
            assert shown[0]["tasks"] == ["plain"]
            cluster.subworker("sw2", "--tags", "ssd,gpu")
            assert handle.result(timeout=PATIENCE_SECONDS) == "trained"
