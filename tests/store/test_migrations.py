"""Steps of the schema happen as a whole or not at all, and are never edited."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import cbor2
import pytest

from fastworker.core.questions import Questions
from fastworker.core.records import BacklogRow, FinishRow, JobRow, Saves, TaskStatus
from fastworker.errors import StoreUnusable
from fastworker.store import migrations
from fastworker.store.contract import DeadFilter
from fastworker.store.migrations import APPLICATION_ID, MIGRATIONS, checksum, migrate
from fastworker.store.opening import open_store
from tests.store.builders import (
    FAILED,
    LANE,
    job_id,
    make_attempt,
    make_failure,
    make_finish,
    make_job,
    run_job,
)

WAITING = make_job(1, expires_at=9000.0, due_at=9000.0, deaths=1)
RUNNING = run_job(make_job(2))
LATER = make_job(3, status=TaskStatus.SCHEDULED, position=None, ready_at=70.0, due_at=70.0)
GOOD, BAD = make_finish(4), make_failure(5)


def number(connection: sqlite3.Connection, pragma: str) -> int:
    return int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])


def test_a_second_migration_changes_nothing() -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, location="here")
        migrate(connection, location="here")
        assert number(connection, "user_version") == len(MIGRATIONS)
        assert number(connection, "application_id") == APPLICATION_ID


def test_a_step_that_fails_leaves_the_version_before(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        migrate(connection, location="here")
        broken = ("CREATE TABLE half (x)", "CREATE TABLE lanes (x)")
        monkeypatch.setattr(migrations, "MIGRATIONS", (*MIGRATIONS, broken))
        with pytest.raises(sqlite3.OperationalError):
            migrate(connection, location="here")
        assert number(connection, "user_version") == len(MIGRATIONS)
        with pytest.raises(sqlite3.OperationalError):
            connection.execute("SELECT * FROM half")


def test_steps_that_stores_were_made_with_are_as_they_were() -> None:
    assert checksum(1) == "bd9c631b656c4618871214d585709ea2"


@pytest.fixture
def old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store of the first format, with a job of every kind, as the program then wrote it."""
    folder = tmp_path / "old"
    folder.mkdir()
    with closing(sqlite3.connect(folder / "fastworker.db", isolation_level=None)) as connection:
        with monkeypatch.context() as patched:
            patched.setattr(migrations, "MIGRATIONS", MIGRATIONS[:1])
            migrate(connection, location="here")
        connection.execute("PRAGMA journal_mode = WAL")
        execute = connection.execute
        execute("INSERT INTO lanes VALUES (?, ?, ?, ?, ?)", (LANE.lane, *LANE.key))
        for row in (WAITING, RUNNING, LATER):
            write_old_job(execute, row)
        for finish in (GOOD, BAD):
            write_old_end(execute, finish)
        counted = {"key_ceiling": 100, "ended_success": 1, "ended_failure": 1, "results": 1}
        connection.executemany("INSERT INTO meta VALUES (?, ?)", counted.items())
    return folder


def write_old_job(execute: Callable[..., object], row: JobRow) -> None:
    status = list(TaskStatus).index(row.status)
    columns = (*row[:3], status, *row[4:14], *[None] * 5)
    execute(f"INSERT INTO jobs VALUES ({', '.join('?' * 19)})", columns)
    execute("INSERT INTO payloads VALUES (?, ?)", (row.key, row.payload))


def write_old_end(execute: Callable[..., object], finish: FinishRow) -> None:
    table, column = ("failures", "failure") if finish.failure else ("results", "result")
    write_old_job(execute, run_job(make_job(finish.key))._replace(status=finish.status))
    execute(
        f"UPDATE jobs SET finished_at = ?, {column} = key WHERE key = ?",
        (finish.finished_at, finish.key),
    )
    failure = None if finish.failure is None else cbor2.dumps(list(finish.failure))
    execute(
        f"INSERT INTO {table} VALUES (?, ?, ?, ?, ?)",
        (finish.key, finish.key, finish.finished_at, finish.value, failure),
    )
    if not finish.keep_payload:
        execute("DELETE FROM payloads WHERE key = ?", (finish.key,))


def check_intact(folder: Path) -> None:
    """Everything of `old_folder` is there, and what came later works with it."""
    store = open_store(folder, "power")
    try:
        snapshot = store.load()
        assert (snapshot.queued, snapshot.scheduled, snapshot.key_ceiling) == ({1: 1}, 1, 100)
        assert snapshot.backlogs == [BacklogRow("default", 2, 18)]
        assert snapshot.running == [RUNNING._replace(payload=None)]
        known = store.recall(Questions(ids=[job_id(key) for key in range(1, 6)])).jobs
        assert [known[row.id].row for row in (WAITING, RUNNING, LATER)] == [WAITING, RUNNING, LATER]
        assert [known[finish.id].finish for finish in (GOOD, BAD)] == [GOOD, BAD]
        reader = store.reader()
        assert {name: count for name, count in reader.counts().items() if count} == {
            **{"queued": 1, "scheduled": 1, "running": 1},
            **{"success": 1, "failure": 1},
        }
        ((key, letter),) = reader.dead(DeadFilter(error="ValueError"))
        assert (key, letter.failure, letter.replayed_by) == (5, FAILED, None)
        retried = RUNNING._replace(status=TaskStatus.QUEUED, position=2, failures=1)
        store.save(Saves(updates=[retried], attempts=[make_attempt(2, RUNNING.token)]))
        assert [view.outcome for view in reader.attempts(RUNNING.id)] == ["retried"]
    finally:
        store.close()


def test_a_store_of_the_first_format_opens_with_all_its_jobs(old_folder: Path) -> None:
    check_intact(old_folder)
    with closing(sqlite3.connect(old_folder / "fastworker.db")) as connection:
        assert number(connection, "user_version") == len(MIGRATIONS)


class Photographed(sqlite3.Connection):
    """Copies the files before every statement: what a kill at that moment would leave."""

    folder: Path
    images: Path
    count = 0

    def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
        shutil.copytree(self.folder, self.images / str(self.count))
        self.count += 1
        return super().execute(sql, *parameters)


@pytest.mark.parametrize("text", ["checksum", "CAST(x'ff' AS TEXT)"])
def test_text_that_nobody_wrote_is_damage(tmp_path: Path, text: str) -> None:
    open_store(tmp_path, "power").close()
    with closing(sqlite3.connect(tmp_path / "fastworker.db", isolation_level=None)) as connection:
        connection.execute(f"UPDATE migrations SET checksum = {text} WHERE number = 1")
    if text == "checksum":
        open_store(tmp_path, "power").close()
        return
    with pytest.raises(StoreUnusable):
        open_store(tmp_path, "power")


def test_a_changed_schema_is_damage(tmp_path: Path) -> None:
    open_store(tmp_path, "power").close()
    with closing(sqlite3.connect(tmp_path / "fastworker.db", isolation_level=None)) as connection:
        connection.execute("CREATE INDEX mine ON jobs (attempts)")
    open_store(tmp_path, "power").close()
    with closing(sqlite3.connect(tmp_path / "fastworker.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        flipped = "replace(sql, 'ready_at', 'reqdy_at')"
        connection.execute(f"UPDATE sqlite_master SET sql = {flipped} WHERE name = 'jobs'")
    with pytest.raises(StoreUnusable, match=r"damaged .*jobs"):
        open_store(tmp_path, "power")


def test_a_kill_at_any_statement_of_a_migration_leaves_the_old_or_the_new(
    old_folder: Path, tmp_path: Path
) -> None:
    connection = sqlite3.connect(
        old_folder / "fastworker.db", isolation_level=None, factory=Photographed
    )
    with closing(connection):
        # Nothing fits into memory: every change is in the files at once, committed or not.
        sqlite3.Connection.execute(connection, "PRAGMA cache_size = 1")
        connection.folder, connection.images = old_folder, tmp_path / "images"
        migrate(connection, location="here")
    versions = []
    for image in range(connection.count):
        folder = tmp_path / "images" / str(image)
        with closing(sqlite3.connect(folder / "fastworker.db")) as opened:
            versions.append(number(opened, "user_version"))
        check_intact(folder)
    assert set(versions) == {1}  # the last statement is the commit of all steps
    check_intact(old_folder)


def test_a_migration_that_fails_halfway_is_done_again_as_a_whole(
    old_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = MIGRATIONS[1]
    for done in range(len(step)):
        broken = (*step[:done], "no statement", *step[done:])
        with monkeypatch.context() as patched:
            patched.setattr(migrations, "MIGRATIONS", (MIGRATIONS[0], broken))
            with (
                closing(sqlite3.connect(old_folder / "fastworker.db")) as connection,
                pytest.raises(sqlite3.OperationalError),
            ):
                connection.isolation_level = None
                migrate(connection, location="here")
            with closing(sqlite3.connect(old_folder / "fastworker.db")) as connection:
                assert number(connection, "user_version") == 1
    check_intact(old_folder)
