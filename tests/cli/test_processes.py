"""The commands as people run them: real processes, free ports, a user's runtime folder."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from fastworker.cli.main import main

pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="server commands need Linux or macOS"),
]

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 30.0
TASKS = """
from fastworker import task

@task
def add(x: int, y: int) -> int:
    return x + y

@task
def fail() -> None:
    raise ValueError("on purpose")
"""


class _Log:
    """Reads a process's log in a thread; ``found`` is set at ``word`` or at the end."""

    def __init__(self, stream: IO[str], word: str) -> None:
        self.lines: list[str] = []
        self.has_word = False
        self.found = threading.Event()
        self._stream, self._word = stream, word
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        for line in self._stream:
            self.lines.append(line)
            if self._word in line:
                self.has_word = True
                self.found.set()
        self.found.set()


class Place:
    """A folder with tasks, an environment of its own and two free ports."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        base, discovery = _free_ports(2)
        (folder / "shop.py").write_text(TASKS)
        kept = {
            name: text for name, text in os.environ.items() if not name.startswith("FASTWORKER_")
        }
        self.environ = kept | {
            "PYTHONPATH": str(ROOT),
            "XDG_RUNTIME_DIR": str(folder),
            "FASTWORKER_BASE_ADDRESS": f"tcp://127.0.0.1:{base}",
            "FASTWORKER_DISCOVERY_ADDRESS": f"tcp://127.0.0.1:{discovery}",
        }

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, in a process of its own."""
        return subprocess.run(
            [sys.executable, "-m", "fastworker", *arguments],
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )

    @contextmanager
    def running(self, *arguments: str, until: str) -> Iterator[subprocess.Popen[str]]:
        """Run a command until the block ends; it has logged ``until`` when the block begins."""
        process = subprocess.Popen(
            [sys.executable, "-m", "fastworker", *arguments],
            cwd=self.folder,
            env=self.environ,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        log = _Log(process.stderr, until)
        try:
            log.found.wait(PATIENCE_SECONDS)
            assert log.has_word, "".join(log.lines)
            yield process
        finally:
            process.kill()
            process.wait()
            log.reader.join(PATIENCE_SECONDS)
            process.stderr.close()
            print("".join(log.lines))  # pytest shows it if the test failed


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports: list[int] = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ask(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Ask]:
    """Run a command in this process, which is quicker: exit code, stdout and stderr."""
    monkeypatch.chdir(place.folder)
    for name, text in place.environ.items():
        if name.startswith(("FASTWORKER_", "XDG_")):
            monkeypatch.setenv(name, text)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def run(*arguments: str) -> tuple[int, str, str]:
        return main(arguments), *capsys.readouterr()

    yield run
    root.handlers[:] = handlers
    root.setLevel(level)


def test_submit_run_read_and_stop(place: Place, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        place.running(
            "control-plane", "--local-worker", "never", "--task-modules", "shop", until="listening"
        ) as plane,
        place.running(
            "subworker", "--worker-id", "sw1", "--task-modules", "shop", until="connected to"
        ) as worker,
    ):
        assert ask("submit", "add", "[2, 3]", "--wait") == (0, "5\n", "")
        code, out, err = ask("submit", "add", "[2, 3]", "--expires", "0", "--wait")
        assert (code, out) == (1, "") and ": expired: " in err
        code, out, err = ask("submit", "fail", "--wait")
        assert (code, out) == (1, "")
        assert "ValueError: on purpose" in err
        code, out, _ = ask(
            "submit", "add", '{"x": 4, "y": 5}', "--priority", "high", "--wait", "--json"
        )
        found = json.loads(out)
        assert (code, found["result"], found["status"]) == (0, 9, "success")
        _check_reads(ask, found["task_id"])
        unknown = "0190163d-8694-739b-aea5-966c26f8ad91"
        assert [ask(command, unknown)[0] for command in ("status", "result", "cancel")] == [4] * 3
        assert ask("result", "no-id")[0] == 2
        monkeypatch.setenv("FASTWORKER_TOKEN", "x" * 40)
        code, out, err = ask("status")
        assert (code, out, err.count("\n")) == (5, "", 1)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(PATIENCE_SECONDS) == 0
        plane.send_signal(signal.SIGTERM)
        assert plane.wait(PATIENCE_SECONDS) == 0


def _check_reads(ask: Ask, task_id: str) -> None:
    assert ask("result", task_id) == (0, "9\n", "")
    assert "success" in ask("status", task_id)[1]
    assert "sqlite" in ask("status")[1]
    assert json.loads(ask("status", "--json")[1])["jobs"]["success"] == 2
    assert ask("cancel", task_id) == (1, "finished_first\n", "")
    assert [one["label"] for one in json.loads(ask("workers", "--json")[1])] == ["sw1"]
    assert "(x: int, y: int) -> int" in ask("tasks")[1]


def test_no_control_plane_is_3_and_says_how_to_start_one(place: Place) -> None:
    ended = place.run("workers")
    assert (ended.returncode, ended.stdout) == (3, "")
    assert "fastworker run control-plane" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_port_or_store_in_use_is_named(place: Place) -> None:
    with place.running("control-plane", "--local-worker", "never", until="listening"):
        taken = place.run("control-plane")
        assert taken.returncode == 75
        assert taken.stderr.count("\n") == 1
        taken = place.run("control-plane", "--store", "other")
        assert taken.returncode == 73
        assert "--base-address" in taken.stderr
        assert "Traceback" not in taken.stderr


def test_dev_runs_tasks_itself_and_leaves_nothing(place: Place) -> None:
    with place.running("run", "dev", "shop", until="connected to") as dev:
        waited = place.run("submit", "add", "[20, 22]", "--wait")
        assert waited.stdout == "42\n"
        dev.send_signal(signal.SIGINT)
        assert dev.wait(PATIENCE_SECONDS) == 0
    assert not (place.folder / ".fastworker").exists()
