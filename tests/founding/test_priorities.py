"""Strict priority, counted in jobs that started first, not in seconds."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from fastworker import BlockingClient, TaskPriority
from tests.support.cluster import Cluster

pytestmark = [pytest.mark.process, pytest.mark.slow]

LOW_JOBS = 50_000
CRITICAL_JOBS = 100
SLOTS = 100
"""--concurrency of the one runner, by default."""
HAND_OVER = 16


def test_critical_jobs_overtake_a_backlog(cluster: Cluster, tmp_path: Path) -> None:
    """Behind 50,000 LOW jobs, at most slots plus one hand-over of them start before each."""
    ledger = str(tmp_path / "ledger")
    with BlockingClient(control_plane_address=cluster.address, token=cluster.token) as client:
        for _ in range(LOW_JOBS // 10_000):
            client.submit_many("mark", [(ledger, "low")] * 10_000, priority=TaskPriority.LOW)
        handles = client.submit_many(
            "mark", [(ledger, "critical")] * CRITICAL_JOBS, priority=TaskPriority.CRITICAL
        )
        accepted_ns = time.monotonic_ns()
        client.results(handles, timeout=60)
    started = sorted(
        (int(moment), word)
        for word, moment in (line.split() for line in Path(ledger).read_text().splitlines())
    )
    critical = [moment for moment, word in started if word == "critical"]
    assert len(critical) == CRITICAL_JOBS
    assert sum(word == "low" for _, word in started) < LOW_JOBS, "the backlog was gone already"
    for moment in critical:
        before = sum(word == "low" and accepted_ns < at < moment for at, word in started)
        assert before <= SLOTS + HAND_OVER
