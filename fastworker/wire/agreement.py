"""What must hold between the fields of one message: columns as long as the ids, rows in range.

A hook gets the finished message and raises `ValueError` with the field's name and what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

from fastworker.core.ids import ID_BYTES
from fastworker.core.records import STATUS_CODES
from fastworker.wire import messages as m

M = TypeVar("M", bound=m.Message)


def _count(ids: bytes) -> int:
    return len(ids) // ID_BYTES


def _same_length(count: int, **columns: Sequence[object] | None) -> None:
    for name, column in columns.items():
        if column is not None and len(column) != count:
            raise ValueError(
                f"field {name}: expected one element a job ({count}), got {len(column)}"
            )


def _bytes_below(limit: int, name: str, column: bytes) -> None:
    if column and max(column) >= limit:
        raise ValueError(f"field {name}: expected numbers below {limit}, got {max(column)}")


def _rows_below(count: int, name: str, rows: Sequence[Sequence[object]] | None) -> None:
    for row in rows or ():
        index = row[0]
        if isinstance(index, int) and index >= count:
            raise ValueError(f"field {name}: expected indices below {count}, got {index}")


def _specs_cover(count: int, specs: Sequence[object], which: Sequence[int] | None) -> None:
    largest = (max(which) if which else -1) if which is not None else (0 if count else -1)
    if largest >= len(specs):
        raise ValueError(f"field which: expected indices below {len(specs)}, got {largest}")
    if len(specs) > max(count, 1):
        raise ValueError(f"field specs: expected at most one a job ({count}), got {len(specs)}")


def _submit(message: m.Submit) -> None:
    count = _count(message.ids)
    _same_length(
        count,
        payloads=message.payloads,
        which=message.which,
        ready_at=message.ready_at,
        expires_at=message.expires_at,
        keys=message.keys,
        deadline_in=message.deadline_in,
    )
    _specs_cover(count, message.specs, message.which)


def _finished(message: m.Finished) -> None:
    count = _count(message.ids)
    _same_length(
        count,
        statuses=message.statuses,
        values=message.values,
        started_at=message.started_at,
        finished_at=message.finished_at,
        attempts=message.attempts,
    )
    _bytes_below(len(STATUS_CODES), "statuses", message.statuses)
    _rows_below(count, "failures", message.failures)


def _assign(message: m.Assign) -> None:
    count = _count(message.ids)
    _same_length(
        count,
        tokens=message.tokens,
        payloads=message.payloads,
        attempts=message.attempts,
        which=message.which,
        budget=message.budget,
        failures=message.failures,
        remaining=message.remaining,
        checkpoints=message.checkpoints,
    )
    if message.alone and max(message.alone) >= count:
        raise ValueError(f"field alone: expected indices below {count}, got {max(message.alone)}")
    _specs_cover(count, message.specs, message.which)


def _outcome(message: m.Outcome) -> None:
    count = _count(message.ids)
    _same_length(
        count,
        tokens=message.tokens,
        statuses=message.statuses,
        values=message.values,
        started_at=message.started_at,
        finished_at=message.finished_at,
    )
    _bytes_below(len(STATUS_CODES), "statuses", message.statuses)
    _rows_below(count, "failures", message.failures)
    _rows_below(count, "retries", message.retries)


def _register(message: m.Register) -> None:
    _same_length(_count(message.claim_ids), claim_tokens=message.claim_tokens)
    _same_length(len(message.pools), prefetch=message.prefetch)


def _capacity(message: m.Capacity) -> None:
    _same_length(len(message.pools), prefetch=message.prefetch)


def _started(message: m.Started) -> None:
    _same_length(_count(message.ids), tokens=message.tokens, started_at=message.started_at)


def _handback(message: m.Handback) -> None:
    _same_length(_count(message.ids), tokens=message.tokens, started=message.started)
    _bytes_below(2, "started", message.started)


def _withdraw(message: m.Withdraw) -> None:
    _same_length(_count(message.ids), tokens=message.tokens)


def _withdrawn(message: m.Withdrawn) -> None:
    _same_length(_count(message.ids), tokens=message.tokens, taken=message.taken)
    _bytes_below(2, "taken", message.taken)


def _unwinding(message: m.Unwinding) -> None:
    _same_length(_count(message.ids), tokens=message.tokens, stacks=message.stacks)


def _cancelled(message: m.Cancelled) -> None:
    _same_length(len(message.outcomes), stacks=message.stacks)


def _progress(message: m.Progress) -> None:
    _same_length(
        _count(message.ids),
        tokens=message.tokens,
        done=message.done,
        total=message.total,
        messages=message.messages,
        at=message.at,
    )


def _lines(message: m.Lines) -> None:
    count = _count(message.ids)
    _same_length(count, tokens=message.tokens, firsts=message.firsts, counts=message.counts)
    lines = sum(message.counts)
    columns = {"at": message.at, "levels": message.levels, "texts": message.texts}
    for name, column in columns.items():
        if len(column) != lines:
            raise ValueError(f"field {name}: expected as many as counts say ({lines})")


def _checkpoint(message: m.Checkpoint) -> None:
    _same_length(_count(message.ids), tokens=message.tokens, values=message.values)


def _followed(message: m.Followed) -> None:
    columns = {"at": message.at, "levels": message.levels, "texts": message.texts}
    for name, column in columns.items():
        if len(column) != len(message.numbers):
            raise ValueError(f"field {name}: expected one element a line ({len(message.numbers)})")


Hook = Callable[[m.Message], None]


def _hook(message: type[M], hook: Callable[[M], None]) -> tuple[type[m.Message], Hook]:
    def run(decoded: m.Message) -> None:
        assert isinstance(decoded, message)
        hook(decoded)

    return message, run


HOOKS: Final[Mapping[type[m.Message], Hook]] = dict(
    (
        _hook(m.Submit, _submit),
        _hook(m.Finished, _finished),
        _hook(m.Register, _register),
        _hook(m.Assign, _assign),
        _hook(m.Outcome, _outcome),
        _hook(m.Started, _started),
        _hook(m.Handback, _handback),
        _hook(m.Withdraw, _withdraw),
        _hook(m.Withdrawn, _withdrawn),
        _hook(m.Capacity, _capacity),
        _hook(m.Unwinding, _unwinding),
        _hook(m.Cancelled, _cancelled),
        _hook(m.Progress, _progress),
        _hook(m.Lines, _lines),
        _hook(m.Checkpoint, _checkpoint),
        _hook(m.Followed, _followed),
    )
)
