"""The part of CDDL (RFC 8610) that ``wire/schema.cddl`` uses: read, matched, generated from.

Left out is what the schema does not have: generics, sockets, unwrapping, controls but ``.size``,
occurrence other than ``?`` and ``*``. Anything of that is refused when the schema is read.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

MAX_DEPTH: Final = 4
"""Of what is generated for a rule that contains itself."""

USUAL: Final = 0.95
"""How much is of the kind that is sent every day: a message of nothing but extremes is refused."""

TEXTS: Final = ("", "add", "default", "status", "jobs", "dead", "replay", "é‖")

_TOKENS: Final = re.compile(
    r"""\s*(?:;[^\n]*)?\s*(?:
        (?P<text>"[^"]*") | (?P<range>\d+\.\.\d+) | (?P<number>-?\d+) |
        (?P<size>\.size) | (?P<name>[A-Za-z][\w-]*) | (?P<mark>=>|[=/\[\]{},:?*])
    )""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Literal:
    value: int | str


@dataclass(frozen=True, slots=True)
class Base:
    """``text``, ``bytes``, ``int``, ``float``, ``bool`` or ``nil``."""

    name: str
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Range:
    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Name:
    name: str


@dataclass(frozen=True, slots=True)
class Choice:
    among: tuple[Type, ...]


@dataclass(frozen=True, slots=True)
class Array:
    """``each`` once, in this order; or any number of ``repeated``."""

    each: tuple[Type, ...] = ()
    repeated: Type | None = None


@dataclass(frozen=True, slots=True)
class Field:
    key: str
    optional: bool
    type: Type


@dataclass(frozen=True, slots=True)
class Map:
    """These fields; or, if ``values`` is given, any text keys."""

    fields: tuple[Field, ...] = ()
    values: Type | None = None


Type = Literal | Base | Range | Name | Choice | Array | Map

_BASES: Final = {
    "text": str,
    "bytes": bytes,
    "int": int,
    "float": float,
    "bool": bool,
    "nil": type(None),
}


class Schema:
    """All rules of a schema, by name."""

    def __init__(self, text: str) -> None:
        self.rules = dict(_Reader(text).rules())

    def messages(self) -> Iterator[tuple[str, int, Map]]:
        """Name, kind and fields of every message."""
        messages = self.rules["message"]
        assert isinstance(messages, Choice)
        for each in messages.among:
            assert isinstance(each, Name)
            rule = self.rules[each.name]
            assert isinstance(rule, Array)
            kind, fields = rule.each
            assert isinstance(kind, Literal) and isinstance(kind.value, int)
            assert isinstance(fields, Map)
            yield each.name, kind.value, fields

    def matches(self, rule: Type, value: object) -> bool:
        """Whether a value is what the rule asks for."""
        match rule:
            case Name(name):
                return self.matches(self.rules[name], value)
            case Choice(among):
                return any(self.matches(each, value) for each in among)
            case Literal(wanted):
                return type(value) is type(wanted) and value == wanted
            case Range(least, most):
                return type(value) is int and least <= value <= most
            case Base(name, size):
                fits = type(value) is _BASES[name]
                return fits and (size is None or (isinstance(value, bytes) and len(value) == size))
            case Array(each, repeated):
                return isinstance(value, list) and self._array_matches(each, repeated, value)
            case Map(fields, values):
                return isinstance(value, dict) and self._map_matches(fields, values, value)

    def _array_matches(
        self, each: tuple[Type, ...], repeated: Type | None, value: list[object]
    ) -> bool:
        if repeated is not None:
            return all(self.matches(repeated, item) for item in value)
        return len(each) == len(value) and all(map(self.matches, each, value))

    def _map_matches(
        self, fields: tuple[Field, ...], values: Type | None, value: dict[object, object]
    ) -> bool:
        if values is not None:
            texts = all(type(key) is str for key in value)
            return texts and all(self.matches(values, item) for item in value.values())
        known = {field.key for field in fields}
        return value.keys() <= known and all(
            self.matches(field.type, value[field.key]) if field.key in value else field.optional
            for field in fields
        )


class Generator:
    """Makes values of rules by chance.

    Columns of one message speak of the same jobs, so all that is repeated in it, and packed ids
    and numbers, mostly get one common length.
    """

    def __init__(self, schema: Schema, chance: random.Random) -> None:
        self._schema = schema
        self._chance = chance
        self._length = 1

    def message(self, name: str | None = None) -> list[object]:
        """A message as it travels: ``[kind, fields]``; of any kind if none is named."""
        choices = [each for each in self._schema.messages() if name in (None, each[0])]
        _, kind, fields = self._chance.choice(choices)
        self._length = self._chance.choice([0, 1, 1, 1, 2, 3])
        return [kind, self.value(fields)]

    def value(self, rule: Type, depth: int = 0) -> object:
        """Something that matches the rule."""
        chance = self._chance
        match rule:
            case Name("ids"):
                return b"".join(self._id() for _ in range(self._some()))
            case Name("id16"):
                return self._id()
            case Name("number-bytes"):
                return bytes(chance.randrange(8) for _ in range(self._some()))
            case Name("seconds"):
                return chance.choice([0, 0.0, 1.5, -1.0, 60, 1e9, 1_763_812_800.25])
            case Name(name):
                return self.value(self._schema.rules[name], depth)
            case Choice(among):
                flat = [each for each in among if not isinstance(each, Array | Map)]
                return self.value(chance.choice(flat if depth > MAX_DEPTH else among), depth + 1)
            case Literal(value):
                return value
            case Range(least, most):
                if chance.random() < USUAL:
                    return min(least + chance.randrange(4), most)
                return chance.choice([chance.randint(least, most), most])
            case Base(name, size):
                return self._base(name, size)
            case Array(each, None):
                return [self.value(item, depth + 1) for item in each]
            case Array(_, repeated):
                assert repeated is not None
                count = chance.choice([0, 1, 2]) if depth > 1 else self._some()
                return [self.value(repeated, depth + 1) for _ in range(count)]
            case Map(fields, None):
                kept = [each for each in fields if not each.optional or chance.random() < 0.5]
                return {each.key: self.value(each.type, depth + 1) for each in kept}
            case Map(_, values):
                assert values is not None
                keys = ["", "callback", "on_lost", "owned", "limit", "queue", "status", "x"]
                count = chance.choice([0, 1, 2])
                return {key: self.value(values, depth + 1) for key in chance.sample(keys, count)}

    def _some(self) -> int:
        return self._length if self._chance.random() < 0.95 else self._chance.randrange(6)

    def _id(self) -> bytes:
        """One of few, so that messages speak of the same jobs."""
        return bytes([self._chance.randrange(3)]) * 16

    def _base(self, name: str, size: int | None) -> object:
        chance = self._chance
        values: dict[str, object] = {
            "text": chance.choice(TEXTS) if chance.random() < USUAL else "x" * 201,
            "bytes": chance.randbytes(chance.choice([0, 1, 40]) if size is None else size),
            "int": chance.choice([0, 1, -1, 7, 2**31, -(2**63)]),
            "float": chance.choice([0.0, 0.5, -1.0, 1e300]),
            "bool": chance.random() < 0.5,
            "nil": None,
        }
        return values[name]


class _Reader:
    """A recursive descent over the tokens."""

    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._at = 0

    def rules(self) -> Iterator[tuple[str, Type]]:
        while self._at < len(self._tokens):
            _, name = self._take()
            self._expect("=")
            yield name, self._choice()

    def _peek(self, ahead: int = 0) -> str:
        at = self._at + ahead
        return self._tokens[at][1] if at < len(self._tokens) else ""

    def _take(self) -> tuple[str, str]:
        self._at += 1
        return self._tokens[self._at - 1]

    def _expect(self, mark: str) -> None:
        kind, found = self._take()
        if found != mark or kind != "mark":
            raise ValueError(f"expected {mark} in the schema, found {found}")

    def _skip(self, mark: str) -> bool:
        found = self._peek() == mark
        self._at += found
        return found

    def _choice(self) -> Type:
        among = [self._single()]
        while self._skip("/"):
            among.append(self._single())
        return among[0] if len(among) == 1 else Choice(tuple(among))

    def _single(self) -> Type:
        kind, text = self._take()
        match kind, text:
            case "text", _:
                return Literal(text.strip('"'))
            case "number", _:
                return Literal(int(text))
            case "range", _:
                least, _, most = text.partition("..")
                return Range(int(least), int(most))
            case "name", _ if text in _BASES:
                return Base(text, int(self._take()[1]) if self._skip(".size") else None)
            case "name", _:
                return Name(text)
            case "mark", "[":
                return self._array()
            case "mark", "{":
                return self._map()
            case _:
                raise ValueError(f"the schema has {text} where a type belongs")

    def _array(self) -> Type:
        if self._skip("*"):
            repeated = self._choice()
            self._expect("]")
            return Array(repeated=repeated)
        each: list[Type] = []
        while not self._skip("]"):
            if self._peek(1) == ":":
                self._at += 2
            each.append(self._choice())
            self._skip(",")
        return Array(tuple(each))

    def _map(self) -> Type:
        if self._skip("*"):
            self._choice()
            self._expect("=>")
            values = self._choice()
            self._expect("}")
            return Map(values=values)
        fields: list[Field] = []
        while not self._skip("}"):
            optional = self._skip("?")
            _, key = self._take()
            self._expect(":")
            fields.append(Field(key.strip('"'), optional, self._choice()))
            self._skip(",")
        return Map(tuple(fields))


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    text = re.sub(r';[^\n"]*(?:"[^"\n]*"[^\n"]*)*$', "", text, flags=re.MULTILINE).strip()
    at = 0
    while at < len(text):
        found = _TOKENS.match(text, at)
        if found is None or found.lastgroup is None:
            raise ValueError(f"the schema has something unknown: {text[at : at + 40]!r}")
        yield found.lastgroup, found[found.lastgroup]
        at = found.end()
