"""What running attempts leave in the store: lines, and checkpoints for the attempts after them.

Both count only from the attempt that holds its job; what comes from others is passed over without
a word, since they will be told that they are late when they have ended.
"""

from __future__ import annotations

from typing import Final

from fastworker.core.commands import AnnounceLines
from fastworker.core.facts import Checkpoints, SaidLines
from fastworker.core.memory import Draft, Memory
from fastworker.core.outcomes import holds
from fastworker.core.records import (
    LINES_PER_ATTEMPT,
    CheckpointRow,
    JobRow,
    LineRow,
    Now,
    Saves,
    line_number,
)

LINED_ATTEMPTS: Final = 10
"""Of one job, whose lines are kept: a job that fails for ever must not fill the store."""


def keep_checkpoints(draft: Draft, fact: Checkpoints, now: Now) -> None:
    """Write down what the next attempts begin with; the latest of each job counts."""
    for job_id, token, value in zip(fact.ids, fact.tokens, fact.values, strict=True):
        job = _held(draft, job_id, token, fact.session)
        if job is not None:
            draft.saves.checkpoints.append(CheckpointRow(job.key, token, now.wall, value))


def keep_lines(draft: Draft, fact: SaidLines) -> None:
    """Write down what attempts have said; lines that are there already are written once more."""
    at = 0
    kept: list[bytes] = []
    for index, job_id in enumerate(fact.ids):
        token, first, count = fact.tokens[index], fact.firsts[index], fact.counts[index]
        job = _held(draft, job_id, token, fact.session)
        if job is not None and first + count <= LINES_PER_ATTEMPT:
            kept.append(job_id)
            _make_room(draft, job.key, token)
            for number in range(count):
                line = at + number
                draft.saves.lines.append(
                    LineRow(
                        *(job.key, line_number(token, first + number), token),
                        *(fact.at[line], fact.levels[line], fact.texts[line]),
                    )
                )
        at += count
    if kept:
        draft.commands.append(AnnounceLines(kept))


def _held(draft: Draft, job_id: bytes, token: int, session: bytes) -> JobRow | None:
    job = draft.job(job_id)
    return job if job is not None and holds(job, token, session) else None


def _make_room(draft: Draft, key: int, token: int) -> None:
    before = draft.memory.lined.get(key, ())
    if token not in before and len(before) >= LINED_ATTEMPTS:
        draft.saves.left_lines.append((key, before[0]))


def drop_ended(draft: Draft) -> None:
    """At the end of a turn: a job that has ended needs no checkpoint."""
    saves, held = draft.saves, draft.memory.checkpointed
    if not draft.finished or not (held or saves.checkpoints):
        return
    ended = {row.key for row in draft.finished.values()}
    saves.left_checkpoints = [key for key in ended if key in held]
    saves.checkpoints = [row for row in saves.checkpoints if row.key not in ended]


def follow_saved(memory: Memory, saves: Saves) -> None:
    """The store has it: memory knows who has checkpoints, and which attempts have lines."""
    if saves.checkpoints:
        memory.checkpointed.update(row.key for row in saves.checkpoints)
    if saves.left_checkpoints:
        memory.checkpointed.difference_update(saves.left_checkpoints)
    for row in saves.lines:
        tokens = memory.lined.get(row.key, ())
        if row.token not in tokens:
            memory.lined[row.key] = (*tokens, row.token)[-LINED_ATTEMPTS:]
    if memory.lined:
        for finish in saves.finishes:
            memory.lined.pop(finish.key, None)
