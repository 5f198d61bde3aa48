"""Jobs that have arrived and not started: a line for each pool and priority. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from fastworker.core.records import TaskPriority
from fastworker.runner.assignment import Assignment

_MOST_URGENT_FIRST = tuple(sorted((int(p) for p in TaskPriority), reverse=True))


class ReadyJobs:
    """Most urgent first, in order of arrival within a priority; any of them can be withdrawn."""

    def __init__(self, *, pools: int) -> None:
        self._lines: list[list[deque[Assignment]]] = [
            [deque() for _ in range(pools)] for _ in TaskPriority
        ]
        self._by_token: dict[int, Assignment] = {}

    def __len__(self) -> int:
        return len(self._by_token)

    def __contains__(self, token: int) -> bool:
        return token in self._by_token

    def get(self, token: int) -> Assignment | None:
        """The job of this token, if it is here."""
        return self._by_token.get(token)

    def put(self, assignment: Assignment) -> None:
        """Add a job at the end of its line."""
        self._by_token[assignment.token] = assignment
        self._lines[assignment.priority][assignment.route.pool].append(assignment)

    def take(self, free: Sequence[int]) -> Assignment | None:
        """Remove and return the most urgent job of a pool with free slots, or None.

        Args:
            free: free slots by pool; zero or less: none.
        """
        for priority in _MOST_URGENT_FIRST:
            for pool, line in enumerate(self._lines[priority]):
                if free[pool] <= 0:
                    continue
                while line:
                    assignment = line.popleft()
                    if not assignment.withdrawn:
                        del self._by_token[assignment.token]
                        return assignment
        return None

    def withdraw(self, token: int) -> bool:
        """Give up a job before its start; False if it is not here. A second call gives False."""
        assignment = self._by_token.pop(token, None)
        if assignment is None:
            return False
        # It stays in its line until it is reached: removing from the middle costs a search.
        assignment.withdrawn = True
        return True

    def clear(self) -> list[Assignment]:
        """Remove and return everything."""
        left = list(self._by_token.values())
        self._by_token.clear()
        for lines in self._lines:
            for line in lines:
                line.clear()
        return left
