"""Whether, and when, a failed attempt is repeated: a task's policy, and what a task may raise.

Pure: an exception, a count and a random number go in, a decision comes out. The runner decides,
since it knows the exception; the control plane then does it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from random import Random
from typing import Final, NamedTuple, TypeAlias

from fastworker.core.lengths import seconds_of
from fastworker.errors import FastWorkerError, InvalidOption

ExceptionTypes: TypeAlias = type[BaseException] | tuple[type[BaseException], ...]

DEFAULT_TIMES: Final = 3
"""Retries of `Retry()`; also how often a task without a policy may raise a counted `RetryLater`."""

MAX_TIMES: Final = 1_000_000
MAX_SECONDS: Final = 366 * 86_400
"""A year: whatever is longer is a mistake of units."""


@dataclass(frozen=True, slots=True)
class Retry:
    """When a failed attempt of a task is repeated: ``@task(retries=Retry(times=5))``.

    The wait before retry number n (from 1) is ``backoff * factor ** (n - 1)``, at most
    ``max_delay``, less a random part of up to the share ``jitter``. A jitter of 1 is the "full
    jitter", 0.5 the "equal jitter" of "Exponential Backoff And Jitter" (AWS Architecture Blog,
    2015); 0 is none.

    Args:
        times: retries, after the first attempt; 0: none.
        backoff: the first wait; seconds or a timedelta. 0: at once.
        factor: how many times longer each further wait is; 1: always the same.
        max_delay: the longest wait; seconds or a timedelta.
        jitter: from 0 to 1.
        on: the exceptions that are retried: a class or a tuple of classes. A group is, if all
            that is in it is.
        never: those that are not, even if ``on`` names them. A group is not, if anything in it is.
        budget: seconds or a timedelta from the first attempt's start, after which no retry
            begins; None: no limit.

    Raises:
        InvalidOption: a value an option cannot have; the option is named.
    """

    times: int = DEFAULT_TIMES
    backoff: float | timedelta = 1.0
    factor: float = 2.0
    max_delay: float | timedelta = 300.0
    jitter: float = 0.5
    on: ExceptionTypes = (Exception,)
    never: ExceptionTypes = ()
    budget: float | timedelta | None = None

    def __post_init__(self) -> None:
        if type(self.times) is not int:
            raise InvalidOption(f"retries is a whole number, not {self.times!r:.40}")
        if not 0 <= self.times <= MAX_TIMES:
            raise InvalidOption(f"retries is from 0 to {MAX_TIMES}, not {self.times!r:.40}")
        seconds_of(self.backoff, "backoff", most=MAX_SECONDS)
        seconds_of(self.max_delay, "max_delay", most=MAX_SECONDS)
        if self.budget is not None:
            seconds_of(self.budget, "budget", most=MAX_SECONDS)
        _check_number("factor", self.factor, least=1.0, most=1000.0)
        _check_number("jitter", self.jitter, least=0.0, most=1.0)
        _check_classes("on", self.on)
        _check_classes("never", self.never)


class RetryLater(FastWorkerError):
    """Raised by a task: run this job again later. ``raise RetryLater(30)``.

    It needs no policy. If the job may not be repeated any more, it fails with this exception.

    Args:
        delay: seconds or a timedelta until then; 0: at once.
        counted: whether it uses up one of the policy's retries (without a policy, one of 3).
            If not, only the policy's ``budget`` and the job's ``expires`` end the repetition.
        reason: for people who look at the job.

    Raises:
        InvalidOption: a delay that cannot be.
    """

    code = "retry_later"

    def __init__(
        self, delay: float | timedelta, *, counted: bool = False, reason: str = ""
    ) -> None:
        self.seconds: float = seconds_of(delay, "delay", most=MAX_SECONDS)
        self.counted = counted
        super().__init__(reason or f"to be run again in {self.seconds:g} s")


class RetryDecision(NamedTuple):
    """A failed attempt is repeated: a row of `Outcome.retries` without its index."""

    delay: float
    counted: bool
    budget: float | None


def retry_policy(
    retries: int | Retry | None, backoff: float | timedelta | None = None
) -> Retry | None:
    """The policy that the options of ``@task`` ask for; None: no retry.

    Raises:
        InvalidOption: a value an option cannot have, or ``backoff`` without a number of retries.
    """
    if isinstance(retries, Retry):
        if backoff is not None:
            raise InvalidOption("backoff is said by the Retry that retries is; say it there")
        return retries
    if retries is None:
        if backoff is not None:
            raise InvalidOption("backoff is the wait before a retry; give retries, too")
        return None
    policy = Retry(times=retries)
    return policy if backoff is None else replace(policy, backoff=backoff)


def decide(
    policy: Retry | None, error: BaseException, *, failures: int, random: Random
) -> RetryDecision | None:
    """Whether an attempt that ended with ``error`` is repeated, and when.

    Args:
        failures: how many attempts of this job have been retried and counted before.
    """
    asked = _asked_for(error)
    if asked is not None:
        return _asked_decision(policy, asked, failures)
    if policy is None or failures >= policy.times:
        return None
    if any(isinstance(each, policy.never) for each in _with_leaves(error)):
        return None
    if not _matches(error, policy.on):
        return None
    delay = _wait_seconds(policy, failures)
    return RetryDecision(delay * (1.0 - policy.jitter * random.random()), True, _budget_of(policy))


def _asked_decision(
    policy: Retry | None, asked: list[RetryLater], failures: int
) -> RetryDecision | None:
    counted = any(each.counted for each in asked)
    if counted and failures >= (DEFAULT_TIMES if policy is None else policy.times):
        return None
    budget = None if policy is None else _budget_of(policy)
    return RetryDecision(max(each.seconds for each in asked), counted, budget)


def _asked_for(error: BaseException) -> list[RetryLater] | None:
    """The `RetryLater` that was raised, also in a group that holds nothing else."""
    if isinstance(error, RetryLater):
        return [error]
    if not isinstance(error, BaseExceptionGroup):
        return None
    leaves = [each for each in _with_leaves(error) if not isinstance(each, BaseExceptionGroup)]
    asked = [each for each in leaves if isinstance(each, RetryLater)]
    return asked if len(asked) == len(leaves) else None


def _matches(error: BaseException, classes: ExceptionTypes) -> bool:
    """Whether it is one of these, or a group of nothing else."""
    if isinstance(error, classes):
        return True
    return isinstance(error, BaseExceptionGroup) and all(
        _matches(each, classes) for each in error.exceptions
    )


def _with_leaves(error: BaseException) -> Iterator[BaseException]:
    """The exception, and if it is a group all that is in it."""
    waiting = [error]
    while waiting:
        each = waiting.pop()
        yield each
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions


def _wait_seconds(policy: Retry, failures: int) -> float:
    longest = seconds_of(policy.max_delay, "max_delay", most=MAX_SECONDS)
    try:
        return min(
            seconds_of(policy.backoff, "backoff", most=MAX_SECONDS) * policy.factor**failures,
            longest,
        )
    except OverflowError:
        return longest


def _budget_of(policy: Retry) -> float | None:
    return None if policy.budget is None else seconds_of(policy.budget, "budget", most=MAX_SECONDS)


def _check_number(option: str, value: object, *, least: float, most: float) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise InvalidOption(f"{option} is a number, not a {type(value).__name__}")
    if not least <= value <= most:
        raise InvalidOption(f"{option} is from {least:g} to {most:g}, not {value!r:.40}")


def _check_classes(option: str, classes: object) -> None:
    given: tuple[object, ...] = classes if isinstance(classes, tuple) else (classes,)
    for each in given:
        if not isinstance(each, type) or not issubclass(each, BaseException):
            raise InvalidOption(
                f"{option} is an exception class or a tuple of them, and {each!r:.60} is none"
            )
