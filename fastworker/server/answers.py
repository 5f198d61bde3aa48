"""Submissions between the wire and the core: split by priority, gathered by group, answered once.

One `Submit` may hold jobs of several priorities (each goes through its own channel), and one
group may span several `Submit`s (it goes through as a whole). Every `Submit` gets one answer.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from fastworker.core.commands import Refusal
from fastworker.core.facts import Spec, Submission
from fastworker.core.ids import split_ids
from fastworker.core.keys import DEFAULT_KEY_SECONDS, check_key, check_window
from fastworker.core.names import check_name
from fastworker.core.records import (
    DEFAULT_OPTIONS,
    MAX_PAYLOAD_BYTES,
    JobOptions,
    TaskPriority,
)
from fastworker.errors import CallerError, Overloaded, ProtocolError, Rejected
from fastworker.server.inbox import Inbox
from fastworker.wire.messages import Submit, Submitted
from fastworker.wire.options import map_to_options

T = TypeVar("T")

MAX_GROUP_JOBS: Final = 10_000
MAX_GROUP_BYTES: Final = 8 * 1024 * 1024
REFUSED_GROUPS: Final = 64
"""Per connection: what is still on its way of a refused group is refused, too."""

MAX_OPEN_GROUPS: Final = 8
"""Per connection: a group is held in memory until its last message has come."""

_GroupName = tuple[str, bytes]
"""Tenant and id: jobs of several tenants are never accepted together."""

Complete = Callable[[JobOptions], JobOptions]
"""Adds what the connection knows (signing token, parent) and refuses what it may not ask."""


@dataclass(slots=True, eq=False)
class Answer:
    """The answer to one `Submit`, sent when nothing is open any more."""

    request: int
    send: Callable[[Submitted], None]
    open: int = 0
    refused: list[list[object]] = field(default_factory=list)
    existing: list[list[object]] = field(default_factory=list)

    def settle(self, jobs: int) -> None:
        """So many more jobs are decided."""
        self.open -= jobs
        if self.open == 0:
            refused, existing = _in_order(self.refused), _in_order(self.existing)
            self.send(Submitted(self.request, refused=refused, existing=existing))


@dataclass(slots=True, eq=False)
class Origin:
    """Where the jobs of one `Submission` came from: runs of consecutive jobs by answer."""

    peer: object
    parts: list[tuple[Answer, Sequence[int]]]
    """Each answer with the indices, in its `Submit`, of the jobs that follow one another here."""

    def settle(
        self, refusals: Sequence[Refusal], existing: Sequence[tuple[int, bytes]] = ()
    ) -> None:
        """All jobs of the submission are decided; those in ``refusals`` were refused.

        Args:
            existing: (index, id) where an older job holds, or is in conflict.
        """
        refused, older = {refusal.index: refusal for refusal in refusals}, dict(existing)
        at = 0
        for answer, indices in self.parts:
            if refused or older:
                for position, index in enumerate(indices, at):
                    no = refused.get(position)
                    if no is not None:
                        answer.refused.append([index, no.code, no.message, no.retry_after])
                    if position in older:
                        answer.existing.append([index, older[position]])
            at += len(indices)
            answer.settle(len(indices))


@dataclass(slots=True)
class _Group:
    """Messages of one group until all its jobs are there."""

    total: int
    fact: Submission
    origin: Origin
    size: int = 0
    held: int = 0


@dataclass(slots=True)
class _Refused:
    """A group of which nothing is kept; its last jobs may still be on their way."""

    error: CallerError | Rejected
    left: int


class Intake:
    """The submissions of one connection."""

    def __init__(
        self,
        peer: object,
        inbox: Inbox,
        send: Callable[[Submitted], None],
        complete: Complete,
        *,
        tenant: str,
        wall: Callable[[], float],
    ) -> None:
        self._peer = peer
        self._inbox = inbox
        self._send = send
        self._complete = complete
        self.tenant = tenant
        """Of what comes next: inside jobs each message says for which job it speaks."""
        self._wall = wall
        self._groups: dict[_GroupName, _Group] = {}
        self._refused: OrderedDict[_GroupName, _Refused] = OrderedDict()

    def receive(self, message: Submit) -> None:
        """Take one `Submit`; its answer comes now or later through ``send``."""
        ids = split_ids(message.ids)
        if len(ids) > MAX_GROUP_JOBS:
            # Each may be refused in a sentence of its own, in the one answer.
            raise ProtocolError(
                f"message Submit, field ids: expected at most {MAX_GROUP_JOBS}, got {len(ids)}"
            )
        answer = Answer(message.request, self._send, open=len(ids))
        if max(map(len, message.payloads), default=0) > MAX_PAYLOAD_BYTES:
            raise ProtocolError(
                f"message Submit, field payloads: expected at most {MAX_PAYLOAD_BYTES} bytes each"
            )
        _check_keys(message)
        specs, wrong = self._read_specs(message)
        if message.group is not None:
            self._receive_grouped(message, ids, answer, specs, wrong)
            return
        if not ids:
            self._send(Submitted(message.request))
            return
        if wrong:
            self._refuse_wrong(message, ids, answer, wrong)
        for priority, indices in _by_priority(specs, message, len(ids)).items():
            fact = _columns(message, ids, specs, indices)
            fact.tenant = self.tenant
            fact.deadlines = self._deadlines(message, indices)
            origin = Origin(self._peer, [(answer, indices)])
            fact.origin = origin
            self._offer(fact, origin, priority)

    def _read_specs(self, message: Submit) -> tuple[list[Spec | None], dict[int, CallerError]]:
        specs: list[Spec | None] = []
        wrong: dict[int, CallerError] = {}
        for number, row in enumerate(message.specs):
            try:
                specs.append(self._read_spec(row))
            except (CallerError, Rejected) as error:
                specs.append(None)
                wrong[number] = error  # type: ignore[assignment]
        return specs, wrong

    def _read_spec(self, row: list[object]) -> Spec:
        task, queue, priority, options = row
        assert isinstance(options, dict) and isinstance(priority, int)
        asked = self._complete(map_to_options(options) if options else DEFAULT_OPTIONS)
        return Spec(check_name("task", task), check_name("queue", queue), priority, asked)

    def _refuse_wrong(
        self, message: Submit, ids: list[bytes], answer: Answer, wrong: dict[int, CallerError]
    ) -> None:
        which = message.which
        bad = 0
        for index in range(len(ids)):
            error = wrong.get(0 if which is None else which[index])
            if error is not None:
                answer.refused.append([index, error.code, str(error), 0.0])
                bad += 1
        answer.settle(bad)

    def _deadlines(self, message: Submit, indices: Sequence[int]) -> list[float | None] | None:
        """When the deadlines of jobs are, by the time of day here."""
        column = message.deadline_in
        if column is None:
            return None
        now = self._wall()
        return [None if (left := column[index]) is None else now + left for index in indices]

    def _offer(self, fact: Submission, origin: Origin, priority: int) -> None:
        try:
            self._inbox.offer(fact, priority)
        except Overloaded as full:
            text, again = str(full), full.retry_after
            origin.settle([Refusal(at, full.code, text, again) for at in range(len(fact.ids))])

    # -- groups -----------------------------------------------------------------------------

    def _receive_grouped(
        self,
        message: Submit,
        ids: list[bytes],
        answer: Answer,
        specs: list[Spec | None],
        wrong: dict[int, CallerError],
    ) -> None:
        total = message.group_total
        if not ids:
            raise ProtocolError("message Submit, field ids: expected at least one job of its group")
        if message.group is None or total is None or not 0 < total <= MAX_GROUP_JOBS:
            raise ProtocolError(
                f"message Submit, field group_total: expected 1 to {MAX_GROUP_JOBS}, got {total}"
            )
        name = self.tenant, message.group
        group = self._groups.get(name)
        if group is None:
            if (refused := self._refused.get(name)) is not None:
                refused.left -= len(ids)
                if refused.left <= 0:
                    del self._refused[name]
                _refuse_all(Origin(self._peer, [(answer, range(len(ids)))]), refused.error)
                return
            if len(self._groups) >= MAX_OPEN_GROUPS:
                raise ProtocolError(f"more than {MAX_OPEN_GROUPS} groups are open at once")
            origin = Origin(self._peer, [])
            fact = Submission(origin, [], [], [], which=[], atomic=True, tenant=self.tenant)
            group = self._groups[name] = _Group(total, fact, origin)
        before = len(group.fact.ids)
        deadlines = self._deadlines(message, range(len(ids)))
        group.fact.deadlines = _joined(group.fact.deadlines, deadlines, before, len(ids))
        _append(group.fact, message, ids, specs)
        group.origin.parts.append((answer, range(len(ids))))
        group.size += sum(map(len, message.payloads))
        try:
            group.held += self._inbox.groups.take(self.tenant, message)
        except Overloaded as full:
            self._refuse_group(name, full)
            return
        if wrong:
            self._refuse_group(name, next(iter(wrong.values())))
        elif len(group.fact.ids) > total or group.size > MAX_GROUP_BYTES:
            raise ProtocolError(
                f"a group has {len(group.fact.ids)} jobs and {group.size} bytes; "
                f"announced were {total}, and {MAX_GROUP_BYTES} bytes are allowed"
            )
        elif len(group.fact.ids) == total:
            self._let_go(name)
            urgent = max(spec.priority for spec in group.fact.specs)
            self._offer(group.fact, group.origin, urgent)

    def close(self) -> None:
        """The connection has ended: the rest of its groups will not come."""
        for name in list(self._groups):
            self._let_go(name)

    def _let_go(self, name: _GroupName) -> _Group:
        group = self._groups.pop(name)
        self._inbox.groups.give_back(group.fact.tenant, group.held)
        return group

    def _refuse_group(self, name: _GroupName, error: CallerError | Rejected) -> None:
        group = self._let_go(name)
        left = group.total - len(group.fact.ids)
        if left > 0:
            self._refused[name] = _Refused(error, left)
        if len(self._refused) > REFUSED_GROUPS:
            self._refused.popitem(last=False)
        _refuse_all(group.origin, error)


def _in_order(rows: list[list[object]]) -> list[list[object]] | None:
    return sorted(rows, key=lambda row: int(str(row[0]))) if rows else None


def _check_keys(message: Submit) -> None:
    """Refuse what no client of ours sends.

    Raises:
        InvalidOption: a key or a window that cannot be.
    """
    for key in message.keys or ():
        if key is not None:
            check_key(key)
    if message.key_seconds is not None:
        check_window(message.key_seconds)


def _refuse_all(origin: Origin, error: CallerError | Rejected) -> None:
    count = sum(len(indices) for _, indices in origin.parts)
    again = error.retry_after if isinstance(error, Overloaded) else 0.0
    origin.settle([Refusal(index, error.code, str(error), again) for index in range(count)])


def _by_priority(
    specs: Sequence[Spec | None], message: Submit, count: int
) -> dict[int, Sequence[int]]:
    """The indices of the acceptable jobs, by priority, most urgent first."""
    priorities = {spec.priority for spec in specs if spec is not None}
    if len(priorities) == 1 and None not in specs:
        return {priorities.pop(): range(count)}
    found: dict[int, list[int]] = {int(p): [] for p in sorted(TaskPriority, reverse=True)}
    which = message.which
    for index in range(count):
        spec = specs[0 if which is None else which[index]]
        if spec is not None:
            found[spec.priority].append(index)
    return {priority: indices for priority, indices in found.items() if indices}


def _columns(
    message: Submit, ids: list[bytes], specs: Sequence[Spec | None], indices: Sequence[int]
) -> Submission:
    """The jobs at ``indices`` as a fact of their own."""
    known = [spec or _NOBODY for spec in specs]
    first = message.first_try
    if len(indices) == len(ids):
        return Submission(
            None,
            known,
            ids,
            message.payloads,
            message.which,
            message.ready_at,
            message.expires_at,
            first,
            message.watch,
            keys=message.keys,
            key_seconds=_key_seconds(message),
        )

    def pick(column: Sequence[T] | None) -> list[T] | None:
        return None if column is None else [column[index] for index in indices]

    return Submission(
        None,
        known,
        [ids[index] for index in indices],
        [message.payloads[index] for index in indices],
        pick(message.which),
        pick(message.ready_at),
        pick(message.expires_at),
        first,
        message.watch,
        keys=pick(message.keys),
        key_seconds=_key_seconds(message),
    )


def _key_seconds(message: Submit) -> float:
    return DEFAULT_KEY_SECONDS if message.key_seconds is None else message.key_seconds


def _append(
    fact: Submission, message: Submit, ids: list[bytes], specs: Sequence[Spec | None]
) -> None:
    """Add the jobs of one message to a group's fact."""
    base, before = len(fact.specs), len(fact.ids)
    fact.specs = [*fact.specs, *(spec or _NOBODY for spec in specs)]
    which = message.which or [0] * len(ids)
    fact.which = [*(fact.which or ()), *(base + number for number in which)]
    fact.ids = [*fact.ids, *ids]
    fact.payloads = [*fact.payloads, *message.payloads]
    fact.ready_at = _joined(fact.ready_at, message.ready_at, before, len(ids))
    fact.expires_at = _joined(fact.expires_at, message.expires_at, before, len(ids))
    fact.keys = _joined(fact.keys, message.keys, before, len(ids))
    if message.keys is not None:
        fact.key_seconds = _key_seconds(message)
    fact.first_try = fact.first_try and message.first_try
    fact.watch = fact.watch or message.watch


def _joined(
    left: Sequence[T | None] | None,
    right: Sequence[T | None] | None,
    before: int,
    added: int,
) -> Sequence[T | None] | None:
    if left is None and right is None:
        return None
    return [*(left or [None] * before), *(right or [None] * added)]


_NOBODY: Final = Spec("nobody", "nobody", 0, DEFAULT_OPTIONS)
"""Stands for a spec that was refused; no accepted job refers to it."""
