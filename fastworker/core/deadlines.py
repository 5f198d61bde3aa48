"""Deadlines of jobs: the earlier of their own and their parent's, and nothing starts after it."""

from __future__ import annotations

import dataclasses

from fastworker.core.facts import Submission
from fastworker.core.records import JobOptions


class Deadlines:
    """The deadlines of one submission.

    Jobs that share options and deadline share the options that come out, too.
    """

    def __init__(self, fact: Submission) -> None:
        self._given = fact.deadlines
        self.are_none = fact.deadlines is None and all(
            spec.options.deadline is None for spec in fact.specs
        )
        """Whether no job has one, so that nothing is bound."""
        self._made: dict[tuple[int, float], JobOptions] = {}

    def bound(
        self, index: int, options: JobOptions, expires_at: float | None
    ) -> tuple[JobOptions, float | None]:
        """The options with the job's deadline, and the moment after which it is not started.

        Args:
            options: of its spec; a deadline in them is the parent's.
        """
        own, latest = None if self._given is None else self._given[index], options.deadline
        if own is None and latest is None:
            return options, expires_at
        deadline = min(moment for moment in (own, latest) if moment is not None)
        if deadline != latest:
            options = self._with(options, deadline)
        return options, deadline if expires_at is None else min(deadline, expires_at)

    def _with(self, options: JobOptions, deadline: float) -> JobOptions:
        name = id(options), deadline
        made = self._made.get(name)
        if made is None:
            made = self._made[name] = dataclasses.replace(options, deadline=deadline)
        return made
