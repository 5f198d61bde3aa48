"""Whose jobs a request may know of: for everybody else they do not exist. Pure.

A job of another tenant is answered like one that never was, by the same code: the store is asked
for both, and says nothing of either.
"""

from __future__ import annotations

from collections.abc import Iterable

from fastworker.core.memory import Draft, Memory
from fastworker.core.questions import Known


def unseen_ids(memory: Memory, ids: Iterable[bytes], tenant: str) -> list[bytes]:
    """Those of these jobs that memory cannot show to this tenant: the store is asked for them."""
    return [job_id for job_id in ids if _tenant_in_memory(memory, job_id) != tenant]


def is_hidden(draft: Draft, job_id: bytes, known: Known, tenant: str | None) -> bool:
    """Whether there is a job with this id of which this tenant must not know.

    Args:
        tenant: None: it may know of everybody's.
    """
    if tenant is None:
        return False
    lane = _lane_number(draft, job_id, known)
    return lane is not None and draft.tenant_of(lane) != tenant


def _tenant_in_memory(memory: Memory, job_id: bytes) -> str | None:
    row = memory.jobs.get(job_id) or memory.recent.get(job_id)
    return None if row is None else memory.lanes_by_number[row.lane].key.tenant


def _lane_number(draft: Draft, job_id: bytes, known: Known) -> int | None:
    row = draft.inserted.get(job_id) or draft.job(job_id) or draft.changed.get(job_id)
    if row is not None:
        return row.lane
    ended = draft.finished.get(job_id) or draft.memory.recent.get(job_id)
    if ended is not None:
        return ended.lane
    stored = known.jobs.get(job_id)
    return None if stored is None else stored.row.lane
