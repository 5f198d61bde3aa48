"""Runners that are replaced: after so many jobs, or when they have grown too large."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastworker import BlockingClient
from tests.support.cluster import Cluster

pytestmark = [pytest.mark.process, pytest.mark.slow]

TASKS = '''\
"""Tasks that say where they run, and one that never lets go of what it took."""
import os
import time

from fastworker import current, task

KEPT = []


@task
def whereabouts() -> list[int]:
    return [os.getpid(), current().attempt]


@task
async def whereabouts_async() -> list[int]:
    return [os.getpid(), current().attempt]


@task(run_in="process")
def whereabouts_alone() -> list[int]:
    return [os.getpid(), current().attempt]


@task
def sleep(seconds: float) -> list[int]:
    time.sleep(seconds)
    return [os.getpid(), current().attempt]


@task
def leak(count: int) -> list[int]:
    KEPT.append(b"x" * count)
    with open("/proc/self/statm") as pages:
        return [os.getpid(), current().attempt, int(pages.read().split()[1]) * 4096]
'''

MIB = 1024 * 1024
PATIENCE_SECONDS = 30.0


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path, tasks=TASKS) as cluster:
        cluster.control_plane()
        yield cluster


def client_of(cluster: Cluster) -> BlockingClient:
    return BlockingClient(control_plane_address=cluster.address, token=cluster.token)


def test_a_runner_is_replaced_after_so_many_jobs_and_none_is_lost(cluster: Cluster) -> None:
    member = cluster.subworker("sw1", "--max-jobs-per-runner", "50", "--threads", "4")
    pids: Counter[int] = Counter()
    with client_of(cluster) as client:
        for _ in range(4):
            handles = [client.submit("whereabouts") for _ in range(150)]
            handles += [client.submit("whereabouts_async") for _ in range(50)]
            for handle in handles:
                pid, attempt = handle.result(timeout=PATIENCE_SECONDS)
                pids[pid] += 1
                # What came back unstarted has run elsewhere, and was not counted.
                assert attempt == 1
    assert sum(pids.values()) == 800
    assert len(pids) >= 3
    assert "it has ended" in member.log
    assert "jobs lost: 0" in member.log and "WARNING" not in member.log


def test_a_leaky_task_costs_no_more_memory_than_allowed(cluster: Cluster) -> None:
    cluster.subworker("sw1", "--max-runner-memory", "120MiB", "--threads", "2")
    sizes: dict[int, int] = {}
    started = time.monotonic()
    with client_of(cluster) as client:
        count = 0
        while len(sizes) < 2:
            assert time.monotonic() - started < PATIENCE_SECONDS
            handles = [client.submit("leak", 20 * MIB) for _ in range(4)]
            for handle in handles:
                pid, attempt, size = handle.result(timeout=PATIENCE_SECONDS)
                sizes[pid] = max(sizes.get(pid, 0), size)
                assert attempt == 1
                count += 1
            time.sleep(0.3)  # memory is looked at once a second
    assert count >= 10


def test_a_long_job_of_a_runner_that_leaves_holds_nobody_up(cluster: Cluster) -> None:
    cluster.subworker("sw1", "--max-jobs-per-runner", "1", "--threads", "2")
    with client_of(cluster) as client:
        long = client.submit("sleep", 5.0)
        leaves = client.submit("whereabouts")
        old, _ = leaves.result(timeout=PATIENCE_SECONDS)
        started = time.monotonic()
        new = old
        while new == old:
            new, attempt = client.submit("whereabouts").result(timeout=PATIENCE_SECONDS)
            assert attempt == 1
        # Both slots of the new one are free while the old one still works.
        both = [client.submit("sleep", 0.3) for _ in range(2)]
        assert {handle.result(timeout=PATIENCE_SECONDS)[0] for handle in both} == {new}
        assert time.monotonic() - started < 4.0
        assert long.result(timeout=PATIENCE_SECONDS) == [old, 1]


def test_processes_of_single_jobs_are_replaced_too(cluster: Cluster) -> None:
    member = cluster.subworker("sw1", "--max-jobs-per-runner", "2", "--task-processes", "1")
    with client_of(cluster) as client:
        handles = [client.submit("whereabouts_alone") for _ in range(8)]
        found = [handle.result(timeout=PATIENCE_SECONDS) for handle in handles]
    assert all(attempt == 1 for _, attempt in found)
    counted = Counter(pid for pid, _ in found)
    # One more may have been on its way when the second ended.
    assert set(counted.values()) <= {1, 2, 3} and len(counted) >= 3
    assert "WARNING" not in member.log
