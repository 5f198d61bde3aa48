"""What only the SQLite store does: its folder, its lock, and what it refuses to open."""

from __future__ import annotations

import resource
import shutil
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from fastworker.core.records import Saves
from fastworker.errors import (
    CannotCreate,
    InvalidOption,
    StoreBroken,
    StoreLocked,
    StoreUnusable,
)
from fastworker.store import sqlite_rest
from fastworker.store.contract import NoSpace, Retention
from fastworker.store.opening import open_store
from tests.store.builders import LANE, OTHER_LANE, make_finish, make_job, run_job


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store that was closed in good order, with one running and one ended job."""
    folder = tmp_path / "store"
    store = open_store(folder, "power")
    store.save(
        Saves(
            lanes=[LANE],
            inserts=[run_job(make_job(1)), make_job(2)],
            finishes=[make_finish(2)],
            key_ceiling=100,
        )
    )
    store.close()
    return folder


def edit(folder: Path, statement: str) -> None:
    with closing(sqlite3.connect(folder / "fastworker.db", isolation_level=None)) as connection:
        connection.execute(statement)


def refusal(folder: Path) -> str:
    with pytest.raises(StoreUnusable) as caught:
        open_store(folder, "power")
    return str(caught.value)


def test_lanes_that_no_job_is_left_of_are_forgotten_at_a_start(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(folder, "power")
    store.save(Saves(lanes=[OTHER_LANE]))
    assert store.load().lanes == [LANE, OTHER_LANE]
    monkeypatch.setattr(sqlite_rest, "FORGET_LANES_BEYOND", 1)
    assert store.load().lanes == [LANE]
    store.close()


def test_the_folder_is_private_and_ignored_by_git(folder: Path) -> None:
    store = open_store(folder, "power")
    store.save(Saves(inserts=[make_job(3)]))
    for path in folder.glob("fastworker.db*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert (folder / ".gitignore").read_text() == "*\n"
    store.close()


@pytest.mark.parametrize(("durability", "level"), [("power", 2), ("process", 1)])
def test_durability_selects_how_commits_are_synced(
    tmp_path: Path, durability: str, level: int
) -> None:
    store = open_store(tmp_path, durability)
    assert (store.info.kind, store.info.durability) == ("sqlite", durability)
    connection: sqlite3.Connection = vars(store)["_connection"]
    assert connection.execute("PRAGMA synchronous").fetchone() == (level,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    store.close()


def test_options_that_make_no_store_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match="durability"):
        open_store(tmp_path, "fast")
    with pytest.raises(InvalidOption, match="folder"):
        open_store(None, "power")


def test_a_second_opener_is_told_who_holds_the_store(folder: Path) -> None:
    store = open_store(folder, "power")
    with pytest.raises(StoreLocked, match=r"held by process \d+ on "):
        open_store(folder, "power")
    store.close()
    open_store(folder, "power").close()


def test_what_was_saved_before_a_kill_is_there(folder: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from fastworker.core.records import Saves\n"
        "from fastworker.store.opening import open_store; from tests.store.builders import *\n"
        "store = open_store(Path(sys.argv[1]), 'power')\n"
        "store.save(Saves(inserts=[make_job(3)], finishes=[make_finish(1)], key_ceiling=200))\n"
        "os.kill(os.getpid(), 9)"
    )
    root = Path(__file__).parents[2]
    ended = subprocess.run([sys.executable, "-c", script, str(folder)], cwd=root, check=False)
    assert ended.returncode == -9
    store = open_store(folder, "power")
    snapshot = store.load()
    assert (snapshot.queued, snapshot.running, snapshot.key_ceiling) == ({1: 1}, [], 200)
    assert store.reader().counts()["success"] == 2
    # What pruning goes by was counted in the same transaction.
    assert store.prune(Retention(results_count=1), now=0.0).results == 1
    store.close()


def test_an_interrupted_creation_is_done_again(tmp_path: Path) -> None:
    (tmp_path / "fastworker.db.new").write_bytes(b"half")
    store = open_store(tmp_path, "power")
    store.save(Saves(lanes=[LANE], inserts=[make_job(1)]))
    store.close()
    assert not (tmp_path / "fastworker.db.new").exists()


def test_a_file_where_the_folder_should_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotCreate, match="check its owner"):
        open_store(tmp_path / "file" / "store", "power")


@pytest.mark.parametrize("content", [b"", b"hello, I am a text file of some length"])
def test_a_file_that_is_no_database_is_refused_and_kept(folder: Path, content: bytes) -> None:
    (folder / "fastworker.db").write_bytes(content)
    assert "is not a database" in refusal(folder)
    assert (folder / "fastworker.db").read_bytes() == content


def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    edit(tmp_path, "CREATE TABLE other (x)")
    assert "another program" in refusal(tmp_path)


def test_a_newer_store_is_refused(folder: Path) -> None:
    edit(folder, "PRAGMA user_version = 999")
    assert "has format 999" in refusal(folder)


def test_a_store_of_a_different_build_is_refused(folder: Path) -> None:
    edit(folder, "UPDATE migrations SET checksum = 'x'")
    assert "different build" in refusal(folder)


def test_a_truncated_database_is_refused(folder: Path) -> None:
    database = folder / "fastworker.db"
    database.write_bytes(database.read_bytes()[:-4096])
    assert "damaged" in refusal(folder)


def test_a_scribbled_page_is_refused(folder: Path) -> None:
    with (folder / "fastworker.db").open("r+b") as file:
        file.seek(2 * 4096)
        file.write(b"\xff" * 4096)
    assert "damaged" in refusal(folder)


def test_a_database_that_vanished_is_not_made_anew(folder: Path) -> None:
    (folder / "fastworker.db").unlink()
    assert "is gone" in refusal(folder)
    shutil.rmtree(folder)
    open_store(folder, "power").close()


@pytest.mark.parametrize("name", ["fastworker.db", "fastworker.db-wal", "lock"])
def test_a_store_taken_away_while_open_stops_at_the_next_save(folder: Path, name: str) -> None:
    store = open_store(folder, "power")
    store.save(Saves(inserts=[make_job(3)]))
    (folder / name).rename(folder / "elsewhere")
    with pytest.raises(StoreUnusable, match="deleted or replaced"):
        store.save(Saves(inserts=[make_job(4)]))
    with pytest.raises(StoreBroken, match="failed before"):
        store.load()
    store.close()


def test_a_full_disk_rolls_back_and_leaves_the_store_usable(folder: Path) -> None:
    store = open_store(folder, "power")
    connection: sqlite3.Connection = vars(store)["_connection"]
    connection.execute("PRAGMA max_page_count = 1")
    large = [make_job(key, payload=b"x" * 100_000) for key in range(10, 20)]
    with pytest.raises(NoSpace, match="no space left"):
        store.save(Saves(inserts=large, finishes=[make_finish(1)]))
    connection.execute("PRAGMA max_page_count = 100000")
    assert store.reader().counts()["running"] == 1
    store.save(Saves(inserts=large))
    assert store.reader().counts()["queued"] == 10
    store.close()


def test_a_failed_write_stops_the_store_for_good(folder: Path) -> None:
    script = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from fastworker.core.records import Saves; from fastworker.errors import StoreBroken\n"
        "from fastworker.store.opening import open_store; from tests.store.builders import *\n"
        "store = open_store(Path(sys.argv[1]), 'power')\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "_, most = resource.getrlimit(resource.RLIMIT_FSIZE)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, most))\n"
        "failed = []\n"
        "for size in (100_000, 1):\n"
        "    try: store.save(Saves(inserts=[make_job(3, payload=b'x' * size)]))\n"
        "    except StoreBroken as error: failed.append(str(error))\n"
        "assert len(failed) == 2 and 'failed before' in failed[1], failed\n"
    )
    assert resource.RLIMIT_FSIZE  # the limit makes writes fail with EFBIG, which SQLite calls I/O
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", script, str(folder)], cwd=root, check=True, timeout=10)
    store = open_store(folder, "power")
    assert store.reader().counts()["running"] == 1
    store.close()


def test_closing_twice_does_nothing(folder: Path) -> None:
    store = open_store(folder, "power")
    store.reader()
    store.close()
    store.close()
    assert not (folder / "fastworker.db-wal").exists()
