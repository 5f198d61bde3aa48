"""What to do: everything the core asks of the shell, once the store has what led to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from fastworker.core.facts import CancelRequest, QueuePause, Registration, Submission, WatchRequest
from fastworker.core.records import FinishRow, JobRow


@dataclass(slots=True)
class Refusal:
    """One job of a submission that is not accepted; ``code`` as in `errors`."""

    index: int
    code: str
    message: str
    retry_after: float = 0.0
    """Seconds; 0: not said."""


@dataclass(slots=True)
class AnswerSubmission:
    """All jobs that are not in ``refused`` are accepted and stored.

    ``ended``: repeated jobs that have ended already, for a submission that watches.
    """

    fact: Submission
    refused: list[Refusal] = field(default_factory=list)
    ended: list[FinishRow] = field(default_factory=list)
    existing: list[tuple[int, bytes]] = field(default_factory=list)
    """(index, id) where an idempotency key gave an older job, or is in conflict with it."""
    older: list[bytes] = field(default_factory=list)
    """Those of ``existing`` that go on, for a submission that watches."""


@dataclass(slots=True)
class AssignJobs:
    """Send leased jobs to a subworker; ``urgent`` ones overtake what waits to be sent."""

    session: bytes
    jobs: list[tuple[JobRow, int]]
    """Each with its pool."""
    urgent: bool


@dataclass(slots=True)
class AcknowledgeOutcomes:
    """Tell a subworker that it may forget these attempts."""

    session: bytes
    tokens: list[int]
    stale: list[int]


@dataclass(slots=True)
class AnnounceEnded:
    """Tell whoever watches."""

    finishes: list[FinishRow]


@dataclass(slots=True)
class AnswerRegistration:
    """The subworker is registered; ``stale`` are claims it no longer holds."""

    fact: Registration
    stale: list[int]


@dataclass(slots=True)
class WithdrawJobs:
    """Ask a subworker to give jobs back, or, once they have started, to have them stop.

    ``grace``: seconds they have for that; None: as their tasks say.
    """

    session: bytes
    ids: list[bytes]
    tokens: list[int]
    grace: float | None
    reason: str


@dataclass(slots=True)
class SettleCancel:
    """One id of a cancel request is settled."""

    fact: CancelRequest
    index: int
    outcome: str
    stack: str | None = None
    """Where it is, if it is still unwinding."""


@dataclass(slots=True)
class CancelChildren:
    """Look up the jobs that these have submitted, and request that they be cancelled, too."""

    parents: list[bytes]
    reason: str
    grace: float | None
    """None: as each was submitted."""


@dataclass(slots=True)
class AnswerWatch:
    """Watched jobs that have ended already, or of which nothing can be told."""

    fact: WatchRequest
    ended: list[FinishRow]
    unknown: list[bytes]
    expired: list[bytes]


@dataclass(slots=True)
class AnswerPause:
    """The pause or its end is stored."""

    fact: QueuePause


@dataclass(slots=True)
class AnnounceLines:
    """These jobs have said something that is stored now: tell whoever follows them."""

    ids: list[bytes]


@dataclass(slots=True)
class AnnounceRoster:
    """The set of subworkers or of their tasks has changed."""


Command: TypeAlias = (
    AnswerSubmission
    | AssignJobs
    | AcknowledgeOutcomes
    | AnnounceEnded
    | AnswerRegistration
    | WithdrawJobs
    | SettleCancel
    | CancelChildren
    | AnswerWatch
    | AnswerPause
    | AnnounceRoster
    | AnnounceLines
)
