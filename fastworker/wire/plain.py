"""Turns Python values into what CBOR can carry, in one bounded pass.

CBOR's own types pass as they are. Tuples, frozensets and a few types of the standard library get
private tags, so that they come back as themselves. Enums, dataclasses and models become plain
data. Everything else is refused with `Unfit`, whose message is the end of a sentence; who calls
puts the value's path before it (`wire/culprit.py`).

The pass also bounds depth and size, and finds cycles by that: the encoder would overflow its
stack on deep values.
"""

from __future__ import annotations

import dataclasses
import enum
import fractions
import ipaddress
import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import PurePath
from typing import Final, TypeAlias
from zoneinfo import ZoneInfo

from cbor2 import CBOREncodeError, CBORTag, dumps

from fastworker.core.records import MAX_PAYLOAD_BYTES
from fastworker.errors import NotSerializable

MAX_DEPTH: Final = 100
"""Containers inside containers: deeper than data people write, shallow enough for any stack."""

# Private tag numbers, in a gap of IANA's first-come range; two bytes more than a bare value.
TAG_TUPLE: Final = 46710  # array
TAG_FROZENSET: Final = 46711  # array
TAG_TIMEDELTA: Final = 46712  # microseconds
TAG_TIME: Final = 46713  # ISO 8601 text
TAG_ZONED: Final = 46714  # [microseconds since the epoch, zone name or offset in microseconds]
TAG_PATH: Final = 46715  # text
TAG_DECIMAL: Final = 46716  # text; only what tag 4 cannot say: -0, NaN, infinities
_TAG_SET: Final = 258  # array; registered with IANA

SCALARS: Final[frozenset[type]] = frozenset({int, str, float, bool, type(None), bytes})

_NATIVE: Final = SCALARS | {
    bytearray,
    complex,
    date,
    fractions.Fraction,
    uuid.UUID,
    ipaddress.IPv4Address,
    ipaddress.IPv6Address,
    ipaddress.IPv4Network,
    ipaddress.IPv6Network,
    ipaddress.IPv4Interface,
    ipaddress.IPv6Interface,
}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_UNSET: Final = object()
_NUMPY_PLAIN: Final = SCALARS | {complex}


class Unfit(NotSerializable):
    """One value cannot travel. The message is a predicate: "is a …; …"."""


class PayloadTooLarge(NotSerializable):
    """Arguments or a result of more than `MAX_PAYLOAD_BYTES` bytes."""


class Plainer:
    """One pass over one value; ``room`` is how many elements may still be met.

    Every element takes at least a byte, so more of them than the payload may have bytes can
    never be sent; a small value that refers to itself many times over is stopped by it too.
    """

    __slots__ = ("room",)

    def __init__(self) -> None:
        self.room = MAX_PAYLOAD_BYTES

    def value(self, value: object, depth: int = 0) -> object:
        """The same value in types that the encoder knows.

        Raises:
            Unfit: something in it cannot travel.
            PayloadTooLarge: it has more elements than a payload has bytes.
        """
        kind = type(value)
        if kind in _NATIVE:
            return value
        convert = _CONVERTERS.get(kind)
        try:
            if convert is None:
                convert = _converter_for(value)
            return convert(self, value, depth)
        except (NotSerializable, UnicodeEncodeError, CBOREncodeError):
            raise
        except Exception as error:  # classes of users run their own code when they are looked into
            raise unreadable(value, error) from error

    def enter(self, count: int, depth: int) -> None:
        if depth >= MAX_DEPTH:
            raise Unfit(f"is nested more than {MAX_DEPTH} deep; send it in a flatter form")
        self.room -= count
        if self.room < 0:
            raise PayloadTooLarge(
                f"have more than {MAX_PAYLOAD_BYTES} elements, which cannot fit in "
                f"{MAX_PAYLOAD_BYTES} bytes; send where the data is instead"
            )

    def elements(self, values: Iterable[object], depth: int) -> list[object]:
        convert = self.value
        return [value if type(value) in SCALARS else convert(value, depth) for value in values]

    def distinct(self, tag: int, values: Iterable[object], depth: int) -> object:
        """A set, whose elements must still differ once they are plain; a list if models are in it,
        which become maps and cannot be elements any more.

        In an order of their own: equal sets are equal bytes in every process.
        """
        plain = self.elements(values, depth)
        ordered = sorted(plain, key=dumps)
        try:
            unique = len(set(plain))
        except (TypeError, RuntimeError):  # RuntimeError: a tag around something unhashable
            return ordered
        if unique != len(plain):
            raise Unfit("holds elements that become equal as plain data; send a list")
        return CBORTag(tag, tuple(ordered))

    def mapping(self, value: Mapping[object, object], depth: int) -> dict[object, object]:
        self.enter(len(value), depth)
        convert, depth = self.value, depth + 1
        try:
            plain = {
                key if type(key) in SCALARS else convert(key, depth): (
                    item if type(item) in SCALARS else convert(item, depth)
                )
                for key, item in value.items()
            }
        except (TypeError, RuntimeError) as error:
            if isinstance(error, RecursionError) or "hashable" not in str(error):
                raise
            raise Unfit("has a key that becomes a map or list; use text as the key") from None
        if len(plain) != len(value):
            raise Unfit("has keys that become equal as plain data; use text as keys")
        return plain


_Converter: TypeAlias = Callable[[Plainer, object, int], object]


def _native(walk: Plainer, value: object, depth: int) -> object:
    return value


def _list(walk: Plainer, value: object, depth: int) -> object:
    assert isinstance(value, list)
    walk.enter(len(value), depth)
    return walk.elements(value, depth + 1)


def _tuple(walk: Plainer, value: object, depth: int) -> object:
    assert isinstance(value, tuple)
    walk.enter(len(value), depth)
    return CBORTag(TAG_TUPLE, tuple(walk.elements(value, depth + 1)))


def _set(walk: Plainer, value: object, depth: int) -> object:
    assert isinstance(value, set)
    walk.enter(len(value), depth)
    return walk.distinct(_TAG_SET, value, depth + 1)


def _frozenset(walk: Plainer, value: object, depth: int) -> object:
    assert isinstance(value, frozenset)
    walk.enter(len(value), depth)
    return walk.distinct(TAG_FROZENSET, value, depth + 1)


def _mapping(walk: Plainer, value: object, depth: int) -> object:
    assert isinstance(value, dict)
    return walk.mapping(value, depth)


def _memoryview(walk: Plainer, value: object, depth: int) -> object:
    assert isinstance(value, memoryview)
    return bytes(value)


def _decimal(walk: Plainer, value: object, depth: int) -> object:
    assert isinstance(value, Decimal)
    if value.is_finite() and not (value.is_zero() and value.is_signed()):
        return value
    return CBORTag(TAG_DECIMAL, str(value))


def _timedelta(walk: Plainer, value: object, depth: int) -> object:
    assert isinstance(value, timedelta)
    return CBORTag(TAG_TIMEDELTA, value // _MICROSECOND)


def _time(walk: Plainer, value: object, depth: int) -> object:
    assert isinstance(value, time)
    if value.tzinfo is not None and not isinstance(value.tzinfo, timezone):
        raise Unfit("is a time of day in a named zone, which says no offset; send a datetime")
    return CBORTag(TAG_TIME, value.isoformat())


def _datetime(walk: Plainer, value: object, depth: int) -> object:
    assert isinstance(value, datetime)
    offset = value.utcoffset()
    if offset is None:
        raise Unfit(
            "is a datetime without a time zone; make it aware, as datetime.now(timezone.utc) is"
        )
    zone: object = getattr(value.tzinfo, "key", None) if isinstance(value.tzinfo, ZoneInfo) else ""
    if zone is None:
        raise Unfit("is a datetime in a zone without a name; use ZoneInfo('Area/City')")
    if zone == "":
        if offset % timedelta(minutes=1) == timedelta():
            return value
        zone = offset // _MICROSECOND
    return CBORTag(TAG_ZONED, ((value - _EPOCH) // _MICROSECOND, zone))


def _path(walk: Plainer, value: object, depth: int) -> object:
    return CBORTag(TAG_PATH, str(value))


def _enum(walk: Plainer, value: object, depth: int) -> object:
    assert isinstance(value, enum.Enum)
    return walk.value(value.value, depth)


def _model(walk: Plainer, value: object, depth: int) -> object:
    return walk.mapping(dict(model_fields(value) or ()), depth)


def _root_model(walk: Plainer, value: object, depth: int) -> object:
    walk.enter(1, depth)
    return walk.value(value.root, depth + 1)  # type: ignore[attr-defined]


def _url(walk: Plainer, value: object, depth: int) -> object:
    return str(value)


def _numpy_scalar(walk: Plainer, value: object, depth: int) -> object:
    plain: object = value.item()  # type: ignore[attr-defined]
    if type(plain) in _NUMPY_PLAIN or isinstance(plain, datetime | date | timedelta):
        return walk.value(plain, depth)
    raise Unfit(f"is a {type_name(value)}, which is no plain number; convert it first")


_CONVERTERS: Final[dict[type, _Converter]] = {
    list: _list,
    tuple: _tuple,
    set: _set,
    frozenset: _frozenset,
    dict: _mapping,
    memoryview: _memoryview,
    Decimal: _decimal,
    timedelta: _timedelta,
    time: _time,
    datetime: _datetime,
}

# Enum before int and str: an IntEnum is both, and its value is what travels. datetime before
# date, of which it is a subclass.
_BY_BASE: Final[tuple[tuple[type | tuple[type, ...], _Converter], ...]] = (
    (enum.Enum, _enum),
    ((int, str, float, bytes, complex), _native),
    (tuple, _tuple),
    (list, _list),
    (dict, _mapping),
    (frozenset, _frozenset),
    (set, _set),
    (datetime, _datetime),
    (timedelta, _timedelta),
    (time, _time),
    (Decimal, _decimal),
    (PurePath, _path),
    (tuple(_NATIVE), _native),
)


def _converter_for(value: object) -> _Converter:
    """How to convert a value of a type that is not known by name."""
    kind = type(value)
    if is_root_model(value):
        return _root_model
    if model_fields(value) is not None:
        return _model
    for base, convert in _BY_BASE:
        if isinstance(value, base):
            return convert
    library = kind.__module__.partition(".")[0]
    if library == "numpy" and not getattr(value, "ndim", 1):
        return _numpy_scalar
    if library in ("pydantic", "pydantic_core") and hasattr(value, "unicode_string"):
        return _url
    raise Unfit(f"is a {type_name(value)}; it cannot travel: {_hint(value)}")


def model_fields(value: object) -> Mapping[object, object] | None:
    """The fields of a dataclass, pydantic, attrs or msgspec instance; None for anything else.

    Recognised by their markers; none of these libraries is imported.
    """
    kind = type(value)
    if kind is type or isinstance(value, type):
        return None
    if hasattr(kind, "__pydantic_fields__") and hasattr(kind, "model_dump"):
        # Without computed fields: they are not for whoever makes a model of it again.
        dumped: object = value.model_dump(  # type: ignore[attr-defined]
            mode="python", round_trip=True
        )
        return dumped if isinstance(dumped, dict) else {"root": dumped}
    names: Iterable[str]
    tag: dict[object, object] = {}
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
    elif (attributes := getattr(kind, "__attrs_attrs__", None)) is not None:
        names = [attribute.name for attribute in attributes]
    elif (struct_fields := getattr(kind, "__struct_fields__", None)) is not None:
        names = struct_fields
        config: object = getattr(kind, "__struct_config__", None)
        if getattr(config, "tag", None) is not None:
            tag = {config.tag_field: config.tag}  # type: ignore[attr-defined]
    else:
        return None
    found = ((name, getattr(value, name, _UNSET)) for name in names)
    return tag | {name: item for name, item in found if not _is_unset(item)}


def is_root_model(value: object) -> bool:
    """Whether it is a pydantic model of one value, which travels as that value."""
    return getattr(type(value), "__pydantic_root_model__", False) is True


def _is_unset(item: object) -> bool:
    """Fields that were never set; msgspec has a value of its own for that."""
    kind = type(item)
    return item is _UNSET or (kind.__module__ == "msgspec" and kind.__name__ == "UnsetType")


def unreadable(value: object, error: Exception) -> Unfit:
    """What to say of a value whose own code failed while it was made plain."""
    return Unfit(f"is a {type_name(value)}; looking into it raised {type_name(error)}")


def type_name(value: object) -> str:
    """The type of a value as people write it."""
    kind = type(value)
    if kind.__module__ == "builtins":
        return kind.__qualname__
    return f"{kind.__module__}.{kind.__qualname__}"


def _hint(value: object) -> str:
    if hasattr(type(value), "__await__"):
        return "await it first and send what it gives"
    if hasattr(value, "tolist"):
        return "send value.tolist() instead"
    if hasattr(type(value), "__next__") or isinstance(value, range):
        return "send list(value) instead"
    if callable(value):
        return "send its name instead"
    return "send its id instead"
