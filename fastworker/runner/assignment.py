"""One attempt at a job, as the runner holds it from its arrival to its outcome."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from fastworker.core.records import DEFAULT_TENANT
from fastworker.runner.board import Cells
from fastworker.runner.stopping import Limits, Stop
from fastworker.runner.streams import StreamBuffer
from fastworker.tasks import TaskDefinition
from fastworker.tasks.models import TaskModels

if TYPE_CHECKING:
    from fastworker.runner.reports import Reports, Said


@dataclass(slots=True, eq=False)
class Route:
    """What is the same for all jobs of one task: found once, shared by its assignments.

    ``definition`` is None for a task that this runner does not know. ``random`` is for the jitter
    of retries, ``board`` for the tokens of jobs that start (see `fastworker.runner.board`).
    ``in_loop``: its jobs share an event loop, in which none may block. ``stops``: its running jobs
    are stopped when their lease may be lost. ``limits``: of jobs that bring none of their own.
    """

    task: str
    definition: TaskDefinition | None
    pool: int
    start: Callable[[Assignment], None]
    random: Random = field(default_factory=Random)
    board: Cells = field(default_factory=lambda: [0])
    stops: bool = False
    in_loop: bool = True
    limits: Limits | None = None
    models: TaskModels | None = None
    """What the annotations of the task make of plain arguments."""


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
    checkpoint: bytes | None = None
    """What an attempt before it has left, sealed."""
    reports: Reports | None = None
    """Takes what it says of itself; set when it starts."""
    said: Said | None = None
    """What it has said of itself; None: nothing."""
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
    trio_task: object = None
    """The task that runs it, in Trio; for those who ask where it is."""
    limits: Limits | None = None
    """None: it may run for as long as it likes."""
    stop: Stop | None = None
    """It has been told to stop, and why."""
    cancel: Callable[[Assignment], None] | None = None
    """Has its event loop stop it, from any thread; set once it has started in one. In a thread it
    looks at ``stop`` itself."""
    cancelled: bool = False
    """Its event loop has been asked to."""
    context: bytes | None = None
    """Values of context variables that its code is to find, sealed."""
    streamed: bool = False
    """Its items are taken one by one; it is a generator task, or fails."""
    stream: StreamBuffer | None = None
    """They wait here; set when it starts."""
    tenant: str = DEFAULT_TENANT
    """Whose job it is."""
