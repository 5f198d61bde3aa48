"""Finds which part of a value cannot travel. Runs only after sealing has failed."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Final

from cbor2 import CBOREncodeError, dumps

from fastworker.wire.plain import MAX_DEPTH, SCALARS, Plainer, Unfit, model_fields, type_name

MAX_NUMBER_BYTES: Final = 8192
"""Longest integer, also as part of a Decimal or Fraction: printing longer ones takes seconds."""

_MAX_PATH_CHARACTERS: Final = 120
_MAX_KEY_CHARACTERS: Final = 40
_HEAD_BYTES: Final = 32
"""Room for the CBOR heads around a number when its encoding is measured."""


class Culprit(Exception):
    """Where a value cannot travel: ``path`` inside it ("" is the value itself), and ``reason``."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason


def find_culprit(value: object, root: str) -> Culprit | None:
    """The innermost part of ``value`` that cannot travel; ``root`` is the path it starts with."""
    search = _Search()
    try:
        search.visit(value, root, 0)
    except Culprit as culprit:
        return Culprit(_shorten(culprit.path), culprit.reason)
    return None


class _Search:
    def __init__(self) -> None:
        self.above: set[int] = set()
        # By id, and holding the object: an id is only good while its object lives.
        self.cleared: dict[int, object] = {}

    def visit(self, value: object, path: str, depth: int) -> None:
        if type(value) in SCALARS:
            _check_leaf(value, path)
            return
        if id(value) in self.above:
            raise Culprit(path, "contains itself; send it without the cycle")
        if id(value) in self.cleared:
            return
        if depth > MAX_DEPTH:
            raise Culprit(path, f"is nested more than {MAX_DEPTH} deep; send it in a flatter form")
        self.above.add(id(value))
        for suffix, part in _parts_of(value):
            self.visit(part, path + suffix, depth + 1)
        self.above.discard(id(value))
        _check_leaf(value, path)
        self.cleared[id(value)] = value


def _check_leaf(value: object, path: str) -> None:
    try:
        encoded = dumps(Plainer().value(value))
    except Unfit as unfit:
        raise Culprit(path, str(unfit)) from None
    except UnicodeEncodeError:
        raise Culprit(
            path,
            "is text with half a surrogate pair, which is no valid Unicode; "
            "decode it properly, or send bytes",
        ) from None
    except CBOREncodeError as error:
        raise Culprit(path, f"is a {type_name(value)}; it cannot travel: {error}") from None
    if len(encoded) > MAX_NUMBER_BYTES + _HEAD_BYTES and _is_number(value):
        raise Culprit(
            path, f"is a number of more than {MAX_NUMBER_BYTES} bytes; send it as text or bytes"
        )


def _is_number(value: object) -> bool:
    return hasattr(value, "__add__") and hasattr(value, "__pow__")


def _parts_of(value: object) -> list[tuple[str, object]]:
    try:
        return list(_parts(value))
    except Exception:  # a class of the user's that fails when looked into: it is to blame itself
        return []


def _parts(value: object) -> Iterator[tuple[str, object]]:
    fields = model_fields(value)
    if fields is None and isinstance(value, dict):
        fields = value
    if fields is not None:
        for key, item in fields.items():
            yield "(key)", key
            yield _step(key), item
    elif isinstance(value, enum.Enum):
        yield ".value", value.value
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield f"[{index}]", item
    elif isinstance(value, set | frozenset):
        for item in value:
            yield "(element)", item


def _step(key: object) -> str:
    if type(key) is str:
        if key.isidentifier() and len(key) <= _MAX_KEY_CHARACTERS:
            return f".{key}"
        return f"[{key[:_MAX_KEY_CHARACTERS]!a}]"
    # Writing a very long integer out is refused by Python.
    is_long = isinstance(key, int) and key.bit_length() > _MAX_KEY_CHARACTERS
    if type(key) in SCALARS and not is_long:
        return f"[{key!r:.40}]"
    return f"[{type_name(key)}]"


def _shorten(path: str) -> str:
    if len(path) <= _MAX_PATH_CHARACTERS:
        return path
    half = _MAX_PATH_CHARACTERS // 2
    return f"{path[:half]}…{path[-half:]}"
