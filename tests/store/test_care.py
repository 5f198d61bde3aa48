"""Looking after a store: what is in it, whether it is sound, copies, pruning, and failures."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fastworker.core.records import BacklogRow, Saves
from fastworker.errors import (
    CannotCreate,
    InvalidOption,
    StoreBroken,
    StoreLocked,
    StoreUnusable,
)
from fastworker.store.backup import TOKENS_SKIPPED, back_up, restore
from fastworker.store.care import check, survey
from fastworker.store.contract import Retention
from fastworker.store.opening import open_store
from fastworker.store.sqlite_file import has_wal_defect
from fastworker.store.tidying import count_outdated, prune_all, vacuum
from tests.store.builders import LANE, make_finish, make_job, run_job

ROOT = Path(__file__).parents[2]
NOW = 1e6
"""Later than all that the builders make."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A closed store: job 1 runs, 2 has ended with a value, 3 waits."""
    folder = tmp_path / "store"
    store = open_store(folder, "power")
    store.save(
        Saves(
            lanes=[LANE],
            inserts=[run_job(make_job(1)), make_job(2), make_job(3)],
            finishes=[make_finish(2)],
            backlogs=[BacklogRow("default", 1, 9)],
            key_ceiling=100,
            token_ceiling=1000,
        )
    )
    store.close()
    return folder


def edit(folder: Path, statement: str) -> None:
    with closing(sqlite3.connect(folder / "fastworker.db", isolation_level=None)) as connection:
        connection.execute(statement)


def keys_in(database: Path) -> set[int]:
    with closing(sqlite3.connect(database)) as connection:
        return {key for (key,) in connection.execute("SELECT key FROM jobs")}


def test_survey_tells_what_is_in_a_store_in_use(folder: Path) -> None:
    store = open_store(folder, "power")
    store.save(Saves(inserts=[make_job(4)]))
    found = survey(folder)
    store.close()
    assert (found.jobs["queued"], found.jobs["running"], found.jobs["success"]) == (2, 1, 1)
    assert found.queues == {LANE[1].queue: 2}
    assert (found.results, found.failures, found.keys) == (1, 0, 0)
    assert found.oldest_job == datetime.fromtimestamp(make_job(1).submitted_at, UTC)
    assert found.bytes > 0 and found.wal_bytes > 0


def test_no_store_is_told_and_none_is_made(tmp_path: Path) -> None:
    for look in (survey, check):
        with pytest.raises(StoreUnusable, match="there is no store"):
            look(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_a_sound_store_has_no_problems_while_in_use(folder: Path) -> None:
    store = open_store(folder, "power")
    now_waiting = BacklogRow("default", 2, 18)
    saves = Saves(inserts=[make_job(4)], finishes=[make_finish(1)], backlogs=[now_waiting])
    store.save(saves)
    assert check(folder).problems == []
    store.close()


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        ("DELETE FROM payloads WHERE key = 3", "have no arguments: 1 (for example job 3)"),
        ("INSERT INTO payloads VALUES (77, x'00')", "arguments belong to no job"),
        ("DELETE FROM lanes", "jobs belong to no queue: 3"),
        ("UPDATE jobs SET status = 0, position = 1 WHERE key = 2", "an end that their status"),
        ("UPDATE jobs SET position = 5 WHERE key = 2", "still wait"),
        ("DELETE FROM results", "lost their outcome"),
        ("UPDATE jobs SET key = 300 WHERE key = 3", "still to be given"),
        ("UPDATE meta SET value = 7 WHERE name = 'ended_success'", "noted as 7, and 1 are there"),
        ("DELETE FROM meta WHERE name = 'results'", "results is noted as 0, and 1 are there"),
        ("DELETE FROM backlogs", "noted as 0 jobs, 0 bytes, and 1 jobs, 9 bytes are there"),
        ("UPDATE backlogs SET size = 8", "noted as 1 jobs, 8 bytes, and 1 jobs, 9 bytes"),
        ("UPDATE migrations SET checksum = 'x'", "a different build"),
        ("PRAGMA application_id = 3", "another program"),
        ("PRAGMA user_version = 99", "has format 99"),
    ],
)
def test_check_names_what_is_wrong(folder: Path, damage: str, problem: str) -> None:
    edit(folder, damage)
    assert any(problem in found for found in check(folder).problems), check(folder).problems


def test_check_finds_a_scribbled_page(folder: Path) -> None:
    with (folder / "fastworker.db").open("r+b") as file:
        file.seek(3 * 4096)
        file.write(b"\xff" * 4096)
    try:
        assert check(folder).problems
    except StoreUnusable as error:
        assert "damaged" in str(error)


# --- copies ---------------------------------------------------------------------------------


def test_a_backup_holds_all_that_was_saved_before_it_began(folder: Path, tmp_path: Path) -> None:
    store = open_store(folder, "power")
    saved = {1, 2, 3}
    stop = threading.Event()

    def keep_saving() -> None:
        for key in range(10, 100_000):
            if stop.is_set():
                return
            store.save(Saves(inserts=[make_job(key, payload=b"x" * 5000)], key_ceiling=key))
            saved.add(key)

    saver = threading.Thread(target=keep_saving)
    saver.start()
    try:
        for number in range(10):
            before = set(saved)
            copy = tmp_path / f"copy{number}"
            assert back_up(folder, copy) == copy.stat().st_size
            assert before <= keys_in(copy) and stat.S_IMODE(copy.stat().st_mode) == 0o600
    finally:
        stop.set()
        saver.join()
        store.close()
    assert len(saved) > 10, "it was busy"
    assert not list(tmp_path.glob("*.part*")) and not list(tmp_path.glob("copy*-*"))


def test_a_backup_does_not_overwrite_unless_told(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.write_text("precious")
    with pytest.raises(CannotCreate, match="--force"):
        back_up(folder, copy)
    assert copy.read_text() == "precious"
    back_up(folder, copy, force=True)
    assert keys_in(copy) == {1, 2, 3}
    with pytest.raises(CannotCreate, match="folder"):
        back_up(folder, tmp_path, force=True)
    with pytest.raises(InvalidOption, match="the store itself"):
        back_up(folder, folder / "fastworker.db", force=True)


def test_restore_brings_a_store_back_and_keeps_the_old_one(folder: Path, tmp_path: Path) -> None:
    back_up(folder, tmp_path / "copy")
    store = open_store(folder, "power")
    store.save(Saves(inserts=[make_job(4)]))
    with pytest.raises(StoreLocked, match=r"held by process \d+"):
        restore(tmp_path / "copy", folder)
    store.close()

    old = restore(tmp_path / "copy", folder)
    assert old is not None and keys_in(old) == {1, 2, 3, 4}
    assert check(folder).problems == []
    store = open_store(folder, "power")
    snapshot = store.load()
    assert snapshot.queued == {1: 1} and [job.key for job in snapshot.running] == [1]
    assert snapshot.token_ceiling == 1000 + TOKENS_SKIPPED
    store.close()


def test_restore_takes_a_journal_along_and_moves_one_aside(folder: Path, tmp_path: Path) -> None:
    store = open_store(folder, "power")
    store.save(Saves(inserts=[make_job(4)]))
    shutil.copytree(folder, tmp_path / "killed")  # as kill -9 leaves it: the journal is in use
    store.close()
    old = restore(folder / "fastworker.db", tmp_path / "killed")
    assert old is not None and Path(f"{old}-wal").stat().st_size > 0
    assert keys_in(tmp_path / "killed" / "fastworker.db") == {1, 2, 3, 4}

    restore(old, tmp_path / "third")
    assert keys_in(tmp_path / "third" / "fastworker.db") == {1, 2, 3, 4}


@pytest.mark.parametrize("source", ["damaged", "foreign", "newer", "absent"])
def test_restore_refuses_a_bad_source_and_changes_nothing(
    folder: Path, tmp_path: Path, source: str
) -> None:
    copy = tmp_path / "copies" / "fastworker.db"
    copy.parent.mkdir()
    back_up(folder, copy)
    if source == "damaged":
        copy.write_bytes(copy.read_bytes()[:5000])
    elif source == "absent":
        copy.unlink()
    else:
        edit(copy.parent, f"PRAGMA {'user_version' if source == 'newer' else 'application_id'} = 9")
    with pytest.raises((StoreUnusable, InvalidOption)):
        restore(copy, folder)
    assert keys_in(folder / "fastworker.db") == {1, 2, 3}
    assert not list(folder.glob("*replaced*"))
    open_store(folder, "power").close()


# --- pruning --------------------------------------------------------------------------------


def test_prune_removes_what_a_dry_run_counts(folder: Path) -> None:
    store = open_store(folder, "power")
    many = [make_job(key, payload=b"x" * 1000) for key in range(10, 2510)]
    ends = [make_finish(job.key) for job in many]
    store.save(Saves(inserts=many, finishes=ends, key_ceiling=3000))
    with pytest.raises(StoreLocked):
        prune_all(folder, Retention(), now=NOW)
    store.close()
    now = make_finish(2510).finished_at
    assert count_outdated(folder, Retention(), now=now)[:2] == (0, 0)
    old = Retention(results_seconds=0.0)
    assert count_outdated(folder, old, now=now)[:2] == (2501, 0)
    assert prune_all(folder, old, now=now)[:2] == (2501, 0)
    before, after = vacuum(folder)
    assert after < before
    assert check(folder).problems == []
    gone = Retention(tombstone_seconds=0.0)
    assert count_outdated(folder, gone, now=now)[:2] == (0, 2501)
    assert prune_all(folder, gone, now=now)[:2] == (0, 2501)
    assert keys_in(folder / "fastworker.db") == {1, 3}


def test_prune_makes_no_store(tmp_path: Path) -> None:
    with pytest.raises(StoreUnusable, match="there is no store"):
        prune_all(tmp_path / "none", Retention(), now=NOW)
    assert not (tmp_path / "none").exists()


# --- a store that is taken away or fails ------------------------------------------------------


@pytest.mark.parametrize("how", ["rm", "mv", "cp over"])
def test_a_store_taken_away_is_noticed_while_nothing_is_saved(
    folder: Path, tmp_path: Path, how: str
) -> None:
    back_up(folder, tmp_path / "copy")
    store = open_store(folder, "power")
    store.save(Saves(inserts=[make_job(4)]))
    store.check_present()
    database = folder / "fastworker.db"
    if how == "rm":
        database.unlink()
    elif how == "mv":
        os.replace(tmp_path / "copy", database)
    else:
        subprocess.run(["cp", str(tmp_path / "copy"), str(database)], check=True)
    copied = database.read_bytes() if database.exists() else b""
    with pytest.raises(StoreUnusable, match=r"deleted or replaced|overwritten"):
        store.check_present()
    with pytest.raises(StoreBroken, match="failed before"):
        store.save(Saves(inserts=[make_job(5)]))
    store.close()
    assert (database.read_bytes() if database.exists() else b"") == copied, "left as it was put"


def test_a_store_overwritten_between_saves_takes_no_more(folder: Path, tmp_path: Path) -> None:
    back_up(folder, tmp_path / "copy")
    store = open_store(folder, "power")
    (folder / "fastworker.db").write_bytes((tmp_path / "copy").read_bytes())
    with pytest.raises(StoreUnusable, match="overwritten"):
        store.save(Saves(inserts=[make_job(4)]))
    store.close()


def test_own_checkpoints_are_no_strangers(folder: Path) -> None:
    store = open_store(folder, "power")
    for key in range(10, 60):
        store.save(Saves(inserts=[make_job(key, payload=b"x" * 200_000)], key_ceiling=100))
        store.check_present()
    assert (folder / "fastworker.db").stat().st_size > 4_000_000, "there were checkpoints"
    store.close()


SYNC_SCRIPT = """
import sys; from pathlib import Path
from fastworker.core.records import BacklogRow, Saves
from fastworker.errors import StoreBroken
from fastworker.store.opening import open_store; from tests.store.builders import *
store = open_store(Path(sys.argv[1]), 'power')
print('opened', flush=True)
try:
    for key in range(10, 40):
        waits = [BacklogRow('default', key - 8, 9 * (key - 8))]
        store.save(Saves(inserts=[make_job(key)], backlogs=waits, key_ceiling=100))
        print(key, flush=True)
except StoreBroken:
    try: store.save(Saves(inserts=[make_job(99)]))
    except StoreBroken as error: assert 'failed before' in str(error)
    else: sys.exit('it went on')
    store.close()
    sys.exit(74)
"""


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace to make syncs fail")
@pytest.mark.parametrize("when", ["8", "15+"])
def test_after_a_failed_sync_nothing_more_is_stored(folder: Path, when: str) -> None:
    inject = f"inject=fdatasync,fsync:error=EIO:when={when}"
    command = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", inject, sys.executable]
    ended = subprocess.run(
        [*command, "-c", SYNC_SCRIPT, str(folder)], cwd=ROOT, capture_output=True, text=True
    )
    if "Operation not permitted" in ended.stderr:
        pytest.skip("strace may not trace here")
    assert ended.returncode == 74, ended.stderr
    acknowledged = {int(line) for line in ended.stdout.split()[1:]}
    assert acknowledged
    store = open_store(folder, "power")
    store.close()
    stored = keys_in(folder / "fastworker.db")
    assert acknowledged <= stored and 99 not in stored
    assert len(stored - acknowledged - {1, 2, 3}) <= 1, "only the one that failed is in doubt"
    assert check(folder).problems == []


# --- the version of SQLite ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "defect"),
    [
        ((3, 40, 1), True),
        ((3, 44, 6), False),
        ((3, 45, 0), True),
        ((3, 50, 6), True),
        ((3, 50, 7), False),
        ((3, 51, 2), True),
        ((3, 51, 3), False),
        ((3, 53, 0), False),
    ],
)
def test_versions_with_the_defect_are_known(version: tuple[int, ...], defect: bool) -> None:
    assert has_wal_defect(version) is defect


def test_the_start_warns_of_a_version_with_the_defect(tmp_path: Path) -> None:
    store = open_store(tmp_path / "store", "power")
    warned = any("WAL reset" in text for text in store.info.warnings)
    store.close()
    assert warned is has_wal_defect(sqlite3.sqlite_version_info)
