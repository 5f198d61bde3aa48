"""Rows of the core as columns of the wire, and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from fastworker.core.facts import Checkpoints, Outcomes, Retry, SaidLines
from fastworker.core.ids import split_ids
from fastworker.core.records import (
    DEFAULT_TENANT,
    MAX_PAYLOAD_BYTES,
    STATUS_CODES,
    STATUS_NUMBERS,
    TERMINAL,
    Failure,
    FinishRow,
    JobOptions,
    JobRow,
    LaneKey,
    TaskStatus,
)
from fastworker.errors import ProtocolError
from fastworker.wire.messages import Assign, Checkpoint, Finished, Lines, Outcome
from fastworker.wire.options import options_to_map

FINISHED_JOBS: Final = 1000
FINISHED_BYTES: Final = 4 * 1024 * 1024
"""Of one `Finished` message, so that large results do not add up to an unbounded frame."""

ASSIGNED_BYTES: Final = 4 * 1024 * 1024
"""Of arguments and checkpoints in one assignment: a frame holds four times as much."""

ASSIGNED_JOBS: Final = 384
"""In one assignment: each may have 24 KiB of options of its own."""

MAX_RETRY_DELAY_SECONDS: Final = 366 * 86_400.0
"""A retry further away than that is a mistake in a policy."""


def finished_messages(rows: Sequence[FinishRow]) -> Iterator[Finished]:
    """Ended jobs, in messages of bounded size."""
    batch: list[FinishRow] = []
    size = 0
    for row in rows:
        length = len(row.value or b"")
        if row.failure is not None:
            # Characters, of which each may take four bytes.
            length += 4 * (len(row.failure.message) + len(row.failure.traceback))
        if batch and (len(batch) >= FINISHED_JOBS or size + length > FINISHED_BYTES):
            yield _finished(batch)
            batch, size = [], 0
        batch.append(row)
        size += length
    if batch:
        yield _finished(batch)


def _finished(rows: Sequence[FinishRow]) -> Finished:
    failures: list[list[object]] = [
        [index, *row.failure] for index, row in enumerate(rows) if row.failure is not None
    ]
    return Finished(
        ids=b"".join([row.id for row in rows]),
        statuses=bytes([STATUS_NUMBERS[row.status] for row in rows]),
        values=[row.value for row in rows],
        started_at=[row.started_at for row in rows],
        finished_at=[row.finished_at for row in rows],
        attempts=[row.attempts for row in rows],
        failures=failures or None,
    )


def outcomes_fact(session: bytes, message: Outcome) -> Outcomes:
    """What a subworker reports, as a fact.

    Raises:
        ProtocolError: a status that is no end, a success without a value, one too large, or a
            retry of what did not fail or at an impossible time.
    """
    if max((len(value) for value in message.values if value), default=0) > MAX_PAYLOAD_BYTES:
        raise ProtocolError(
            f"message Outcome, field values: expected at most {MAX_PAYLOAD_BYTES} bytes each"
        )
    statuses = [STATUS_CODES[number] for number in message.statuses]
    for at, status in enumerate(statuses):
        if status not in TERMINAL:
            raise ProtocolError(
                f"message Outcome, field statuses: attempt {at} cannot end as {status.value}"
            )
        if status is TaskStatus.SUCCESS and message.values[at] is None:
            raise ProtocolError(f"message Outcome, field values: success {at} has none")
    failures: dict[int, Failure] = {}
    for row in message.failures or ():
        index, type_name, text, traceback, reason = row
        assert isinstance(index, int)
        failures[index] = Failure(str(type_name), str(text), str(traceback), str(reason))
    return Outcomes(
        session=session,
        ids=split_ids(message.ids),
        tokens=message.tokens,
        statuses=statuses,
        values=message.values,
        started_at=message.started_at,
        finished_at=message.finished_at,
        failures=failures,
        retries=dict(_retries(message, statuses)) if message.retries else {},
    )


def _retries(message: Outcome, statuses: Sequence[TaskStatus]) -> Iterator[tuple[int, Retry]]:
    for index, delay, counted, budget in message.retries or ():
        assert isinstance(index, int) and isinstance(delay, float) and isinstance(counted, bool)
        assert budget is None or isinstance(budget, float)
        if statuses[index] is not TaskStatus.FAILURE:
            raise ProtocolError(
                f"message Outcome, field retries: attempt {index} did not fail, "
                f"it ended as {statuses[index].value}"
            )
        if not 0 <= delay <= MAX_RETRY_DELAY_SECONDS:
            raise ProtocolError(
                "message Outcome, field retries: expected a delay from 0 to "
                f"{MAX_RETRY_DELAY_SECONDS:.0f} seconds, got {delay}"
            )
        yield index, Retry(delay, counted, budget)


def checkpoints_fact(session: bytes, message: Checkpoint) -> Checkpoints:
    """What attempts leave for those after them, as a fact.

    Raises:
        ProtocolError: one is too large.
    """
    if max(map(len, message.values), default=0) > MAX_PAYLOAD_BYTES:
        raise ProtocolError(
            f"message Checkpoint, field values: expected at most {MAX_PAYLOAD_BYTES} bytes each"
        )
    return Checkpoints(session, split_ids(message.ids), message.tokens, message.values)


def lines_fact(session: bytes, message: Lines) -> SaidLines:
    """What attempts have said, as a fact."""
    return SaidLines(
        *(session, split_ids(message.ids), message.tokens, message.firsts, message.counts),
        *(message.at, message.levels, message.texts),
    )


def assign_message(
    jobs: Sequence[tuple[JobRow, int]],
    lane_key: Callable[[int], LaneKey],
    *,
    wall: float,
    checkpoints: Mapping[int, bytes] | None = None,
) -> Assign:
    """Leased jobs with their arguments; jobs alike in lane, pool and options share a spec.

    Args:
        wall: seconds now, from which budgets count.
        checkpoints: what attempts before have left, by job key.
    """
    specs: list[list[object]] = []
    numbers: dict[tuple[int, int, int | JobOptions], int] = {}
    which: list[int] = []
    budget: list[float | None] | None = None
    remaining: list[float | None] | None = None
    failed = False
    alone: list[int] = []
    for position, (job, pool) in enumerate(jobs):
        options = job.options
        alike: tuple[int, int, int | JobOptions] = job.lane, pool, id(options)
        if options.deadline is not None:
            # It travels in a column of its own, so that deadlines alone make no other specs.
            if remaining is None:
                remaining = [None] * len(jobs)
            remaining[position] = max(0.0, options.deadline - wall)
            options = dataclasses.replace(options, deadline=None)
            alike = job.lane, pool, options
        number = numbers.get(alike)
        if number is None:
            number = numbers[alike] = len(specs)
            key = lane_key(job.lane)
            known = options_to_map(_for_worker(options))
            if key.tenant != DEFAULT_TENANT:
                known["tenant"] = key.tenant
            specs.append([key.task, key.priority, pool, known])
        which.append(number)
        if job.expires_at is not None:
            if budget is None:
                budget = [None] * len(jobs)
            budget[position] = max(0.0, job.expires_at - wall)
        if job.failures:
            failed = True
        if job.deaths:
            alone.append(position)
    return Assign(
        ids=b"".join([job.id for job, _ in jobs]),
        tokens=[job.token for job, _ in jobs],
        specs=specs,
        payloads=[job.payload or b"" for job, _ in jobs],
        attempts=[job.attempts for job, _ in jobs],
        which=None if len(specs) == 1 else which,
        budget=budget,
        remaining=remaining,
        failures=[job.failures for job, _ in jobs] if failed else None,
        alone=alone or None,
        checkpoints=[checkpoints.get(job.key) for job, _ in jobs] if checkpoints else None,
    )


def split_assignment(
    jobs: list[tuple[JobRow, int]], checkpoints: Mapping[int, bytes] | None
) -> Iterator[list[tuple[JobRow, int]]]:
    """The jobs of one assignment in parts that fit into a message each."""
    size = sum([job.size for job, _ in jobs]) + sum(map(len, (checkpoints or {}).values()))
    if size <= ASSIGNED_BYTES and len(jobs) <= ASSIGNED_JOBS:
        yield jobs
        return
    part: list[tuple[JobRow, int]] = []
    size = 0
    for entry in jobs:
        job = entry[0]
        length = job.size + len((checkpoints or {}).get(job.key, b""))
        if part and (size + length > ASSIGNED_BYTES or len(part) >= ASSIGNED_JOBS):
            yield part
            part, size = [], 0
        part.append(entry)
        size += length
    yield part


def age_assignment(message: Assign, seconds: float) -> None:
    """Take the time that an assignment has waited to be sent from what is left of its jobs'."""
    message.budget = _aged(message.budget, seconds)
    message.remaining = _aged(message.remaining, seconds)


def _aged(column: Sequence[float | None] | None, seconds: float) -> list[float | None] | None:
    if column is None:
        return None
    return [None if left is None else max(0.0, left - seconds) for left in column]


def _for_worker(options: JobOptions) -> JobOptions:
    """Without what only the control plane carries out: where a callback goes and who signs it."""
    if options.callback is None:
        return options
    return dataclasses.replace(options, callback=None, callback_data=None, callback_token=None)
