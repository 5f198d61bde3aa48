"""Steps of the schema happen as a whole or not at all, and are never edited."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from fastworker.store import migrations
from fastworker.store.migrations import APPLICATION_ID, MIGRATIONS, migrate


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
