"""Threads for ``def`` tasks: long-lived, fed by one queue.

A new thread for every job would cost ten times as much as most jobs do.
"""

from __future__ import annotations

import threading
from contextvars import copy_context
from queue import SimpleQueue

from fastworker.runner.assignment import Assignment
from fastworker.runner.attempt import run_function
from fastworker.runner.reactor import Finish


class ThreadCrew:
    """As many threads as there were ever jobs at once; they end with the process."""

    def __init__(self, *, limit: int, finish: Finish) -> None:
        """Args:
        limit: threads kept when there is less to do. Jobs that wait for other jobs do not
            count against the slots, so there may be more for a while.
        finish: called in the job's thread with each ending.
        """
        self._limit = limit
        self._finish = finish
        self._jobs: SimpleQueue[Assignment] = SimpleQueue()
        self._lock = threading.Lock()
        self._busy = 0
        """Jobs that are in the queue or running: never more than there are threads."""
        self._threads = 0
        self._base = copy_context()

    def start(self, assignment: Assignment) -> None:
        """Run the attempt in a thread that is free, or in a new one."""
        with self._lock:
            self._busy += 1
            one_more = self._busy > self._threads
            if one_more:
                self._threads += 1
        self._jobs.put(assignment)
        if one_more:
            threading.Thread(target=self._work, name="fastworker-task", daemon=True).start()

    def _work(self) -> None:
        while True:
            assignment = self._jobs.get()
            ending = self._base.copy().run(run_function, assignment)
            with self._lock:
                self._busy -= 1
                leaves = self._threads > self._limit
                if leaves:
                    self._threads -= 1
            self._finish(assignment, ending)
            if leaves:
                return
            # Otherwise this frame would keep the last job's payload and result alive.
            del assignment, ending
