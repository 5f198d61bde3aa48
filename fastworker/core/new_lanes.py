"""Lanes that submissions ask for: made at the first job, up to a bound for each tenant.

A lane outlives its jobs; the store forgets it at a start when none of them is left. Without a
bound, whoever puts a number into the name of each queue or task would fill the memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fastworker.core.commands import AnswerSubmission, Refusal
from fastworker.core.memory import Draft
from fastworker.core.records import LaneKey

MOST_LANES: Final = 10_000
"""Of one tenant, also those without jobs: about 10 MB of memory."""


def lanes_beyond(draft: Draft, keys: Sequence[LaneKey]) -> frozenset[int]:
    """Which of the lanes that a tenant's submission needs, by index, it may not have."""
    lanes, new = draft.memory.lanes, draft.new_lanes
    missing = [key for key in dict.fromkeys(keys) if key not in lanes and key not in new]
    if not missing:
        return frozenset()
    tenant = missing[0].tenant
    has = draft.memory.lanes_of[tenant] + sum(key.tenant == tenant for key in new)
    refused = frozenset(missing[max(0, MOST_LANES - has) :])
    return frozenset(number for number, key in enumerate(keys) if key in refused)


def refuse_lanes(
    answer: AnswerSubmission, rows: Sequence[int], beyond: frozenset[int]
) -> Sequence[int]:
    """Refuse the jobs of such lanes; the rows that are left."""
    fact = answer.fact
    message = (
        f"tenant {fact.tenant!r} has used {MOST_LANES} combinations of queue, priority and task, "
        "as many as it may; name kinds of work, not each piece of it (those that no job is left of "
        "are forgotten when the control plane starts)"
    )
    left: list[int] = []
    for index in rows:
        if (0 if fact.which is None else fact.which[index]) in beyond:
            answer.refused.append(Refusal(index, "rejected", message))
        else:
            left.append(index)
    return left
