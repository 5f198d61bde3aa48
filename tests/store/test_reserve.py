"""The reserve: a full disk stores outcomes, and takes jobs again when it has space."""

from __future__ import annotations

import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from fastworker.core.records import BacklogRow, Saves
from fastworker.store import reserve as reserves
from fastworker.store.care import check
from fastworker.store.contract import NoSpace, Retention, Store
from fastworker.store.opening import open_store
from tests.store.builders import LANE, make_finish, make_job, run_job

ROOT = Path(__file__).parents[2]
NOW = 1e6
"""Later than all that the builders make."""


class Disk(NamedTuple):
    """A small disk of its own that can be filled."""

    path: Path

    def fill(self) -> None:
        with (self.path / "filler").open("wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                return

    def free(self) -> None:
        (self.path / "filler").unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(path)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield Disk(path)
    subprocess.run(["umount", "--lazy", str(path)], check=True)


@pytest.fixture
def looking_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reserves, "REGAIN_EVERY_SECONDS", 0.0)


def save_until_full(store: Store, *, first: int) -> int:
    """Save new jobs until they are refused; the first key that was not taken."""
    key = first
    with pytest.raises(NoSpace):
        for key in range(first, first + 100_000):
            waits = BacklogRow("default", key - first + 1, 9 * (key - first + 1))
            store.save(Saves(inserts=[make_job(key)], backlogs=[waits], key_ceiling=key))
    return key


def save_outcome(store: Store, key: int) -> None:
    """As the dispatch loop does it: once again when the reserve was given up."""
    try:
        store.save(Saves(finishes=[make_finish(key)]))
    except NoSpace as full:
        if not full.room_made:
            raise
        store.save(Saves(finishes=[make_finish(key)]))


@pytest.mark.usefixtures("looking_always")
def test_outcomes_are_stored_on_a_full_disk_and_jobs_when_it_has_space(disk: Disk) -> None:
    store = open_store(disk.path / "store", "power")
    assert not [text for text in store.info.warnings if "reserve" in text]
    reserve = disk.path / "store" / "reserve"
    assert (reserve.stat().st_size, stat.S_IMODE(reserve.stat().st_mode)) == (4 << 20, 0o600)
    jobs = [run_job(make_job(key)) for key in range(1, 1001)]
    store.save(Saves(lanes=[LANE], inserts=jobs, key_ceiling=1000, token_ceiling=7))
    disk.fill()
    after = save_until_full(store, first=2000)
    assert reserve.exists(), "new jobs never get the reserve"

    for job in jobs:
        save_outcome(store, job.key)
    assert not reserve.exists()
    with pytest.raises(NoSpace, match="reserve"):
        store.save(Saves(inserts=[make_job(after)]))
    assert store.prune(Retention(results_count=0), now=NOW).results > 0

    disk.free()
    waits = after - 2000 + 1
    backlog = BacklogRow("default", waits, 9 * waits)
    store.save(Saves(inserts=[make_job(after)], backlogs=[backlog], key_ceiling=after))
    assert reserve.stat().st_blocks * 512 >= 4 << 20
    counts = store.reader().counts()
    assert counts["success"] == 1000 and counts["queued"] == waits
    store.close()
    assert check(disk.path / "store").problems == []


def test_a_store_killed_on_a_full_disk_starts_again(disk: Disk) -> None:
    folder = disk.path / "store"
    script = (
        "import os, sys; from pathlib import Path; from fastworker.core.records import Saves\n"
        "from fastworker.store.opening import open_store; from tests.store.builders import *\n"
        "from fastworker.store.contract import NoSpace\n"
        "store = open_store(Path(sys.argv[1]), 'power')\n"
        "jobs = [run_job(make_job(key)) for key in range(1, 101)]\n"
        "store.save(Saves(lanes=[LANE], inserts=jobs, key_ceiling=100, token_ceiling=7))\n"
        "filler = open(sys.argv[2], 'wb', buffering=0)\n"
        "try:\n"
        "    while filler.write(bytes(4096)) == 4096: pass\n"
        "except OSError: pass\n"
        "try:\n"
        "    for key in range(1, 101): store.save(Saves(finishes=[make_finish(key)]))\n"
        "except NoSpace: pass\n"
        "os.kill(os.getpid(), 9)"
    )
    command = [sys.executable, "-c", script, str(folder), str(disk.path / "filler")]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -9
    store = open_store(folder, "power")
    for job in store.load().running:
        save_outcome(store, job.key)
    store.close()
    disk.free()
    assert check(folder).problems == []


def test_a_disk_too_small_for_a_reserve_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reserves, "SMALLEST_DISK_BYTES", 1 << 60)
    store = open_store(tmp_path / "store", "power")
    assert any("too small for a reserve" in text for text in store.info.warnings)
    store.save(Saves(lanes=[LANE], inserts=[make_job(1)]))
    store.close()
    assert not (tmp_path / "store" / "reserve").exists()
