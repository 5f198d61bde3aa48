"""The instrument measures what it says, with results checked; how fast is no matter here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.load import check
from benchmarks.report import Results

ROOT = Path(__file__).parents[2]
RUN_SECONDS = 100
"""Four starts of everything on a busy machine."""

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def run(
    *arguments: str, folder: Path, module: str = "benchmarks"
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, "--folder", str(folder), *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
    )


@needs_linux
@pytest.mark.process
@pytest.mark.slow
def test_two_versions_are_measured_against_each_other(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    found = tmp_path / "found.json"
    sizes = "--jobs 40 --repeat 2 --idle 3 --paced-seconds 0.05 --backlog 30 --durability memory"
    finished = run(*sizes.split(), "--against", sys.executable, "--json", str(found), folder=state)
    assert finished.returncode == 0, finished.stderr
    document = json.loads(found.read_text())
    assert set(document["versions"]) == {"this", "other"}
    rows = {row["metric"]: row for row in document["results"]}
    for name in ("bulk", "submit", "delay", "idle", "paced"):
        for process in ("control plane", "subworker", "runner", "client"):
            assert rows[f"{name}: CPU of {process} (µs/job)"]["median"]["this"] >= 0
    for name in ("bulk", "submit", "delay"):
        for what in ("accepted", "end to end"):
            row = rows[f"{name}: {what} (jobs/s)"]
            assert row["median"]["this"] > 0
            assert row["ratio"] == pytest.approx(row["median"]["this"] / row["median"]["other"])
    assert rows["idle: p99 (ms)"]["median"]["this"] >= rows["idle: p50 (ms)"]["median"]["this"] > 0
    assert "submit only: accepted (jobs/s)" in rows
    assert "backlog: memory of control plane (B/job)" in rows
    assert finished.stdout.splitlines()[0].split() == [
        "durability",
        "metric",
        "this",
        "other",
        "ratio",
    ]
    assert list(state.iterdir()) == []


@needs_linux
@pytest.mark.process
def test_durable_run_prints_every_metric(tmp_path: Path) -> None:
    sizes = "--jobs 20 --repeat 1 --idle 2 --paced-seconds 0.02 --backlog 20 --durability power"
    finished = run(*sizes.split(), folder=tmp_path)
    assert finished.returncode == 0, finished.stderr
    for metric in ("bulk: end to end", "idle: p50", "paced: p99", "submit only", "backlog: memory"):
        assert f"power       {metric}" in finished.stdout
    assert list(tmp_path.iterdir()) == []


@needs_linux
@pytest.mark.process
@pytest.mark.slow
def test_waits_of_a_tenant_are_measured_alone_and_flooded(tmp_path: Path) -> None:
    sizes = "--rounds 1 --jobs 5 --slots 2 --service 0.05 --warm-up 0.5 --durability memory"
    finished = run(*sizes.split(), folder=tmp_path, module="benchmarks.fairness")
    lines = finished.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["alone", "flooded", "longer"], finished.stderr
    assert all("of 5 waits" in line for line in lines[:2])
    # Whether the promise holds is for longer runs on a quiet machine to say.
    assert list(tmp_path.iterdir()) == []


@needs_linux
@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--against", "/nowhere/python"], 1, "cannot run /nowhere/python"),
        (["--jobs", "0"], 2, "give at least 1"),
        (["--durability", "eternal"], 2, "'eternal' is none of power, process, memory"),
    ],
)
def test_wrong_use_is_a_sentence(
    tmp_path: Path, arguments: list[str], code: int, sentence: str
) -> None:
    finished = run(*arguments, folder=tmp_path)
    assert finished.returncode == code
    assert sentence in finished.stderr
    assert "Traceback" not in finished.stderr


def test_a_wrong_result_is_not_a_figure() -> None:
    check([1, 2, 3], range(1, 4))
    for wrong in ([1, 3, 2], [1, 2], [1, 2, None]):
        with pytest.raises(AssertionError):
            check(wrong, range(1, 4))


def test_ratio_is_the_median_of_the_rounds_ratios() -> None:
    results = Results(["this", "other"])
    for mine, other in ((10.0, 10.0), (40.0, 20.0), (9.0, 3.0)):
        results.add("this", "memory", {"speed": [mine]})
        results.add("other", "memory", {"speed": [other, other, 1e9]})
    (row,) = results.rows()
    assert row["ratio"] == 2.0
    assert row["median"] == {"this": 10.0, "other": 10.0}
    assert results.table().splitlines()[1].split() == ["memory", "speed", "10.00", "10.00", "2.00"]


def test_one_version_has_no_ratio() -> None:
    results = Results(["this"])
    results.add("this", "power", {"speed": [1234.5]})
    assert results.rows()[0]["ratio"] is None
    assert results.table().splitlines() == [
        "durability  metric   this",
        "power       speed   1,234",
    ]
