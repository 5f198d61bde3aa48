"""Wrong values for the fields of messages, and whole messages with something changed in them."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

import cbor2

from fastworker.wire.codec import encode
from tests.wire.examples import EXAMPLES

WRONG_VALUES: tuple[object, ...] = (
    None,
    True,
    -1,
    2**63,
    2**64 - 1,
    1.5,
    float("nan"),
    float("inf"),
    "text",
    "x" * 70_000,
    b"bytes",
    b"",
    [],
    [None],
    [-1],
    ["x"],
    [b"x"],
    [1.5, float("nan")],
    [[]],
    [[1, 2, 3, 4, 5]],
    {},
    {"x": 1},
    [{}],
)

Item = list[object]


def raw_example(name: str) -> Item:
    """An example as the CBOR item it travels as: ``[kind, fields]``."""
    (item,) = cbor2.loads(encode([EXAMPLES[name]]))
    assert isinstance(item, list)
    return item


def fields_of(item: Item) -> dict[str, object]:
    """The fields of an item, to be changed."""
    fields = item[1]
    assert isinstance(fields, dict)
    return fields


def each_field_changed(value: object) -> Iterator[tuple[str, str, Item]]:
    """Every example with each of its fields replaced in turn: name, field, item."""
    for name in EXAMPLES:
        for field in fields_of(raw_example(name)):
            item = raw_example(name)
            fields_of(item)[field] = value
            yield name, field, item


def mutated(chance: random.Random) -> bytes:
    """A frame of a few examples in which something, somewhere, is something else."""
    items = [raw_example(chance.choice(list(EXAMPLES))) for _ in range(chance.randrange(1, 4))]
    for _ in range(chance.randrange(1, 4)):
        _change(chance, chance.choice(items), depth=0)
    try:
        data = cbor2.dumps(items)
    except cbor2.CBORError:
        return chance.randbytes(50)
    if chance.random() < 0.3:
        changed = bytearray(data)
        for _ in range(chance.randrange(1, 5)):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        data = bytes(changed)
    return data


def _change(chance: random.Random, box: Any, depth: int) -> None:
    """Replace one value in a list or map, or in one that is in it."""
    keys: list[Any]
    if isinstance(box, dict):
        keys = list(box)
    elif isinstance(box, list):
        keys = list(range(len(box)))
    else:
        return
    if not keys:
        return
    key = keys[-1] if depth == 0 and len(keys) > 1 else chance.choice(keys)
    inner = box[key]
    if isinstance(inner, dict | list) and inner and chance.random() < 0.7:
        _change(chance, inner, depth + 1)
    elif isinstance(inner, bytes) and inner and chance.random() < 0.7:
        box[key] = chance.randbytes(len(inner))
    elif isinstance(inner, int) and chance.random() < 0.7:
        box[key] = chance.choice([0, 1, 2, inner + 1, 2**31, 2**63 - 1])
    elif isinstance(inner, float) and chance.random() < 0.7:
        box[key] = chance.choice([0.0, -1e9, 2.5e11, inner * 2])
    else:
        box[key] = copy.deepcopy(chance.choice(WRONG_VALUES))
