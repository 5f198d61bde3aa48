"""Sealing: round trips, refusals with their paths, and hostile bytes."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import decimal
import enum
import ipaddress
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from fractions import Fraction
from pathlib import Path, PurePath
from typing import Any
from zlib import crc32
from zoneinfo import ZoneInfo

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastworker.core.records import MAX_PAYLOAD_BYTES
from fastworker.errors import NotSerializable, ProtocolError
from fastworker.wire.plain import MAX_DEPTH, TAG_FROZENSET, TAG_TUPLE, TAG_ZONED
from fastworker.wire.values import (
    CorruptPayload,
    PayloadTooLarge,
    open_call,
    open_value,
    seal_call,
    seal_value,
)


def round_trip(value: object) -> Any:
    return open_value(seal_value(value, what="the value"))


def sealed(body: bytes) -> bytes:
    return body + crc32(body).to_bytes(4, "big")


def refusal(*args: Any, names: tuple[str, ...] = (), **kwargs: Any) -> str:
    with pytest.raises(NotSerializable) as caught:
        seal_call(args, kwargs, task="mail.send", names=names)
    return str(caught.value)


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


def iter_of_nothing() -> Iterator[None]:
    yield from ()


@dataclasses.dataclass
class Point:
    x: int
    tags: tuple[str, ...] = ()


Pair = collections.namedtuple("Pair", "left right")


def unfolded(moment: datetime) -> datetime:
    """A fold says nothing where the offset is fixed, and does not travel."""
    return moment.replace(fold=0)


SCALAR_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"])),
    st.binary(),
    st.decimals(allow_nan=False),
    st.fractions(),
    st.uuids(),
    st.dates(),
    st.times().map(lambda t: t.replace(fold=0)),  # it says nothing without a zone
    st.timedeltas(),
    st.datetimes(timezones=st.just(UTC)).map(unfolded),
    st.datetimes(
        timezones=st.integers(-86399, 86399).map(lambda s: timezone(timedelta(seconds=s)))
    ).map(unfolded),
    st.ip_addresses(),
)
KEYS = st.recursive(
    SCALAR_VALUES,
    lambda inner: st.one_of(st.tuples(inner, inner), st.frozensets(inner)),
    max_leaves=4,
)
VALUES = st.recursive(
    SCALAR_VALUES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(KEYS, inner, max_size=4),
        st.sets(KEYS, max_size=4),
        st.frozensets(KEYS, max_size=4),
    ),
    max_leaves=12,
)


def typed(value: object) -> object:
    """A value with its types, so that 1, 1.0 and True, or (1,) and [1], are told apart."""
    if isinstance(value, list | tuple):
        return type(value), [typed(item) for item in value]
    if isinstance(value, set | frozenset):
        return type(value), sorted(repr(typed(item)) for item in value)
    if isinstance(value, dict):
        return dict, sorted(repr((typed(key), typed(item))) for key, item in value.items())
    return type(value), repr(value)


@settings(deadline=None, max_examples=150)
@given(VALUES)
def test_a_value_comes_back_as_it_was(value: object) -> None:
    assert typed(round_trip(value)) == typed(value)


@settings(deadline=None, max_examples=50)
@given(st.lists(VALUES, max_size=3), st.dictionaries(st.text("ab"), VALUES, max_size=2))
def test_a_call_comes_back_as_it_was(args: list[object], kwargs: dict[str, object]) -> None:
    got_args, got_kwargs = open_call(seal_call(tuple(args), kwargs, task="t"))
    assert typed(got_args) == typed(args)
    assert typed(got_kwargs) == typed(kwargs)


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=60))
def test_any_bytes_are_a_value_or_a_protocol_error(body: bytes) -> None:
    for given_bytes in (body, sealed(body)):
        with contextlib.suppress(ProtocolError):
            open_value(given_bytes)


TAGS = [*range(0, 40), 52, 54, 100, 256, 258, 260, 261, 1004, 43000, 55799, *range(46708, 46720)]


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from(TAGS),
    st.recursive(
        st.one_of(st.none(), st.integers(), st.floats(), st.text("a0-:.", max_size=9), st.binary()),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(st.integers(), inner, max_size=2),
            st.tuples(st.sampled_from(TAGS), inner).map(lambda t: cbor2.CBORTag(*t)),
        ),
        max_leaves=6,
    ),
)
def test_any_tag_is_a_value_or_a_protocol_error(tag: int, value: object) -> None:
    body = cbor2.dumps(cbor2.CBORTag(tag, value))
    with contextlib.suppress(ProtocolError):
        open_value(sealed(body))


@pytest.mark.parametrize(
    ("value", "comes_back"),
    [
        (2**63, 2**63),
        (-(2**64) - 1, -(2**64) - 1),
        (float("inf"), float("inf")),
        (Path("/tmp/x"), Path("/tmp/x")),
        (PurePath("a/b"), Path("a/b")),
        (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("10.0.0.0/8")),
        (bytearray(b"x"), b"x"),
        (memoryview(b"xy"), b"xy"),
        (Colour.RED, "red"),
        (Level.LOW, 1),
        (Point(1, ("a",)), {"x": 1, "tags": ("a",)}),
        ({Colour.RED: [Point(2)]}, {"red": [{"x": 2, "tags": ()}]}),
        (Pair(1, 2), (1, 2)),
        (collections.OrderedDict(a=1), {"a": 1}),
        ({(1, frozenset({2})): 3}, {(1, frozenset({2})): 3}),
        (([1], {"a": [2]}), ([1], {"a": [2]})),
        (time(1, 2, 3, 4, tzinfo=UTC), time(1, 2, 3, 4, tzinfo=UTC)),
    ],
)
def test_what_travels(value: object, comes_back: object) -> None:
    assert typed(round_trip(value)) == typed(comes_back)


def test_integers_of_any_length_up_to_the_limit_survive() -> None:
    for value in (10**5000, 2 ** (8 * 8192) - 1, -(2 ** (8 * 8192))):
        assert round_trip([value]) == [value]


def test_nan_and_negative_zero_survive() -> None:
    assert str(round_trip(float("nan"))) == "nan"
    assert str(round_trip(-0.0)) == "-0.0"
    assert str(round_trip(decimal.Decimal("-0.00"))) == "-0.00"
    assert str(round_trip(decimal.Decimal("NaN"))) == "NaN"


@pytest.mark.parametrize("fold", [0, 1])
def test_a_zoned_datetime_keeps_its_zone_and_its_fold(fold: int) -> None:
    moment = datetime(2025, 10, 26, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=fold)
    back = round_trip(moment)
    assert back.tzinfo is moment.tzinfo
    assert (back, back.fold, back.utcoffset()) == (moment, fold, moment.utcoffset())


def test_pydantic_models_become_plain_data() -> None:
    pydantic = pytest.importorskip("pydantic")

    class User(pydantic.BaseModel):  # type: ignore[name-defined, misc]
        name: str
        born: date
        colour: Colour

    user = User(name="Ann", born=date(2000, 1, 2), colour=Colour.RED)
    assert round_trip([user]) == [{"name": "Ann", "born": date(2000, 1, 2), "colour": "red"}]


def test_attrs_instances_become_plain_data() -> None:
    attrs = pytest.importorskip("attrs")
    made: Any = attrs.make_class("Made", ["x", "y"])
    assert round_trip(made(1, (2,))) == {"x": 1, "y": (2,)}


def test_numpy_scalars_become_numbers_and_arrays_are_refused() -> None:
    class Int64:  # looks as numpy's does
        ndim = 0

        def item(self) -> int:
            return 7

    Int64.__module__ = "numpy"
    assert round_trip([Int64()]) == [7]
    Int64.ndim = 1
    Int64.tolist = lambda self: [7]  # type: ignore[attr-defined]
    assert "send value.tolist() instead" in refusal(Int64())


def test_the_path_of_a_value_that_cannot_travel_is_named() -> None:
    user = {"address": ["a", "b", {"lock": threading.Lock()}]}
    assert refusal(1, user, names=("n", "user")) == (
        "argument 'user.address[2].lock' of task 'mail.send' is a _thread.lock; "
        "it cannot travel: send its id instead"
    )


@pytest.mark.parametrize(
    ("value", "path", "reason"),
    [
        (datetime(2025, 1, 1), "v", "is a datetime without a time zone; make it aware"),
        ([Point(1, (lambda: 1,))], "v[0].tags[0]", "is a function; it cannot travel"),  # type: ignore[arg-type]
        ({"a b": {3: iter_of_nothing()}}, "v['a b'][3]", "is a generator"),
        (["ok", {"t": "\ud800"}], "v[1].t", "is text with half a surrogate pair"),
        ({("k", "\udfff"): 1}, "v(key)[1]", "is text with half a surrogate pair"),
        ([2**70_000], "v[0]", "is a number of more than 8192 bytes"),
        ({"d": decimal.Decimal(2**70_000)}, "v.d", "is a number of more than 8192 bytes"),
        (object(), "v", "is a object; it cannot travel: send its id instead"),
        ({Colour.RED: 1, "red": 2}, "v", "has keys that become equal"),
        ([cbor2.CBORTag(35, "a")], "v[0]", "is a cbor2.CBORTag; it cannot travel"),
        (Point, "v", "is a type; it cannot travel: send its name instead"),
    ],
)
def test_refusals(value: object, path: str, reason: str) -> None:
    assert refusal(v=value).startswith(f"argument {path!r} of task 'mail.send' {reason}")


def test_an_argument_without_a_name_is_counted() -> None:
    assert refusal(1, object()).startswith("argument 'args[1]' of task 'mail.send' is a object")


def test_a_result_that_cannot_travel_is_named() -> None:
    with pytest.raises(NotSerializable, match=r"^the result of task 't' is a generator; "):
        seal_value(iter_of_nothing(), what="the result of task 't'")
    with pytest.raises(NotSerializable, match=r"^'a\[0\]' of the result of task 't' is a object"):
        seal_value({"a": [object()]}, what="the result of task 't'")


def test_a_value_whose_repr_raises_is_refused_all_the_same() -> None:
    class Rude:
        def __repr__(self) -> str:
            raise RuntimeError

    assert "Rude; it cannot travel" in refusal([Rude()])


def test_a_cycle_is_refused() -> None:
    cycle: dict[str, object] = {}
    cycle["self"] = [cycle]
    assert refusal(cycle, names=("v",)) == (
        "argument 'v.self[0]' of task 'mail.send' contains itself; send it without the cycle"
    )


@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: (v,), lambda v: {"a": v}])
def test_depth_is_bounded_and_all_that_is_sealed_can_be_opened(wrap: Any) -> None:
    value: object = 1
    for _ in range(MAX_DEPTH):
        value = wrap(value)
    assert round_trip(value) == value
    with pytest.raises(NotSerializable, match="nested more than 100 deep"):
        round_trip(wrap(value))
    for _ in range(50_000):
        value = wrap(value)
    assert "nested more than 100 deep" in refusal(value)
    while isinstance(value, list | tuple | dict):  # freeing it all at once would recurse
        value = value["a"] if isinstance(value, dict) else value[0]


def test_a_small_value_that_means_a_huge_one_is_refused_quickly() -> None:
    bomb: list[object] = [1] * 10
    for _ in range(60):
        bomb = [bomb, bomb]
    with pytest.raises(PayloadTooLarge, match="more than 1048576 elements"):
        seal_call((bomb,), {}, task="t")


def test_too_many_bytes_are_refused_with_their_number() -> None:
    fits = b"x" * (MAX_PAYLOAD_BYTES - 9)
    assert open_value(seal_value(fits, what="it")) == fits
    with pytest.raises(PayloadTooLarge, match=r"of it take 1048577 bytes, and at most 1048576"):
        seal_value(fits + b"x", what="it")
    with pytest.raises(PayloadTooLarge, match="the arguments of task 't' take"):
        seal_call((fits,), {}, task="t")


def test_random_bytes_are_not_taken_for_long_numbers() -> None:
    value = [b"\xc2\x5a" * 10_000]
    assert round_trip(value) == value


@pytest.mark.parametrize("at", range(9))
def test_a_flipped_bit_is_found(at: int) -> None:
    damaged = bytearray(seal_call((1, 2), {}, task="t"))
    damaged[at] ^= 4
    with pytest.raises(CorruptPayload, match="checksum"):
        open_call(bytes(damaged))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"\x01\x02", "followed by more bytes"),
        (b"\x82\x01", "cannot be read"),
        (b"\xff", "cannot be read"),
        (b"\xa2\x01\x01\x01\x02", "Duplicate map key"),
        (cbor2.dumps(cbor2.CBORTag(28, [cbor2.CBORTag(29, 0)])), "refused"),
        (cbor2.dumps(cbor2.CBORTag(35, "(a+)+")), "refused"),
        (cbor2.dumps(cbor2.CBORTag(36, "To: a")), "refused"),
        (cbor2.dumps(cbor2.CBORTag(5, [10**9, 1])), "refused"),
        (cbor2.dumps(cbor2.CBORTag(99_999, 1)), "tag 99999 is not known"),
        (cbor2.dumps(cbor2.CBORTag(2, b"x" * 8193)), "at most 8192 bytes"),
        (cbor2.dumps(cbor2.CBORTag(TAG_TUPLE, {1: 2})), "not an array"),
        (cbor2.dumps(cbor2.CBORTag(TAG_FROZENSET, [[1]])), "unhashable"),
        (cbor2.dumps(cbor2.CBORTag(TAG_ZONED, [0, "No/Where"])), "No/Where"),
        (cbor2.dumps(cbor2.CBORTag(TAG_ZONED, [0, "../passwd"])), "cannot be read"),
        (b"\x81" * 100_000 + b"\x01", "depth"),
        (b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff", "cannot be read"),
    ],
)
def test_hostile_bytes_are_refused(body: bytes, reason: str) -> None:
    with pytest.raises(CorruptPayload, match=reason):
        open_value(sealed(body))


@pytest.mark.parametrize("length", [0, 4, MAX_PAYLOAD_BYTES + 1])
def test_lengths_that_cannot_be_are_refused_unread(length: int) -> None:
    with pytest.raises(CorruptPayload, match=f"cannot have {length} bytes"):
        open_value(bytes(length))


@pytest.mark.parametrize("body", [1, [1], [[], {}, 1], [{}, []], [[], {1: 2}], [(), []]])
def test_only_a_call_opens_as_one(body: object) -> None:
    with pytest.raises(CorruptPayload):
        open_call(seal_value(body, what="it"))


def test_uuids_and_fractions_keep_their_types() -> None:
    value = [uuid.uuid4(), Fraction(1, 3), 1 + 2j]
    assert round_trip(value) == value


class Unreadable:
    __slots__ = ()

    @property
    def __class__(self) -> Any:
        raise OSError("no")


class UnreadableDict(dict[str, int]):
    def items(self) -> Any:
        raise OSError("no")


@dataclasses.dataclass
class UnreadableField:
    field: int = 1

    def __getattribute__(self, name: str) -> Any:
        if name == "field":
            raise OSError("no")
        return object.__getattribute__(self, name)


@pytest.mark.parametrize("kind", [Unreadable, UnreadableDict, UnreadableField])
def test_an_object_whose_own_code_fails_cannot_travel(kind: type) -> None:
    message = refusal({"a": [1, kind({"a": 1}) if issubclass(kind, dict) else kind()]})

    assert "'args[0].a[1]' of task" in message
    assert "raised OSError" in message
