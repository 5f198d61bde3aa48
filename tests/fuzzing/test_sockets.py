"""Every listening port is fuzzed over real sockets for a moment: see `sockets`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.fuzzing.sockets import fuzz_sockets

SECONDS = 3.0

pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="memory and files are read from /proc"),
]


def test_every_port_survives_fuzzing_and_jobs_go_on_beside_it(tmp_path: Path) -> None:
    report = fuzz_sockets(tmp_path, SECONDS)
    assert report.problems == []
    assert report.jobs > 3 and len(report.by_port) == 4 and min(report.by_port.values()) > 5
