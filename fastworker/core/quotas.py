"""Who may submit how much: bounds in all and of one tenant, on jobs, bytes and jobs a second.

Only new jobs are asked for room. What is stored already is accepted again, and what was accepted
once may come back as often as it has to. Nothing is looked at job by job while there is room for
all, and no bound on jobs a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from fastworker.core.admissions import Admissions, level_at, take
from fastworker.core.commands import AnswerSubmission, Refusal
from fastworker.core.facts import Fact, Submission
from fastworker.core.memory import Draft, Memory
from fastworker.core.records import Now

FULL_RETRY_SECONDS: Final = 1.0
"""What is told to whoever meets a full queue: jobs leave it all the time."""


_JOBS: Final = "jobs"
_BYTES: Final = "bytes of arguments"


class _Verdict(NamedTuple):
    """Why a job, or a group, is not let in."""

    code: str
    message: str
    retry_after: float = 0.0


class _Bound(NamedTuple):
    """One bound: how much of it is used, by whom, and where it is set."""

    what: str
    used: int
    most: int
    tenant: str | None
    setting: str

    def refusal(self) -> _Verdict:
        """There is no room now."""
        holder = "this control plane takes" if self.tenant is None else "it may have"
        whose = "" if self.tenant is None else f" of tenant {self.tenant!r}"
        message = f"{self.used} {self.what}{whose} wait already and {holder} {self.most}; "
        if self.tenant is None:
            message += f"add workers, or raise {self.setting}"
        else:
            message += f"wait, or have its {self.setting} raised (--tenants)"
        return _Verdict("overloaded", message, FULL_RETRY_SECONDS)

    def never(self, amount: int) -> _Verdict:
        """There never will be."""
        who = (
            "this control plane lets" if self.tenant is None else f"tenant {self.tenant!r} may let"
        )
        return _Verdict(
            "rejected",
            f"these are {amount} {self.what}, and {who} {self.most} wait at once "
            f"({self.setting}); submit less at once",
        )


def admit(
    draft: Draft,
    answer: AnswerSubmission,
    rows: Sequence[int],
    is_repeat: Callable[[bytes], bool],
    now: Now,
) -> Sequence[int]:
    """Refuse the new jobs for which there is no room; the rows that are left.

    Of single jobs as many are taken as there is room for, in their order; of a group all or none.
    """
    fact, admissions = answer.fact, draft.admissions
    rate = draft.memory.tenants.limits(fact.tenant).max_submissions_per_second
    if rate is None and _has_room(draft.memory, admissions, fact.tenant, len(rows), fact.size()):
        admissions.note(fact.tenant, len(rows), fact.size())
        return rows
    # Of an id that comes twice, the first one is stored.
    new = {fact.ids[index]: index for index in reversed(rows) if not is_repeat(fact.ids[index])}
    new = dict(reversed(new.items()))
    sizes = [len(fact.payloads[index]) for index in new.values()]
    gate = _Gate(draft, fact.tenant, now)
    if fact.atomic:
        verdicts = [gate.judge(len(sizes), sum(sizes)) if sizes else None] * len(sizes)
    else:
        verdicts = [gate.judge(1, size) for size in sizes]
    refused = {job_id: no for job_id, no in zip(new, verdicts, strict=True) if no is not None}
    answer.refused += [
        Refusal(index, *refused[fact.ids[index]]) for index in rows if fact.ids[index] in refused
    ]
    return [index for index in rows if fact.ids[index] not in refused]


def tenants_short_of_room(memory: Memory, facts: Iterable[Fact], now: Now) -> frozenset[str]:
    """The tenants of whose submissions a part may be refused.

    The store must be asked about all their ids, lest what is stored already be refused.
    """
    wanted: dict[str, tuple[int, int]] = {}
    for fact in facts:
        if isinstance(fact, Submission):
            jobs, size = wanted.get(fact.tenant, (0, 0))
            wanted[fact.tenant] = jobs + len(fact.ids), size + fact.size()
    everything = Admissions()
    for tenant, (jobs, size) in wanted.items():
        everything.note(tenant, jobs, size)
    return frozenset(
        tenant
        for tenant, (jobs, _) in wanted.items()
        if not _has_room(memory, everything, tenant, 0, 0)
        or _comes_too_fast(memory, tenant, jobs, now)
    )


def _comes_too_fast(memory: Memory, tenant: str, jobs: int, now: Now) -> bool:
    rate = memory.tenants.limits(tenant).max_submissions_per_second
    return rate is not None and jobs > level_at(memory.buckets.get(tenant), rate, now.monotonic)


def _has_room(memory: Memory, admissions: Admissions, tenant: str, jobs: int, size: int) -> bool:
    """Whether so much more may wait beside what waits and what this turn has let in."""
    backlogs, limits = memory.backlogs, memory.tenants.limits(tenant)
    if backlogs.jobs + admissions.jobs + jobs > memory.max_queued_jobs:
        return False
    if backlogs.size + admissions.size + size > memory.max_queued_bytes:
        return False
    most_jobs, most_size = limits.max_queued_jobs, limits.max_queued_bytes
    if most_jobs is None and most_size is None:
        return True
    own, more = backlogs.of(tenant), admissions.by_tenant.get(tenant, (0, 0))
    return (most_jobs is None or own.jobs + more[0] + jobs <= most_jobs) and (
        most_size is None or own.size + more[1] + size <= most_size
    )


class _Gate:
    """Judges the new jobs of one submission, one after another; those let in use up room."""

    def __init__(self, draft: Draft, tenant: str, now: Now) -> None:
        self._memory = draft.memory
        self._admissions = draft.admissions
        self._tenant = tenant
        self._rate = draft.memory.tenants.limits(tenant).max_submissions_per_second
        self._now = now.monotonic
        self._full: _Verdict | None = None

    def judge(self, jobs: int, size: int) -> _Verdict | None:
        """Let jobs in together, or say why not. None overtakes one that found no room."""
        if self._full is None and not _has_room(
            self._memory, self._admissions, self._tenant, jobs, size
        ):
            for bound in self._bounds():
                amount = jobs if bound.what == _JOBS else size
                if amount > bound.most:
                    return bound.never(amount)
                if bound.used + amount > bound.most:
                    self._full = bound.refusal()
        if self._full is not None:
            return self._full
        if self._rate is not None:
            bucket = self._memory.buckets.get(self._tenant)
            seconds = take(self._admissions, self._tenant, bucket, self._rate, self._now, jobs)
            if seconds:
                return self._too_fast(self._rate, seconds)
        self._admissions.note(self._tenant, jobs, size)
        return None

    def _bounds(self) -> list[_Bound]:
        memory, admissions, tenant = self._memory, self._admissions, self._tenant
        backlogs, limits = memory.backlogs, memory.tenants.limits(tenant)
        own, more = backlogs.of(tenant), admissions.by_tenant.get(tenant, (0, 0))
        in_all = backlogs.jobs + admissions.jobs, backlogs.size + admissions.size
        most_jobs, most_size = limits.max_queued_jobs, limits.max_queued_bytes
        found = [
            _Bound(_JOBS, in_all[0], memory.max_queued_jobs, None, "--max-queued-jobs"),
            _Bound(_BYTES, in_all[1], memory.max_queued_bytes, None, "--max-queued-bytes"),
        ]
        if most_jobs is not None:
            used = own.jobs + more[0]
            found.append(_Bound(_JOBS, used, most_jobs, tenant, "max-queued-jobs"))
        if most_size is not None:
            used = own.size + more[1]
            found.append(_Bound(_BYTES, used, most_size, tenant, "max-queued-bytes"))
        return found

    def _too_fast(self, rate: float, seconds: float) -> _Verdict:
        message = (
            f"tenant {self._tenant!r} may submit {rate:g} jobs a second; "
            "submit more slowly, or have its max-submissions-per-second raised (--tenants)"
        )
        return _Verdict("overloaded", message, seconds)
