"""The decision whether a failed attempt is repeated, as a function."""

from __future__ import annotations

from datetime import timedelta
from random import Random
from typing import Any

import pytest

from fastworker.errors import InvalidOption
from fastworker.tasks import Retry, RetryDecision, RetryLater, decide, task
from fastworker.tasks.definitions import define
from fastworker.tasks.retrying import DEFAULT_TIMES, retry_policy

EXACT = Retry(times=3, backoff=1.0, jitter=0.0)


def decision(policy: Retry | None, error: BaseException, failures: int = 0) -> RetryDecision | None:
    return decide(policy, error, failures=failures, random=Random(7))


def test_without_a_policy_nothing_is_repeated() -> None:
    assert decision(None, ValueError()) is None


def test_waits_double_until_the_retries_are_used_up() -> None:
    delays = [decision(EXACT, ValueError(), failures) for failures in range(4)]

    assert delays[:3] == [(1.0, True, None), (2.0, True, None), (4.0, True, None)]
    assert delays[3] is None


@pytest.mark.parametrize("failures", [9, 100, 5000])
def test_no_wait_is_longer_than_the_longest(failures: int) -> None:
    policy = Retry(times=10_000, max_delay=timedelta(minutes=5), jitter=0)

    assert decision(policy, ValueError(), failures) == (300.0, True, None)


@pytest.mark.parametrize(("jitter", "least"), [(0.5, 2.0), (1.0, 0.0)])
def test_jitter_shortens_a_wait_by_up_to_its_share(jitter: float, least: float) -> None:
    random = Random(7)
    policy = Retry(backoff=4, jitter=jitter)
    found = [decide(policy, ValueError(), failures=0, random=random) for _ in range(500)]
    delays = [each.delay for each in found if each is not None]

    assert len(delays) == 500
    assert least <= min(delays) < least + 0.1
    assert 3.9 < max(delays) <= 4.0


def test_the_budget_goes_along() -> None:
    assert decision(Retry(budget=timedelta(hours=1), jitter=0), OSError()) == (1.0, True, 3600.0)


@pytest.mark.parametrize(
    ("error", "retried"),
    [
        (ConnectionResetError(), True),
        (ConnectionRefusedError(), False),
        (ValueError(), False),
        (ExceptionGroup("", [ConnectionResetError(), ConnectionAbortedError()]), True),
        (ExceptionGroup("", [ConnectionResetError(), ValueError()]), False),
        (ExceptionGroup("", [ExceptionGroup("", [ConnectionRefusedError()])]), False),
    ],
)
def test_only_named_exceptions_are_repeated(error: Exception, retried: bool) -> None:
    policy = Retry(on=ConnectionError, never=(ConnectionRefusedError,))

    assert (decision(policy, error) is not None) is retried


@pytest.mark.parametrize(
    "error",
    [
        KeyboardInterrupt(),
        SystemExit(1),
        GeneratorExit(),
        BaseExceptionGroup("", [ValueError(), SystemExit(1)]),
    ],
)
def test_what_is_no_exception_is_not_repeated_unless_named(error: BaseException) -> None:
    assert decision(EXACT, error) is None
    assert decision(Retry(on=BaseException), error) is not None


def test_retry_later_needs_no_policy_and_is_not_counted() -> None:
    assert decision(None, RetryLater(timedelta(minutes=1)), 1000) == (60.0, False, None)
    assert decision(EXACT, RetryLater(5), 1000) == (5.0, False, None)
    assert decision(Retry(times=0, budget=60), RetryLater(5)) == (5.0, False, 60.0)


def test_retry_later_that_counts_uses_up_retries() -> None:
    asked = RetryLater(5, counted=True)

    assert decision(EXACT, asked, 2) == (5.0, True, None)
    assert decision(EXACT, asked, 3) is None
    assert decision(None, asked, DEFAULT_TIMES - 1) == (5.0, True, None)
    assert decision(None, asked, DEFAULT_TIMES) is None


def test_retry_later_in_a_group_of_its_own_kind_is_understood() -> None:
    asked = ExceptionGroup("", [RetryLater(5), RetryLater(7, counted=True)])
    mixed = ExceptionGroup("", [RetryLater(5), ValueError()])

    assert decision(None, asked) == (7.0, True, None)
    assert decision(None, mixed) is None
    assert decision(EXACT, mixed) == (1.0, True, None)


def test_retry_later_says_what_it_asks_for() -> None:
    assert str(RetryLater(5)) == "to be run again in 5 s"
    assert str(RetryLater(5, reason="rate limit")) == "rate limit"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"times": -1}, "retries is from 0"),
        ({"times": True}, "whole number"),
        ({"times": 2.5}, "whole number"),
        ({"backoff": -1}, "backoff is from 0"),
        ({"backoff": "1"}, "backoff is seconds or a timedelta"),
        ({"backoff": float("nan")}, "backoff is from 0"),
        ({"max_delay": timedelta(-1)}, "max_delay is from 0"),
        ({"factor": 0.5}, "factor is from 1"),
        ({"jitter": 1.5}, "jitter is from 0 to 1"),
        ({"budget": -1}, "budget is from 0"),
        ({"on": "ValueError"}, "on is an exception class"),
        ({"on": (int,)}, "on is an exception class"),
        ({"never": (ValueError, None)}, "never is an exception class"),
    ],
)
def test_what_cannot_be_is_refused_by_name(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidOption, match=said):
        Retry(**options)


def test_a_delay_that_cannot_be_is_refused() -> None:
    with pytest.raises(InvalidOption, match="delay is from 0"):
        RetryLater(-1)


def test_short_forms_of_the_decorator() -> None:
    assert retry_policy(3) == Retry(times=3)
    assert retry_policy(3, timedelta(seconds=2)) == Retry(times=3, backoff=timedelta(seconds=2))
    assert retry_policy(EXACT) is EXACT
    assert retry_policy(None) is None


@pytest.mark.parametrize(("retries", "backoff"), [(EXACT, 1.0), (None, 1.0), ("3", None)])
def test_short_forms_that_contradict_themselves_are_refused(retries: Any, backoff: Any) -> None:
    with pytest.raises(InvalidOption):
        retry_policy(retries, backoff)


def plain() -> None: ...


async def coroutine() -> None: ...


def test_a_task_keeps_its_policy() -> None:
    assert define(plain, retries=2, backoff=0).retry == Retry(times=2, backoff=0)
    assert define(plain).retry is None
    assert task(retries=5)(coroutine).definition.retry == Retry(times=5)


def test_retries_and_at_most_once_exclude_each_other() -> None:
    with pytest.raises(InvalidOption, match='has retries and on_lost="fail"'):
        define(plain, retries=1, on_lost="fail")
    assert define(plain, retries=0, on_lost="fail").retry == Retry(times=0)


def test_any_task_can_be_stopped_with_its_lease() -> None:
    assert define(coroutine, on_lease_lost="cancel").on_lease_lost == "cancel"
    assert define(plain, on_lease_lost="cancel").on_lease_lost == "cancel"
    with pytest.raises(InvalidOption, match="'run' or 'cancel'"):
        define(coroutine, on_lease_lost="stop")  # type: ignore[arg-type]
