"""Cancels with real processes: how soon they are answered, and what a restart leaves of them."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastworker import BlockingClient, CancelOutcome, TaskStatus
from tests.support.cluster import COMMAND, SUBWORKER_READY, Cluster

pytestmark = [pytest.mark.process, pytest.mark.slow]

PATIENCE_SECONDS = 20.0
"""For a busy machine."""

RECONNECT_SECONDS = 8.0
"""In which whoever was connected is again after a restart, on a busy machine too."""

TASKS = """\
import time
from pathlib import Path

import anyio

from fastworker import task


@task
async def sleep(mark: str) -> None:
    Path(mark).touch()
    await anyio.sleep_forever()


@task
def stubborn(mark: str, seconds: float) -> None:
    Path(mark).touch()
    time.sleep(seconds)


@task
async def parent(mark: str) -> None:
    await sleep.delay(mark)
    await anyio.sleep_forever()


@task(on_lost="fail")
async def owner(mark: str) -> None:
    for_later = sleep.options(countdown=3600, owned=8, detached=True)
    note = Path(mark + ".new")
    note.write_text(await for_later.delay(mark))
    note.rename(mark)
    await anyio.sleep_forever()
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path, tasks=TASKS) as cluster:
        cluster.control_plane()
        cluster.subworker("one")
        yield cluster


@pytest.fixture
def client(cluster: Cluster) -> Iterator[BlockingClient]:
    with BlockingClient(control_plane_address=cluster.address, token=cluster.token) as client:
        yield client


def wait_started(mark: Path) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not mark.exists():
        assert time.monotonic() < until, f"{mark.name} never started"
        time.sleep(0.01)


def wait_ended(client: BlockingClient, task_id: str) -> TaskStatus:
    return client.handle(task_id).wait(PATIENCE_SECONDS).status


def test_cancel_of_cooperative_code_is_answered_within_100_ms(
    client: BlockingClient, tmp_path: Path
) -> None:
    took: list[float] = []
    for number in range(20):
        mark = tmp_path / f"mark-{number}"
        handle = client.submit("sleep", str(mark))
        wait_started(mark)
        begun = time.perf_counter()
        answer = handle.cancel("measured")
        took.append(time.perf_counter() - begun)
        assert answer.outcome is CancelOutcome.CANCELLED
    print(f"cancel: median {statistics.median(took) * 1000:.1f} ms, max {max(took) * 1000:.1f} ms")
    assert statistics.median(took) <= 0.1


def test_code_that_does_not_stop_is_answered_with_its_stack_after_the_grace(
    client: BlockingClient, cluster: Cluster, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    handle = client.submit("stubborn", str(mark), 4.0)
    wait_started(mark)
    begun = time.perf_counter()
    answer = handle.cancel("now", grace=0.5)
    took = time.perf_counter() - begun
    assert answer.outcome is CancelOutcome.UNWINDING
    assert answer.stack is not None and "stubborn" in answer.stack
    assert 0.5 <= took <= 0.5 + 1.5
    told = subprocess.run(
        [*COMMAND, "cancel", handle.id, "--grace", "0.1", "--reason", "again", "--json"],
        env=cluster.client_environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    found = json.loads(told.stdout)
    assert (told.returncode, found["outcome"]) == (1, "unwinding")
    assert "stubborn" in found["stack"]
    assert wait_ended(client, handle.id) is TaskStatus.SUCCESS


def test_cancel_goes_on_to_code_that_runs_elsewhere(
    client: BlockingClient, cluster: Cluster, tmp_path: Path
) -> None:
    cluster.subworker("two")
    mark = tmp_path / "mark"
    handle = client.submit("parent", str(mark))
    wait_started(mark)
    assert handle.cancel().outcome is CancelOutcome.CANCELLED
    ids = [str(row["id"]) for row in client.jobs()]
    assert len(ids) == 2
    assert {wait_ended(client, task_id) for task_id in ids} == {TaskStatus.CANCELLED}


def test_restart_of_the_control_plane_gives_an_absent_client_its_whole_time_again(
    client: BlockingClient, cluster: Cluster
) -> None:
    with BlockingClient(control_plane_address=cluster.address, token=cluster.token) as gone:
        handle = gone.options(countdown=3600, owned=3).submit("sleep", "never")
    time.sleep(1.5)
    (plane,) = [member for member in cluster.members if member.name == "control-plane"]
    plane.kill()
    restarted = time.monotonic()
    cluster.control_plane()
    assert wait_ended(client, handle.id) is TaskStatus.CANCELLED
    assert time.monotonic() - restarted >= 3.0


def test_client_that_stays_through_a_restart_keeps_its_jobs(cluster: Cluster) -> None:
    with BlockingClient(control_plane_address=cluster.address, token=cluster.token) as stays:
        handle = stays.options(countdown=3600, owned=RECONNECT_SECONDS).submit("sleep", "never")
        (plane,) = [member for member in cluster.members if member.name == "control-plane"]
        plane.kill()
        cluster.control_plane()
        stays.wait_connected(PATIENCE_SECONDS)
        time.sleep(RECONNECT_SECONDS + 1)
        assert handle.status() is TaskStatus.SCHEDULED


def test_client_in_a_runner_owns_jobs_as_any_other(
    client: BlockingClient, cluster: Cluster, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    client.delay("owner", str(mark))
    wait_started(mark)
    owned = client.handle(mark.read_text())
    plane, worker = cluster.members
    seen = len(worker.lines)
    plane.kill()
    cluster.control_plane()
    client.wait_connected(PATIENCE_SECONDS)
    worker.wait_line(SUBWORKER_READY, after=seen)
    time.sleep(RECONNECT_SECONDS + 1)
    assert owned.status() is TaskStatus.SCHEDULED
    (runner,) = worker.children()
    os.kill(runner, signal.SIGKILL)
    assert wait_ended(client, owned.id) is TaskStatus.CANCELLED
