"""Every series measures what it says, with results checked; how fast is no matter here."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from benchmarks.cluster import Cluster
from benchmarks.load import cpu_seconds
from benchmarks.scale import connected, mixed, payloads
from benchmarks.scale.__main__ import main
from benchmarks.scale.probing import MEGABYTE, Effort, peak_resident
from benchmarks.scale.series import Series

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.mark.process
@pytest.mark.slow
def test_jobs_that_wait_are_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state, found = tmp_path / "state", tmp_path / "found.json"
    state.mkdir()
    small = ["--jobs", "20", "--idle", "2", "--watch-seconds", "0.1"]
    small += ["--durability", "process", "--folder", str(state), "--json", str(found)]
    left_out = ["--subworkers", "", "--clients", "", "--payloads", "", "--mixed", ""]
    sizes = ["--queued", "30", *left_out]
    assert main([*sizes, *small]) == 0
    series = json.loads(found.read_text())["series"]
    assert set(series) == {"queued"}
    metrics = {name: rows[0]["median"] for name, rows in series["queued"]["metrics"].items()}
    for name in (
        "bulk: end to end (jobs/s)",
        "bulk: CPU of control plane (µs/job)",
        "idle: p50 (ms)",
        "start with them (s)",
        "drain (jobs/s)",
    ):
        assert metrics[name] > 0
    assert "jobs that wait" in capsys.readouterr().out
    assert list(state.iterdir()) == []


@pytest.mark.process
@pytest.mark.slow
def test_payloads_tenants_and_idle_subworkers_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    effort = Effort(jobs=9, idle=2, watch_seconds=0.01, payload_bytes=1)
    cluster = Cluster(sys.executable, tmp_path, "memory")
    for tenant in mixed.TENANTS:
        cluster.create_token(tenant)
    with cluster:
        there = asyncio.run(payloads.measure(cluster, 3_000, effort))
        monkeypatch.setattr(cluster, "start_subworker", lambda: None)  # it is there
        both = asyncio.run(mixed.measure(cluster, 16, effort))
        beside = asyncio.run(connected.measure_subworkers(cluster, 3, effort))
    for name in payloads.LANES:
        assert there[f"{name} at once (MB/s)"][0] == pytest.approx(
            there[f"{name} at once (jobs/s)"][0] * 3_000 / MEGABYTE
        )
    assert both["bulk: end to end (jobs/s)"][0] > 0
    for priority in ("LOW", "NORMAL", "HIGH", "CRITICAL"):
        assert both[f"beside a flood, {priority}: p99 (ms)"][0] > 0
    assert beside["bulk: end to end (jobs/s)"][0] > 0
    assert "memory of control plane, above alone (MB)" in beside


def test_processor_time_of_a_process_is_counted_finely() -> None:
    before = cpu_seconds([os.getpid()])
    sum(range(10_000))
    assert 0 < cpu_seconds([os.getpid()]) - before < 0.5


def test_most_memory_within_a_block_is_found_after_it_was_freed() -> None:
    with peak_resident(os.getpid()) as small:
        pass
    with peak_resident(os.getpid()) as large:
        os.urandom(50 * MEGABYTE)
    with peak_resident(os.getpid()) as freed:
        pass
    assert large[0] - small[0] > 40 * MEGABYTE
    assert large[0] - freed[0] > 40 * MEGABYTE


def test_a_series_has_a_column_for_each_size_and_the_median_of_rounds() -> None:
    series = Series("queued", "jobs")
    for value in (1.0, 9.0, 2.0):
        series.add(10, {"drain (jobs/s)": [value]})
    series.add(2_000, {"drain (jobs/s)": [7.0, 8.0, 9.0], "start (s)": [3.0]})
    assert [line.split() for line in series.table().splitlines()] == [
        ["queued", "jobs", "10", "2,000"],
        ["drain", "jobs/s", "2.00", "8.00"],
        ["start", "s", "-", "3.00"],
    ]
    (small, _) = series.as_document()["metrics"]["drain (jobs/s)"]
    assert small == {"size": 10, "median": 2.0, "rounds": [1.0, 9.0, 2.0]}
