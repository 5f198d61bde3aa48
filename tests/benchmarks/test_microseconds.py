"""A sampled process says where its processor time goes, and what that costs a job."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.microseconds import Profile, _stacks
from benchmarks.sampler import sitecustomize

BUSY = """
import time

def spin():
    while time.process_time() < 0.3:
        pass

def outer():
    spin()
    time.sleep(0.2)

outer()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="samples are of Linux")
def test_a_process_is_sampled_where_it_uses_the_processor(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(sitecustomize.__file__).parent),
        sitecustomize.TARGET_VARIABLE: str(tmp_path),
    }
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", BUSY], env=environment, check=True, timeout=60)
    (file,) = tmp_path.iterdir()
    stacks = list(_stacks(file, began, time.monotonic()))
    spinning = [stack for stack in stacks if stack[-2:] == ("<string>:outer", "<string>:spin")]
    assert len(spinning) > 10
    asleep = [stack for stack in stacks if stack[-1] == "<string>:outer"]
    assert len(asleep) < len(spinning) / 10
    assert list(_stacks(file, 0.0, began)) == []
    assert list(_stacks(file, time.monotonic(), math.inf)) == []


def test_a_function_costs_its_share_of_a_jobs_processor_time() -> None:
    stacks = [("main", "decide"), ("main", "decide"), ("main", "decide", "decide"), ("main",)]
    rows = Profile("control plane", 20.0, stacks).rows()
    assert [tuple(row.values())[1:] for row in rows] == [
        ("decide", 15.0, 15.0),
        ("main", 5.0, 20.0),
    ]


def test_a_process_without_samples_costs_nothing_anywhere(tmp_path: Path) -> None:
    assert Profile("runner", 0.0, list(_stacks(tmp_path / "none", 0, 1))).rows() == []
