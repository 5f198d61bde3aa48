"""Our adapter joins a harness of other queues, runs its tasks there, and is compared fairly."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cluster import BenchmarkFailed
from benchmarks.peers.harness import Harness
from benchmarks.peers.merging import problems_of, rows, table

BASE = """
import asyncio, os

LOST = "<lost>"

def setting(name, default=""):
    return os.environ.get("BENCH_" + name, default)

class Failed:
    pass

class AsyncAdapter:
    def __init__(self, context):
        self.context = context
        self.loop = asyncio.new_event_loop()
"""

RUN = """
import json, os, socket, subprocess, sys, tempfile, types
from pathlib import Path
from adapters import PEERS

peers, out = sys.argv[2].split(","), Path(sys.argv[6])
environments = Path(os.environ["PEERS_HOME"])
assert sorted(each.name for each in environments.iterdir()) == ["venv-other", "venv-this"]
assert 'base not in ("dask", "this", "this-memory", "other")' in Path("driver.py").read_text()

def measured(name):
    module, variant, venv = PEERS[name]
    if name == "other":
        return 10.0
    assert (environments / f"venv-{venv}" / "bin" / "python").exists()
    started = []
    def spawn(label, command, server=False, **environment):
        started.append(subprocess.Popen(command, env={**os.environ, **environment}))
    with tempfile.TemporaryDirectory() as folder:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            os.environ["BENCH_PORT"] = str(probe.getsockname()[1])
        os.environ["PYTHONPATH"] = str(Path.cwd())
        running = lambda label: bool(started)
        context = types.SimpleNamespace(
            workdir=folder, variant=variant, spawn=spawn, running=running)
        from adapters.this_peer import Adapter
        adapter = Adapter(context)
        try:
            adapter.start(0)
            adapter.start(1, 5)
            return float(adapter.loop.run_until_complete(drive(adapter)))
        finally:
            for process in reversed(started):
                process.terminate()
                process.wait(30)

async def drive(adapter):
    await adapter.open()
    one = await adapter.result(await adapter.submit("nap", (0.01,)), 30)
    assert one == 0, one
    results = [None] * 20
    handles = await adapter.submit_all("add", [(x, 7) for x in range(20)])
    await adapter.results_all(handles, 30, results)
    assert results == [x + 7 for x in range(20)], results
    await adapter.close()
    return len(results)

runs = {name: {"W1": {"tasks_per_s": {"median": measured(name)}}} for name in peers}
out.write_text(json.dumps({"runs": runs}))
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A harness of the kind that we can join, with one peer."""
    folder = tmp_path / "source"
    (folder / "adapters").mkdir(parents=True)
    listing = 'PEERS = {"other": ("other_peer", "", "other")}\n'
    (folder / "adapters" / "__init__.py").write_text(listing)
    (folder / "adapters" / "base.py").write_text(BASE)
    (folder / "driver.py").write_text('if base not in ("dask", "other"):\n    pass\n')
    (folder / "run.py").write_text(RUN)
    (tmp_path / "environments" / "venv-other").mkdir(parents=True)
    return folder


@pytest.mark.skipif(sys.platform != "linux", reason="the harness needs Linux")
@pytest.mark.process
@pytest.mark.slow
def test_our_adapter_runs_the_tasks_of_a_harness(tmp_path: Path, source: Path) -> None:
    (tmp_path / "joined").mkdir()
    harness = Harness(source, tmp_path / "environments", tmp_path / "joined")
    found = harness.run(["this-memory", "other"], ["W1"])
    (row,) = rows([found])
    assert row["median"] == {"this-memory": 20.0, "other": 10.0}
    assert row["ratio to the best peer"] == {"this-memory": 2.0}
    assert "this" not in (source / "adapters" / "__init__.py").read_text()


def test_what_is_no_harness_is_a_sentence(tmp_path: Path, source: Path) -> None:
    with pytest.raises(BenchmarkFailed, match="holds no harness"):
        Harness(tmp_path, tmp_path, tmp_path / "copy")
    (source / "driver.py").write_text("")
    with pytest.raises(BenchmarkFailed, match="names no peers without Redis"):
        Harness(source, tmp_path, tmp_path / "other-copy")


def one_round(**values: dict[str, Any]) -> dict[str, Any]:
    return {"runs": {name: {"W3": answer} for name, answer in values.items()}}


def test_ratio_is_the_one_to_the_best_other_peer_of_each_round() -> None:
    rounds = [
        one_round(this={"p50_ms": 2.0}, slow={"p50_ms": 9.0}, fast={"p50_ms": 4.0}),
        one_round(this={"p50_ms": 1.0}, slow={"p50_ms": 6.0}, fast={"p50_ms": 8.0}),
        one_round(this={"p50_ms": 1.0}, slow={"p50_ms": 9.0}, fast={"p50_ms": 4.0}),
    ]
    row = rows(rounds)[0]
    assert row["ratio to the best peer"] == {"this": 4.0}
    assert table([row]).splitlines()[1].split()[-4:] == ["1.00", "9.00", "4.00", "4.00"]


def test_a_run_with_a_lost_result_has_no_figure() -> None:
    lost = {"p50_ms": 0.1, "problems": {"lost": 1}}
    rounds = [one_round(this={"p50_ms": 2.0}, other=lost), one_round(this=lost, other=lost)]
    row = rows(rounds)[0]
    assert row["rounds"] == {"this": [2.0, None], "other": [None, None]}
    assert row["median"] == {"this": 2.0, "other": None}
    assert row["ratio to the best peer"] == {"this": None}
    assert len(problems_of(rounds)) == 3
