"""The process under test is watched and ended as it should be, or other tests prove nothing."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster import Cluster
from tests.support.process import Member

PROGRAM = """
import signal, sys, threading
def stop(*_):
    print("stopping", flush=True)
    sys.exit(7)
signal.signal(signal.SIGTERM, stop)
print("started", file=sys.stderr, flush=True)
threading.Event().wait()
"""


@pytest.fixture
def member(tmp_path: Path) -> Iterator[Member]:
    command = (sys.executable, "-c", PROGRAM)
    member = Member("sample", command, environment=dict(os.environ), folder=tmp_path)
    yield member
    member.close()


def test_lines_of_both_outputs_are_seen(member: Member) -> None:
    assert member.wait_line("^start") == "started"
    assert member.terminate() == 7
    assert member.wait_line("stopping") == "stopping"


def test_kill_ends_it_at_once(member: Member) -> None:
    member.kill()
    assert member.wait() == -signal.SIGKILL


def test_a_line_that_never_comes_fails_with_the_log(member: Member) -> None:
    member.wait_line("started")
    member.kill()
    with pytest.raises(AssertionError, match="never wrote /ready/:\nstarted"):
        member.wait_line("ready")


def test_children_are_listed(tmp_path: Path) -> None:
    program = (
        "import subprocess; p = subprocess.Popen(['sleep', '60']);"
        "print('child', p.pid, flush=True); p.wait()"
    )
    command = (sys.executable, "-c", program)
    member = Member("parent", command, environment=dict(os.environ), folder=tmp_path)
    try:
        child = int(member.wait_line("child").split()[1])
        assert member.children() == [child]
    finally:
        member.close()


def test_a_traceback_in_any_log_is_an_error(tmp_path: Path) -> None:
    command = (sys.executable, "-c", "raise SystemError('broken')")
    with pytest.raises(AssertionError, match="SystemError: broken"), Cluster(tmp_path) as cluster:
        broken = Member("broken", command, environment=dict(os.environ), folder=tmp_path)
        cluster.members.append(broken)
        broken.wait()
