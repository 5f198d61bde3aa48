"""Messages with exactly one thing wrong, by the schema: every place of every rule in turn."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import fastworker.wire
from tests.bad_input.mutations import WRONG_VALUES, fields_of, raw_example
from tests.fuzzing.cddl import Array, Choice, Map, Name, Schema, Type
from tests.wire.examples import EXAMPLES

SCHEMA: Final = Schema(
    (Path(fastworker.wire.__file__).parent / "schema.cddl").read_text(encoding="utf-8")
)

NEVER_BY_NAME: Final = frozenset({"plain", "plain-map", "options", "job-options"})
"""Any value at all may be in there; what it means is looked at later."""


@dataclass(frozen=True, slots=True)
class Place:
    """Somewhere inside the fields of a message: keys and indices, and what belongs there."""

    path: tuple[str | int, ...]
    rule: Type
    optional: bool = False

    @property
    def field(self) -> str:
        """The field of the message that it is in."""
        return str(self.path[0])


def one_thing_wrong() -> Iterator[tuple[str, Place, list[object]]]:
    """Every example with every place in it replaced by everything that does not belong there.

    Gives the example's name, the place, and the message as it travels.
    """
    rules = {kind: fields for _, kind, fields in SCHEMA.messages()}
    for name in EXAMPLES:
        kind, fields = raw_example(name)
        assert isinstance(kind, int)
        for place in _places(rules[kind], fields, ()):
            for value in WRONG_VALUES:
                if not SCHEMA.matches(place.rule, value):
                    yield name, place, _replaced(name, place, value)


def one_field_missing() -> Iterator[tuple[str, Place, list[object]]]:
    """Every example without each of the fields it must have."""
    rules = {kind: fields for _, kind, fields in SCHEMA.messages()}
    for name in EXAMPLES:
        kind, _ = raw_example(name)
        assert isinstance(kind, int)
        for field in rules[kind].fields:
            if not field.optional:
                item = raw_example(name)
                del fields_of(item)[field.key]
                yield name, Place((field.key,), field.type), item


def _places(rule: Type, value: Any, path: tuple[str | int, ...]) -> Iterator[Place]:
    match rule:
        case Name(name):
            if name not in NEVER_BY_NAME:
                yield from _places(SCHEMA.rules[name], value, path)
        case Choice(among):
            for each in among:
                if SCHEMA.matches(each, value):
                    yield from _places(each, value, path)
        case Map(fields, None):
            for field in fields:
                if field.key in value:
                    below = (*path, field.key)
                    yield Place(below, field.type, field.optional)
                    yield from _places(field.type, value[field.key], below)
        case Array(each, None):
            for index, inner in enumerate(each):
                yield Place((*path, index), inner)
                yield from _places(inner, value[index], (*path, index))
        case Array(_, repeated) if value:
            assert repeated is not None
            yield Place((*path, 0), repeated)
            yield from _places(repeated, value[0], (*path, 0))
        case _:
            pass


def _replaced(name: str, place: Place, value: object) -> list[object]:
    item = raw_example(name)
    box: Any = fields_of(item)
    for key in place.path[:-1]:
        box = box[key]
    box[place.path[-1]] = copy.deepcopy(value)
    return item
