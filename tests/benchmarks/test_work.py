"""A job is no more work than was committed to: counted in calls, which no slow machine changes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.work import COMMITTED, MARGIN, judge

ROOT = Path(__file__).parents[2]


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="other versions count differently")
def test_a_job_is_as_many_calls_as_committed() -> None:
    counted = subprocess.run(
        [sys.executable, "-m", "benchmarks.work", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert counted.returncode == 0, counted.stdout + counted.stderr


@pytest.mark.parametrize("name", COMMITTED)
def test_growth_beyond_the_margin_is_named_and_so_is_a_figure_that_is_too_high(name: str) -> None:
    committed = COMMITTED[name]
    assert judge(name, committed * (1 + MARGIN / 2)) is None
    assert judge(name, committed * (1 - MARGIN / 2)) is None
    assert "at most" in (judge(name, committed * (1 + MARGIN * 2)) or "")
    assert "COMMITTED" in (judge(name, committed * (1 - MARGIN * 2)) or "")
