"""``--reload`` with real processes: new code without a lost job, broken code without an outage."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastworker import BlockingClient
from fastworker.worker.reloading import CodeFolders, code_folders
from tests.support.cluster import COMMAND, Cluster

pytestmark = [pytest.mark.process, pytest.mark.slow]

TASKS = """\
import os
import time

from fastworker import current, task


@task
def version() -> list[object]:
    return ["{version}", os.getpid(), current().attempt]


@task(run_in="process")
def version_alone() -> list[object]:
    return ["{version}", os.getpid(), current().attempt]


@task
def slow() -> list[object]:
    time.sleep(3)
    return ["{version}", os.getpid(), current().attempt]
"""

ADDED = """

@task
def added() -> str:
    return "new here"
"""

PATIENCE_SECONDS = 30.0


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path, tasks=TASKS.format(version="one")) as cluster:
        cluster.control_plane()
        yield cluster


def client_of(cluster: Cluster) -> BlockingClient:
    return BlockingClient(control_plane_address=cluster.address, token=cluster.token)


def write(cluster: Cluster, source: str) -> None:
    """Replace the module at once, as editors do."""
    beside = cluster.folder / "beside"
    beside.write_text(source)
    os.replace(beside, cluster.folder / f"{cluster.module}.py")


def known_tasks(cluster: Cluster) -> str:
    shown = subprocess.run(
        [*COMMAND, "tasks"], env=cluster.client_environment(), capture_output=True, check=True
    )
    return shown.stdout.decode()


def test_changed_code_takes_over_and_no_job_is_lost(cluster: Cluster) -> None:
    member = cluster.subworker("sw1", "--reload", "--processes", "2", "--threads", "4")
    member.wait_line("reload: watching")
    with client_of(cluster) as client:
        # A runner that comes up after the change begins with the new code.
        runners: set[object] = set()
        while len(runners) < 2:
            asked = [client.submit("version") for _ in range(20)]
            runners |= {each.result(timeout=PATIENCE_SECONDS)[1] for each in asked}
        slow = client.submit("slow")
        waiting = [client.submit("added")]
        handles = []
        found: list[object] = []
        write(cluster, TASKS.format(version="two") + ADDED)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while "two" not in found:
            assert time.monotonic() < deadline, cluster.logs()
            handles = [client.submit("version") for _ in range(50)]
            for handle in handles:
                text, _, attempt = handle.result(timeout=PATIENCE_SECONDS)
                found.append(text)
                assert attempt == 1
        # All at once: as soon as one job finds new code, all that follow do.
        handles = [client.submit("version") for _ in range(50)]
        assert {handle.result(timeout=PATIENCE_SECONDS)[0] for handle in handles} == {"two"}
        # What ran goes on with the code it began with; what waited for new code finds it.
        assert slow.result(timeout=PATIENCE_SECONDS)[0] == "one"
        assert waiting[0].result(timeout=PATIENCE_SECONDS) == "new here"
        assert "added" in known_tasks(cluster)
    assert "cluster_tasks.py changed: starting new runners" in member.log
    assert "WARNING" not in member.log


def test_code_that_does_not_import_leaves_the_old_runners_in_place(cluster: Cluster) -> None:
    member = cluster.subworker("sw1", "--reload")
    member.wait_line("reload: watching")
    with client_of(cluster) as client:
        _, old, _ = client.submit("version").result(timeout=PATIENCE_SECONDS)
        _, alone, _ = client.submit("version_alone").result(timeout=PATIENCE_SECONDS)
        write(cluster, "def broken(:\n")
        member.wait_line(
            "the changed code does not run: task module 'cluster_tasks' cannot be imported: "
            "SyntaxError.*; the runners with the code before go on until the next change"
        )
        assert client.submit("version").result(timeout=PATIENCE_SECONDS) == ["one", old, 1]
        found = client.submit("version_alone").result(timeout=PATIENCE_SECONDS)
        assert found == ["one", alone, 1]
        write(cluster, "import os\nos._exit(3)\n")
        member.wait_line("the changed code does not run: a runner ended .*exit 3")
        assert client.submit("version").result(timeout=PATIENCE_SECONDS) == ["one", old, 1]
        write(cluster, TASKS.format(version="two"))
        deadline = time.monotonic() + PATIENCE_SECONDS
        while client.submit("version").result(timeout=PATIENCE_SECONDS)[0] != "two":
            assert time.monotonic() < deadline, cluster.logs()
        assert client.submit("version_alone").result(timeout=PATIENCE_SECONDS)[0] == "two"
    assert member.running
    begun = time.monotonic()
    assert member.terminate() == 0
    assert time.monotonic() - begun < 5.0


def test_a_task_that_is_gone_waits_instead_of_failing(cluster: Cluster) -> None:
    member = cluster.subworker("sw1", "--reload")
    member.wait_line("reload: watching")
    with client_of(cluster) as client:
        source = TASKS.format(version="one").replace("def slow()", "def other()")
        write(cluster, source)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while "other" not in known_tasks(cluster):
            assert time.monotonic() < deadline, cluster.logs()
        handle = client.submit("slow")
        shown = subprocess.run(
            [*COMMAND, "status", handle.id],
            env=cluster.client_environment(),
            capture_output=True,
            check=True,
        )
        assert b"knows task 'slow'" in shown.stdout
        write(cluster, TASKS.format(version="two"))
        assert handle.result(timeout=PATIENCE_SECONDS)[0] == "two"


def test_the_local_worker_of_dev_reloads_too(tmp_path: Path) -> None:
    with Cluster(tmp_path, tasks=TASKS.format(version="one")) as cluster:
        member = cluster.start(
            *("dev", "run", "dev", cluster.module, "--reload"),
            *("--base-address", cluster.address, "--token-file", str(cluster.token_file)),
            *("--discovery-address", cluster.discovery_address),
        )
        member.wait_line("reload: watching")
        with client_of(cluster) as client:
            assert client.submit("version").result(timeout=PATIENCE_SECONDS)[0] == "one"
            write(cluster, TASKS.format(version="two"))
            deadline = time.monotonic() + PATIENCE_SECONDS
            while client.submit("version").result(timeout=PATIENCE_SECONDS)[0] != "two":
                assert time.monotonic() < deadline, cluster.logs()


def test_packages_are_watched_whole_and_nothing_is_imported(tmp_path: Path) -> None:
    (tmp_path / "shop" / "deep").mkdir(parents=True)
    (tmp_path / "shop" / "__init__.py").write_text("raise RuntimeError('imported')\n")
    (tmp_path / "alone.py").write_text("raise RuntimeError('imported')\n")
    found = code_folders(["shop.deep.tasks", "alone", "nowhere"], tmp_path)
    assert found == CodeFolders(frozenset({tmp_path}), frozenset({tmp_path / "shop"}))
