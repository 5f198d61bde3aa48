"""D26 to D39 against live processes: values, names, options and groups that are refused, or odd.

What each variant is answered is tested in `test_values` and `test_names_and_options`, and what
hostile tasks do to their runners in `tests/zoo`; here they pass a control plane and a subworker.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from fastworker import TaskStatus
from fastworker.errors import ArgumentError, CallerError, InvalidName, NotSerializable
from fastworker.wire import messages as m
from fastworker.wire.values import seal_call
from tests.bad_input.live import HOSTILE_TASK, MARK, Live, run
from tests.bad_input.raw import answer_to, open_peer, register, some_id

pytestmark = [pytest.mark.process, pytest.mark.slow]

ODD_VALUES: tuple[Any, ...] = (
    *(math.nan, math.inf, -0.0, 2**63, 2**64, -(2**64) - 1, 10**400, b"\x00\xff", Decimal("1.10")),
    *(
        datetime(2024, 2, 29, 12, tzinfo=UTC),
        {1, 2},
        (1, (2, 3)),
        {None: 1},
        "\x1b[31m\0\r\n\u202e",
    ),
)


def test_d26_odd_values_come_back_as_documented(live: Live) -> None:
    with live.row(ending=0):
        (args, kwargs) = live.client.submit("echo", *ODD_VALUES, named=None).result(timeout=20)
    for sent, back in zip(ODD_VALUES, args, strict=True):
        assert repr(back) == repr(sent)
    assert kwargs == {"named": None}


@pytest.mark.parametrize(
    "value",
    [lambda: 1, (n for n in ()), object(), "\ud800"],
    ids=["lambda", "generator", "object", "surrogate"],
)
def test_d27_what_cannot_travel_is_named_and_the_connection_unharmed(
    live: Live, value: object
) -> None:
    with live.row(ending=0), pytest.raises(NotSerializable, match=r"args\[0\]\.to"):
        live.client.submit(HOSTILE_TASK, {"to": value})


def test_d28_result_that_cannot_travel_fails_the_job_once(live: Live) -> None:
    with live.row(ending=0):
        found = live.client.submit("unserialisable").wait(timeout=20)
    assert found.status is TaskStatus.FAILURE and found.attempts == 1
    assert "ResultNotSerializable" in str(found.error)


def test_d29_exception_that_is_hostile_is_text_to_everybody(live: Live) -> None:
    with live.row(ending=0):
        found = live.client.submit("hostile").wait(timeout=20)
    assert found.status is TaskStatus.FAILURE
    assert len(str(found.error)) < 100_000


@pytest.mark.parametrize("name", ["", "../x", "a/b", "x" * 1_000_000, "a\x1b[31m", "a\nb", "a b"])
def test_d30_malformed_names_are_refused_on_both_sides(live: Live, name: str) -> None:
    async def attack(source: str) -> None:
        call = seal_call((MARK,), {}, task="x")
        async with open_peer(live.address, token=live.token, source=source) as peer:
            await peer.send_messages(m.Submit(1, [[name, "default", 1, {}]], some_id(), [call]))
            answer = await answer_to(peer)
        assert isinstance(answer, m.Submitted) and answer.refused is not None
        assert answer.refused[0][1] == "invalid_name"

    with live.row(ending=0) as source:
        with pytest.raises(InvalidName):
            live.client.submit(name)
        if len(name) <= 200:  # longer ones are no names on the wire, either: D20
            run(attack, source)


@pytest.mark.parametrize("name", ["os.system", "__import__", "builtins.eval"])
def test_d30_well_formed_unknown_names_wait(live: Live, name: str) -> None:
    with live.row(ending=0):
        handle = live.client.submit(name, "echo hello")
        assert handle.status() is TaskStatus.QUEUED
        handle.cancel()


@pytest.mark.parametrize("call", [((), {}), ((1,), {"z": 2}), ((1, 2, 3), {})])
def test_d31_arguments_that_do_not_fit(live: Live, call: tuple[Any, Any]) -> None:
    args, kwargs = call
    with live.row(ending=0):
        try:
            found = live.client.submit("add", *args, **kwargs).wait(timeout=20)
        except ArgumentError:
            return  # refused here already: the signature is known
    assert found.status is TaskStatus.FAILURE and found.attempts == 1
    assert "ArgumentError" in str(found.error)


@pytest.mark.parametrize(
    "options",
    [
        {"priority": 99},
        {"countdown": -1},
        {"countdown": math.nan},
        {"expires": math.inf},
        {"eta": datetime(2030, 1, 1)},
        {"timeout": 0},
        {"timeout": -1},
        {"idempotency_key": ""},
        {"idempotency_key": "x" * 1_000_000},
        {"idempotency_key": "a\0b"},
        {"queue": "../x"},
        {"queue": "\x1b[31m"},
    ],
    ids=repr,
)
def test_d32_d34_d35_options_that_are_none(live: Live, options: dict[str, Any]) -> None:
    with live.row(ending=0), pytest.raises(CallerError) as caught:
        live.client.apply(HOSTILE_TASK, (MARK,), **options)
    assert len(str(caught.value)) < 500 and str(caught.value).isprintable()


def test_d32_deadline_that_has_passed_expires_the_job_without_a_start(live: Live) -> None:
    with live.row(ending=0):
        past = datetime(2001, 1, 1, tzinfo=UTC)
        found = live.client.apply("add", (1, 2), expires=past).wait(timeout=20)
    assert found.status is TaskStatus.EXPIRED and found.attempts == 0


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": -1.0},
        {"timeout": math.nan},
        {"on_lost": "explode"},
        {"keep_result": 1},
        {"callback": "file:///etc/passwd"},
    ],
    ids=repr,
)
def test_d32_d34_options_of_a_foreign_client(live: Live, options: dict[str, Any]) -> None:
    async def attack(source: str) -> None:
        call = seal_call((MARK,), {}, task=HOSTILE_TASK)
        async with open_peer(live.address, token=live.token, source=source) as peer:
            await peer.send_messages(
                m.Submit(1, [[HOSTILE_TASK, "default", 1, options]], some_id(), [call])
            )
            answer = await answer_to(peer)
        assert isinstance(answer, m.Submitted), answer
        assert answer.refused is not None, options

    with live.row(ending=0) as source:
        run(attack, source)


@pytest.mark.parametrize("key", ["", "x" * 5_000, "a\0b"], ids=["empty", "long", "NUL"])
def test_d34_keys_of_a_foreign_client(live: Live, key: str) -> None:
    async def attack(source: str) -> None:
        call = seal_call((MARK,), {}, task=HOSTILE_TASK)
        async with open_peer(live.address, token=live.token, source=source) as peer:
            submit = m.Submit(1, [[HOSTILE_TASK, "default", 1, {}]], some_id(), [call], keys=[key])
            await peer.send_messages(submit)
            answer = await answer_to(peer)
        assert isinstance(answer, m.Problem) and answer.request == 1, answer

    with live.row(ending=0) as source:
        run(attack, source)


@pytest.mark.parametrize("label", ["../w", "w\x1b[31m", "", "wоrker", "x" * 1_000])
def test_d35_names_of_subworkers(live: Live, label: str) -> None:
    async def attack(source: str) -> None:
        async with open_peer(live.address, "subworker", token=live.token, source=source) as peer:
            with pytest.raises(AssertionError):
                await register(peer, label)

    with live.row(says="worker name|field label") as source:
        run(attack, source)


def test_d39_one_bad_call_of_a_hundred_refuses_all_of_them(live: Live) -> None:
    calls: list[Any] = [(MARK,)] * 100
    calls[57] = (lambda: 1,)
    with live.row(ending=0), pytest.raises(CallerError, match="function"):
        live.client.submit_many(HOSTILE_TASK, calls)
