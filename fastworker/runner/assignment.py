"""One attempt at a job, as the runner holds it from its arrival to its outcome."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from fastworker.runner.board import Cells
from fastworker.tasks import TaskDefinition


@dataclass(slots=True, eq=False)
class Route:
    """What is the same for all jobs of one task: found once, shared by its assignments.

    ``definition`` is None for a task that this runner does not know. ``random`` is for the jitter
    of retries, ``board`` for the tokens of jobs that start (see `fastworker.runner.board`).
    ``stops``: its running jobs are cancelled when their lease may be lost.
    """

    task: str
    definition: TaskDefinition | None
    pool: int
    start: Callable[[Assignment], None]
    random: Random = field(default_factory=Random)
    board: Cells = field(default_factory=lambda: [0])
    stops: bool = False


@dataclass(slots=True, eq=False)
class Assignment:
    """An attempt: the job, its lease token, and the marks of its progress.

    ``start_before`` and the marks are seconds of the monotonic clock, but for ``started_wall``.
    """

    id: bytes
    token: int
    route: Route
    priority: int
    payload: bytes
    attempt: int
    start_before: float | None = None
    """It must not be started after this moment; None: no limit."""
    failures: int = 0
    """Attempts before this one that failed and were retried, as its policy counts."""
    place: int = 0
    """Where on the board its token is written when it starts."""
    withdrawn: bool = False
    started_wall: float | None = None
    started: float = 0.0
    ended: float = 0.0
    announced: bool = False
    """The subworker has been told that it runs."""
    waits: int = 0
    """Results of other jobs it waits for just now; its slot is given back meanwhile."""
    held: object = None
    """Keeps what runs it alive: event loops hold their tasks weakly."""
    stopped: bool = False
    """Its lease may be lost, and it is to be cancelled."""
    cancel: Callable[[], None] | None = None
    """Cancels it, from any thread; set once it has started if its route ``stops``."""
