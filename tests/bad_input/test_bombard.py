"""The bombardment, short: see `bombard`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.bad_input.bombard import bombard

SECONDS = 3.0
CI_PATIENCE = 3.0
"""The promised time, multiplied where a busy build server measures it."""

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(sys.platform != "linux", reason="memory and files are read from /proc"),
]


def test_everyone_is_served_under_bombardment(tmp_path: Path) -> None:
    report = bombard(tmp_path, SECONDS)
    assert report.problems(patience=CI_PATIENCE) == []
    assert report.attacks > 20 and report.served > 5
