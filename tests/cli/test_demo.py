"""The demo: what it counts, what it shows, and that nothing of it is left."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastworker.cli.demo import find_files
from fastworker.cli.demo_report import Tally, show_report
from fastworker.cli.demo_tasks import CHUNK_BYTES, count_words
from fastworker.core.records import TaskResult, TaskStatus
from fastworker.errors import InvalidOption
from tests.support.process import Member

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("seam", [b"a" * 20, b" " * 20, b"ends here", b"\n"])
def test_words_on_the_seam_of_two_chunks_are_counted_once(tmp_path: Path, seam: bytes) -> None:
    data = b"x " * (CHUNK_BYTES // 2 - len(seam) // 4) + seam + b" y z" * 1000
    path = tmp_path / "file"
    path.write_bytes(data)
    count = count_words(os.fsencode(path))
    assert count["words"] == len(data.split())
    assert count["bytes"] == len(data)
    assert count["sha256"] == hashlib.sha256(data).hexdigest()


def test_all_files_are_found_but_only_files(tmp_path: Path) -> None:
    (tmp_path / "deep" / "deeper").mkdir(parents=True)
    (tmp_path / "site-packages").mkdir()
    for name in ("a", "deep/b", "deep/deeper/c", "site-packages/d"):
        (tmp_path / name).touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "round").symlink_to(tmp_path)
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    (tmp_path / "deep" / "link").symlink_to(tmp_path / "a")
    undecodable = os.path.join(os.fsencode(tmp_path), b"\xff\n")
    os.close(os.open(undecodable, os.O_CREAT))
    found = find_files(tmp_path, frozenset({"site-packages"})).files
    names = [os.path.relpath(path, os.fsencode(tmp_path)) for path in found]
    assert sorted(names) == [b"a", b"deep/b", b"deep/deeper/c", b"deep/link", b"\xff\n"]


@pytest.mark.parametrize("name", ["missing", "file", "empty", "nul\0"])
def test_a_folder_without_files_is_one_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidOption, match="folder") as raised:
        find_files(tmp_path / name, frozenset())
    assert "\n" not in str(raised.value)


def test_report_with_failures_only(capsys: pytest.CaptureFixture[str]) -> None:
    tally = Tally(2)
    for path in (b"/x/a", b"/x/b"):
        failed = TaskResult("id", TaskStatus.FAILURE, error=f"PermissionError: {path!r}\x1b[2J")
        tally.add(path, failed)
    show_report(Path("/x"), tally, seconds=0.5)
    out = capsys.readouterr().out
    assert "0 files, 0 words, 0 B; 2 could not be counted" in out
    assert "PermissionError: b'/x/a'" in out
    assert "2 jobs in 0.5 s: 4 jobs/s" in out
    assert "\x1b" not in out


MANY_FILES = 30_000


class Demo:
    """A demo as a person runs it, where settings are wrong, with a mark on its children."""

    def __init__(self, place: Path, *arguments: str) -> None:
        self.mark = secrets.token_hex(16)
        self.scratch = place / "tmp"
        self.scratch.mkdir()
        (place / "fastworker.toml").write_text("nonsense = [")
        kept = {name: text for name, text in os.environ.items() if "FASTWORKER" not in name}
        environment = {
            **kept,
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "TMPDIR": str(self.scratch),
            "DEMO_MARK": self.mark,
            "FASTWORKER_BASE_ADDRESS": "nonsense",
        }
        command = (sys.executable, "-m", "fastworker", "demo", *arguments)
        self.member = Member("demo", command, environment=environment, folder=place)

    def leftovers(self) -> list[str]:
        """Its files, and the command lines of processes that descend from it."""
        mark = self.mark.encode()
        left = [str(path) for path in self.scratch.iterdir()]
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if mark in (process / "environ").read_bytes():
                    left.append((process / "cmdline").read_text())
            except OSError:
                continue  # not ours, or just ended
        return left


@pytest.fixture
def demos(tmp_path: Path) -> Iterator[list[Demo]]:
    started: list[Demo] = []
    yield started
    for demo in started:
        demo.member.close()


def many_files(folder: Path) -> str:
    """So many that they are not counted before the test has done something."""
    texts = folder / "texts"
    texts.mkdir()
    text = folder / "text"
    text.write_text("some words " * 100)
    for number in range(MANY_FILES):
        os.link(text, texts / str(number))
    return texts.name


needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@needs_linux
@pytest.mark.process
@pytest.mark.slow
def test_demo_counts_and_leaves_nothing(tmp_path: Path, demos: list[Demo]) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(40):
        (folder / f"text-{number}").write_text("some words " * number)
    (folder / "unreadable").symlink_to("/proc/self/mem")  # even for root
    demo = Demo(tmp_path, "texts")
    demos.append(demo)
    assert demo.member.wait() == 0, demo.member.log
    log = demo.member.log
    words = 2 * sum(range(40))
    assert f"41 files in {folder}" in log
    assert f"40 files, {words:,} words, {11 * sum(range(40)) / 1000:.3g} kB" in log
    assert "1 could not be counted" in log
    assert "OSError" in log
    assert re.search(r"^Most words .*\ntext-39 +78 +429 ", log, re.MULTILINE)
    assert re.search(r"^41 jobs in [\d.]+ s: .* jobs/s", log, re.MULTILINE)
    assert "Traceback" not in log
    assert demo.leftovers() == []


@needs_linux
@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "line"),
    [(signal.SIGINT, 130, "^A control plane on"), (signal.SIGTERM, 143, "of [0-9,]+ files")],
)
def test_stopped_demo_leaves_nothing(
    tmp_path: Path, demos: list[Demo], number: signal.Signals, code: int, line: str
) -> None:
    demo = Demo(tmp_path, many_files(tmp_path))
    demos.append(demo)
    demo.member.wait_line(line)
    demo.member.signal(number)
    assert demo.member.wait() == code, demo.member.log
    assert "Traceback" not in demo.member.log
    assert demo.leftovers() == []


@needs_linux
@pytest.mark.process
@pytest.mark.slow
def test_a_killed_control_plane_ends_the_demo_with_a_sentence(
    tmp_path: Path, demos: list[Demo]
) -> None:
    demo = Demo(tmp_path, many_files(tmp_path))
    demos.append(demo)
    demo.member.wait_line("^A control plane on")
    for pid in demo.member.children():
        if b"control-plane\0--base-address" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)
    assert demo.member.wait() == 1, demo.member.log
    assert "fastworker: the demo's control plane ended with exit code -9" in demo.member.log
    assert "Traceback" not in demo.member.log
    assert demo.leftovers() == []
