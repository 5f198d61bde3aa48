"""What the running jobs of this process are doing, found out from any thread.

A job is found in three ways: its code is on the stack of a thread; its asyncio task waits; its
Trio task waits. The first is told from `run_coroutine` and `run_function`, below which all code of
jobs runs, so that nothing has to be noted while jobs run.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from types import FrameType
from typing import Any, Final, NamedTuple

import trio

from fastworker.core.records import PROCESS_POOL
from fastworker.runner.assignment import Assignment
from fastworker.runner.attempt import run_coroutine, run_function
from fastworker.runner.context import current_job
from fastworker.runner.frames import (
    Frames,
    after,
    as_text,
    await_chain,
    awaited_frames,
    bounded,
    thread_frames,
)

MAX_TASKS: Final = 50
"""Of one job are shown: the tasks that its nurseries or groups have started."""

MAX_ANSWER_CHARACTERS: Final = 2 * 1024 * 1024
"""Of stacks in one answer: whatever the characters are, they fit into a frame."""

Jobs = Callable[[], list[Assignment]]
"""The jobs that run; from any thread."""

JOB_CODES: Final = (run_coroutine.__code__, run_function.__code__)
"""What all code of jobs runs below."""

_GROUP_EXIT: Final = asyncio.TaskGroup.__aexit__.__code__

_RACES: Final = (RuntimeError, AttributeError, ValueError, KeyError, IndexError)
"""What looking at something that changes meanwhile may raise."""


class Stack(NamedTuple):
    """A row of `Stacks`."""

    token: int
    kind: str
    waits: int
    start: float | None
    text: str


def stacks_of(
    jobs: Iterable[Assignment], tokens: Iterable[int] | None, *, with_text: bool
) -> list[list[object]]:
    """Rows of `Stacks` for these of the running jobs (None: all). Any thread."""
    wanted = None if tokens is None else set(tokens)
    executing = executing_jobs()
    rows: list[list[object]] = []
    left = MAX_ANSWER_CHARACTERS
    for job in jobs:
        if wanted is not None and job.token not in wanted:
            continue
        frames = executing.get(job.token)
        text = _text_of(job, frames) if with_text and left > 0 else ""
        if with_text and left <= 0:
            text = "left out, since the answer is full; ask for this job alone"
        left -= len(text)
        kind = loop_of(job) or ("process" if job.route.pool == PROCESS_POOL else "thread")
        rows.append([*Stack(job.token, kind, max(job.waits, 0), job.started_wall, text)])
    return rows


def executing_jobs() -> dict[int, Frames]:
    """What is on the stacks of all threads, by the token of the job it belongs to."""
    found: dict[int, Frames] = {}
    for thread, innermost in sys._current_frames().items():
        if thread == threading.get_ident():
            continue  # a list of frames that is among its own frames would keep all of them alive
        frames = thread_frames(innermost)
        job = job_of(frames)
        if job is not None:
            found[job.token] = after(frames, JOB_CODES)
    return found


def job_of(frames: Frames) -> Assignment | None:
    """The job whose attempt is among these frames of a thread."""
    for frame, _ in reversed(frames):
        if frame.f_code in JOB_CODES:
            job = frame.f_locals.get("assignment")
            return job if isinstance(job, Assignment) else None
    return None


def job_behind(frames: Frames, jobs: Collection[Assignment]) -> Assignment | None:
    """The job whose code these frames of a loop's thread are: its own, or of a task it started."""
    found = job_of(frames)
    if found is not None:
        return found
    on_stack = {id(frame) for frame, _ in frames}
    for job in jobs:
        for task in _tasks_of(job):
            if id(_first_frame(task)) in on_stack:
                return job
    return _job_of_any_task(on_stack, jobs)


def _job_of_any_task(on_stack: set[int], jobs: Iterable[Assignment]) -> Assignment | None:
    """By the context of an asyncio task that its job does not wait for (Python 3.12 and later)."""
    loops = {job.held.get_loop() for job in jobs if isinstance(job.held, asyncio.Task)}
    for loop in loops:
        for task in _asyncio_tasks(loop):
            if id(_first_frame(task)) in on_stack and hasattr(task, "get_context"):
                job = task.get_context().get(current_job)
                return job if isinstance(job, Assignment) else None
    return None


def _asyncio_tasks(loop: asyncio.AbstractEventLoop) -> set[asyncio.Task[Any]]:
    try:
        return asyncio.all_tasks(loop)
    except _RACES:
        return set()


def _first_frame(task: object) -> FrameType | None:
    coroutine = _coroutine_of(task)
    frame = getattr(coroutine, "cr_frame", None)
    return frame if isinstance(frame, FrameType) else None


def loop_of(job: Assignment) -> str:
    """The name of the event loop it runs on; "" for one in a thread, or that has not got there."""
    if job.trio_task is not None:
        return "trio"
    return "asyncio" if isinstance(job.held, asyncio.Future) else ""


def _text_of(job: Assignment, executing: Frames | None) -> str:
    try:
        if executing is not None:
            return bounded(as_text(executing))
        lines = list(_waiting_lines(job))
    except _RACES as error:
        return f"it moved while it was looked at ({type(error).__name__}); ask again"
    return bounded("\n".join(lines)) if lines else "its code has not begun, or is just ending"


def _waiting_lines(job: Assignment) -> Iterator[str]:
    """The stack of the job's own task, then those of the tasks it waits for, indented."""
    todo: list[tuple[object, int]] = [(_task_of(job), 0)]
    for _ in range(MAX_TASKS):
        if not todo:
            return
        task, depth = todo.pop(0)
        margin = "    " * depth
        if depth > 0:
            yield f"{margin}task {_name_of(task)}:"
        frames = awaited_frames(_coroutine_of(task))
        text = as_text(after(frames, JOB_CODES))
        yield from (margin + line for line in text.splitlines())
        todo[:0] = [(child, depth + 1) for child in _children_of(task)]
    if todo:
        yield "… more tasks are left out"


def _tasks_of(job: Assignment) -> Iterator[object]:
    todo: list[object] = [_task_of(job)]
    for _ in range(10 * MAX_TASKS):
        if not todo:
            return
        task = todo.pop()
        yield task
        try:
            todo += _children_of(task)
        except _RACES:
            continue


def _task_of(job: Assignment) -> object:
    return job.held if job.trio_task is None else job.trio_task


def _coroutine_of(task: object) -> object:
    if isinstance(task, trio.lowlevel.Task):
        return task.coro
    if isinstance(task, asyncio.Task):
        return task.get_coro()
    return None


def _name_of(task: object) -> str:
    name = task.get_name() if isinstance(task, asyncio.Task) else getattr(task, "name", "")
    return str(name)[:200]


def _children_of(task: object) -> list[object]:
    """The tasks that this one waits for: in its nurseries or task group, or awaited directly."""
    if isinstance(task, trio.lowlevel.Task):
        return [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    if not isinstance(task, asyncio.Task):
        return []
    awaited = getattr(task, "_fut_waiter", None)
    if isinstance(awaited, asyncio.Task):
        return [awaited]
    gathered = getattr(awaited, "_children", None)
    if isinstance(gathered, list):
        return [child for child in gathered if isinstance(child, asyncio.Task) and not child.done()]
    return _group_tasks(task)


def _group_tasks(task: asyncio.Task[Any]) -> list[object]:
    for awaitable in await_chain(task.get_coro()):
        frame = getattr(awaitable, "cr_frame", None)
        if isinstance(frame, FrameType) and frame.f_code is _GROUP_EXIT:
            group = frame.f_locals.get("self")
            return list(getattr(group, "_tasks", ()))
    return []
