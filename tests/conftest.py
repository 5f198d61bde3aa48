"""Fixtures every test may use. Those of one part live in that part's folder."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.cluster import Cluster

# The same examples every time, however slow the machine is: a red build means a change did it.
settings.register_profile("fastworker", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("fastworker")


# Programs in the background of a shell are started without Ctrl-C, and would pass that on to
# every process of ours that a test interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may have fastworker settings of their own; no test sees them."""
    for name in list(os.environ):
        if name.startswith("FASTWORKER_"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    """Commands that a test runs in this process configure logging, for streams that do not last."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Real processes on free ports; at the end all are gone and none has shown a traceback."""
    with Cluster(tmp_path) as cluster:
        yield cluster
        cluster.close()
        print(cluster.logs())  # shown with a test that failed
