"""D20 by the schema itself: a wrong type in any place of any message is refused by its name."""

from __future__ import annotations

import os
import random
from typing import Any

import cbor2
import pytest

from fastworker.errors import AuthenticationFailed, ProtocolError, UnsupportedVersion
from fastworker.wire.codec import MESSAGES, decode, encode
from fastworker.wire.handshake import DialerHandshake, ListenerHandshake
from fastworker.wire.messages import Challenge, Fetched, Hello
from fastworker.wire.views import map_to_view
from tests.fuzzing.cddl import Generator
from tests.fuzzing.wrong import SCHEMA, Place, one_field_missing, one_thing_wrong
from tests.wire.examples import EXAMPLES

GENERATED = 20
"""Of each kind; `nox -s fuzz` makes more."""

NEVER_FITS = {("Challenge", "mac"), ("Proof", "mac")}
"""Bytes of any length may be compared with the right ones."""


def refusal(item: list[object]) -> str:
    """What its receiver says of a message; empty if it takes it."""
    try:
        (message,) = decode(cbor2.dumps([item]))
        match message:
            case Hello():
                ListenerHandshake(lambda _: None, os.urandom).receive_hello(message)
            case Challenge():
                DialerHandshake("client", "t" * 40, os.urandom).receive(message)
            case Fetched(_, jobs):
                for job in jobs:
                    map_to_view(job)
    except ProtocolError as error:
        return str(error)
    except (AuthenticationFailed, UnsupportedVersion):
        return ""
    return ""


def value_at(item: list[object], place: Place) -> object:
    """What is there."""
    value: Any = item[1]
    for key in place.path:
        value = value[key]
    return value


def check_named(name: str, place: Place, item: list[object]) -> str | None:
    """A sentence if the refusal does not name message and field; None if all is well."""
    title = type(EXAMPLES[name]).__name__
    found = refusal(item)
    if found.startswith(f"message {title}, field {place.field}: expected "):
        return None
    if title == "Fetched" and found.startswith("job view, key "):
        return None
    if (title, place.field) in NEVER_FITS and not found:
        return None
    if title == "Fetched" and place.optional and value_at(item, place) is None:
        return None  # as good as left out
    return f"{name}{list(place.path)}: {found or 'it was taken'}: {item!r:.300}"


def test_d20_a_wrong_type_in_any_place_is_refused_by_its_field() -> None:
    cases = list(one_thing_wrong())
    assert {type(EXAMPLES[name]).KIND for name, _, _ in cases} == set(MESSAGES)
    wrong = {check_named(*case) for case in cases}
    assert sorted(filter(None, wrong)) == []


def test_d20_a_missing_field_is_refused_by_its_name() -> None:
    wrong = {check_named(*case) for case in one_field_missing()}
    assert sorted(filter(None, wrong)) == []


@pytest.mark.parametrize("name", [name for name, _, _ in SCHEMA.messages()])
def test_what_the_schema_generates_is_taken_or_refused_by_its_field(name: str) -> None:
    generator = Generator(SCHEMA, random.Random(name))
    taken = 0
    for _ in range(GENERATED):
        item = generator.message(name)
        assert SCHEMA.matches(SCHEMA.rules[name], item)
        found = refusal(item)
        assert not found or ", field " in found or "view, key " in found, found
        if not found:
            (message,) = decode(cbor2.dumps([item]))
            assert SCHEMA.matches(SCHEMA.rules["frame"], cbor2.loads(encode([message])))
        taken += not found
    assert taken


def test_examples_are_what_the_schema_says() -> None:
    for name, example in EXAMPLES.items():
        assert SCHEMA.matches(SCHEMA.rules["frame"], cbor2.loads(encode([example]))), name
