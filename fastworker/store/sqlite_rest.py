"""What one turn writes beside jobs and their ends, inside the writer's transaction; and lanes."""

from __future__ import annotations

import sqlite3
from typing import Final

from fastworker.core.records import Saves
from fastworker.store import rows

FORGET_LANES_BEYOND: Final = 1_000
"""With fewer it is not worth while to look for lanes without jobs: it takes a look at each job."""


def forget_lanes(connection: sqlite3.Connection) -> None:
    """At a start: remove the lanes of which no job is left, if there are many."""
    (count,) = connection.execute("SELECT count(*) FROM lanes").fetchone()
    if count > FORGET_LANES_BEYOND:
        connection.execute("DELETE FROM lanes WHERE lane NOT IN (SELECT lane FROM jobs)")


def write_rest(connection: sqlite3.Connection, saves: Saves) -> None:
    """Attempts, workers, keys, families, what running jobs leave, pauses, backlogs and replays."""
    if saves.attempts:
        rows.INSERT_ATTEMPT.write(connection, saves.attempts)
    if saves.workers:
        rows.INSERT_WORKER.write(connection, saves.workers)
    if saves.keys:
        rows.INSERT_KEY.write(connection, saves.keys)
    if saves.family:
        rows.INSERT_FAMILY.write(connection, saves.family)
    if saves.left_family:
        rows.DELETE_FAMILY.write(connection, [(key,) for key in saves.left_family])
    if saves.checkpoints:
        rows.INSERT_CHECKPOINT.write(connection, saves.checkpoints)
    if saves.left_checkpoints:
        rows.DELETE_CHECKPOINT.write(connection, [(key,) for key in saves.left_checkpoints])
    if saves.lines:
        rows.INSERT_LINE.write(connection, saves.lines)
    if saves.left_lines:
        connection.executemany(rows.DELETE_OLD_LINES, saves.left_lines)
    for tenant, queue, paused in saves.pauses:
        connection.execute(rows.SET_PAUSED if paused else rows.SET_RESUMED, (tenant, queue))
    if saves.backlogs:
        connection.executemany(rows.SET_BACKLOG, saves.backlogs)
    if saves.replays:
        given = [(replayed_by, key) for key, replayed_by in saves.replays]
        connection.executemany(rows.SET_REPLAYED, given)
