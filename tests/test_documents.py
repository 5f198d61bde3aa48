"""What the documents show runs: README, tutorial and examples, against real processes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cluster import Cluster

ROOT = Path(__file__).parent.parent
PROGRAM_SECONDS = 90
"""Longer than any of these programs takes on a busy machine, shorter than a test may take."""

CALL_APPLICATION = """
import asyncio

async def drive():
    await startup()
    print("total", await total(2, 3))
    await shutdown()

asyncio.run(drive())
"""

CALL_TYPED = """
import asyncio
from fastworker import Client

async def drive():
    async with Client():
        print("total", await typed())

asyncio.run(drive())
"""

pytestmark = pytest.mark.process


def python_blocks(document: str) -> list[str]:
    text = (ROOT / document).read_text("utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def run_program(cluster: Cluster, source: str) -> str:
    """Run it in the cluster's folder as an application would be; what it prints."""
    finished = subprocess.run(
        [sys.executable, "-c", source],
        cwd=cluster.folder,
        env=cluster.client_environment(),
        capture_output=True,
        text=True,
        timeout=PROGRAM_SECONDS,
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.mark.parametrize(
    ("document", "call"),
    [("README.md", CALL_APPLICATION), ("docs/tutorial.md", CALL_TYPED)],
)
def test_document_does_what_it_shows(tmp_path: Path, document: str, call: str) -> None:
    tasks, script, application = python_blocks(document)
    with Cluster(tmp_path, tasks=tasks, module="tasks") as cluster:
        cluster.control_plane()
        cluster.subworker("sw1")
        assert run_program(cluster, script).split()[-1] == "5"
        assert run_program(cluster, application + call) == "total 5\n"
