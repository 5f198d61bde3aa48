"""Seals arguments and results: CBOR and a checksum, opaque to everybody on the way.

A sealed value is plain CBOR followed by its CRC-32, four bytes, big endian. Sealed arguments are
the array ``[positional, by name]``. Only plain data comes out of opening one: nothing on the wire
names a class, and nothing is imported or evaluated.

What travels and comes back as it was: None, bool, int, float, str, bytes, list, tuple, dict, set,
frozenset, Decimal, Fraction, complex, UUID, date, time, timedelta, aware datetime (with its zone),
IP addresses and networks, paths. What comes back as plain data: Enum members (their value),
dataclasses and models (dicts), named tuples (tuples), bytearray and memoryview (bytes), numpy
scalars (numbers). Everything else is refused, with its path, before anything is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, NoReturn
from zlib import crc32
from zoneinfo import ZoneInfo

from cbor2 import CBOREncodeError, CBORError, CBORTag, dumps, loads

from fastworker.core.records import MAX_PAYLOAD_BYTES
from fastworker.errors import NotSerializable, ProtocolError
from fastworker.wire.culprit import MAX_NUMBER_BYTES, Culprit, find_culprit
from fastworker.wire.plain import (
    MAX_DEPTH,
    SCALARS,
    TAG_DECIMAL,
    TAG_FROZENSET,
    TAG_PATH,
    TAG_TIME,
    TAG_TIMEDELTA,
    TAG_TUPLE,
    TAG_ZONED,
    PayloadTooLarge,
    Plainer,
    Unfit,
)

__all__ = [
    "CorruptPayload",
    "PayloadTooLarge",
    "open_call",
    "open_map",
    "open_value",
    "seal_call",
    "seal_value",
]

_CHECKSUM_BYTES: Final = 4
_PAIR_HEAD: Final = b"\x82"  # an array of two
_UINT32_HEAD: Final = b"\x1a"
_NO_KEYWORDS: Final = b"\xa0"  # an empty map
_LONG_NUMBER_HEADS: Final = (b"\xc2\x59", b"\xc2\x5a", b"\xc3\x59", b"\xc3\x5a")
"""How integers of 256 bytes and more start; found by chance in other data, so only a hint."""
_DECODE_DEPTH: Final = 2 * MAX_DEPTH + 10
"""A tagged container counts twice."""
_REFUSED_TAGS: Final = (5, 25, 28, 29, 35, 36, 256, 260, 261, 55799)
"""Big floats, references, regular expressions, e-mail: bombs, cycles, or parsers."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class CorruptPayload(ProtocolError):
    """Bytes that are not a sealed value: damaged on the way, or sealed by something else."""

    code = "corrupt_payload"


def seal_call(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], *, task: str, names: Sequence[str] = ()
) -> bytes:
    """Seal the arguments of a call.

    Args:
        task: the task's name, for error messages.
        names: the task's positional parameters, if known, for error messages.

    Raises:
        NotSerializable: an argument cannot travel, with its path, type and what to do; or the
            arguments take more than `MAX_PAYLOAD_BYTES` (then a `PayloadTooLarge`).
    """
    try:
        if SCALARS.issuperset(map(type, args)):
            body = _PAIR_HEAD + dumps(args)
        else:
            body = _PAIR_HEAD + dumps(Plainer().elements(args, 0))
        body += dumps(Plainer().value(dict(kwargs))) if kwargs else _NO_KEYWORDS
        if len(body) > MAX_NUMBER_BYTES and any(head in body for head in _LONG_NUMBER_HEADS):
            _refuse_arguments(args, kwargs, task, names, None)
    except PayloadTooLarge as error:
        raise PayloadTooLarge(f"the arguments of task {task!r} {error}") from None
    except (Unfit, UnicodeEncodeError, CBOREncodeError) as error:
        _refuse_arguments(args, kwargs, task, names, error)
    if len(body) + _CHECKSUM_BYTES > MAX_PAYLOAD_BYTES:
        raise PayloadTooLarge(f"the arguments of task {task!r} {_too_long(body)}")
    return body + crc32(body).to_bytes(_CHECKSUM_BYTES, "big")


def seal_value(value: Any, *, what: str) -> bytes:
    """Seal one value, such as a result; ``what`` begins its error messages ("the result of …").

    Raises:
        NotSerializable: as for `seal_call`.
    """
    try:
        body = dumps(value if type(value) in SCALARS else Plainer().value(value))
        if len(body) > MAX_NUMBER_BYTES and any(head in body for head in _LONG_NUMBER_HEADS):
            _refuse_value(value, what, None)
    except PayloadTooLarge as error:
        raise PayloadTooLarge(f"the elements of {what} {error}") from None
    except (Unfit, UnicodeEncodeError, CBOREncodeError) as error:
        _refuse_value(value, what, error)
    if len(body) + _CHECKSUM_BYTES > MAX_PAYLOAD_BYTES:
        raise PayloadTooLarge(f"the bytes of {what} {_too_long(body)}")
    return body + crc32(body).to_bytes(_CHECKSUM_BYTES, "big")


def open_call(sealed: bytes) -> tuple[list[Any], dict[str, Any]]:
    """Open what `seal_call` sealed: the positional arguments and those by name.

    Raises:
        CorruptPayload: anything else.
    """
    call = _open(sealed)
    if not (isinstance(call, list) and len(call) == 2):
        raise CorruptPayload("sealed arguments are an array of two: positional, and by name")
    args, kwargs = call
    if not (isinstance(args, list) and isinstance(kwargs, dict)):
        raise CorruptPayload("sealed arguments are an array, then a map")
    if kwargs and not all(type(name) is str for name in kwargs):
        raise CorruptPayload("a sealed argument has a name that is not text")
    return args, kwargs


def open_value(sealed: bytes) -> Any:
    """Open what `seal_value` sealed.

    Raises:
        CorruptPayload: anything else.
    """
    return _open(sealed)


def open_map(sealed: bytes) -> dict[str, Any]:
    """Open a sealed map by names.

    Raises:
        CorruptPayload: anything else.
    """
    found = _open(sealed)
    if not isinstance(found, dict) or not all(type(name) is str for name in found):
        raise CorruptPayload("a sealed context is a map by names")
    return found


def _open(sealed: bytes) -> object:
    if not _CHECKSUM_BYTES < len(sealed) <= MAX_PAYLOAD_BYTES:
        raise CorruptPayload(f"a sealed value cannot have {len(sealed)} bytes")
    body, ending = sealed[:-_CHECKSUM_BYTES], sealed[-_CHECKSUM_BYTES:]
    checksum = int.from_bytes(ending, "big")
    if crc32(body) != checksum:
        raise CorruptPayload(f"a sealed value of {len(sealed)} bytes does not fit its checksum")
    try:
        # The decoder ignores bytes that follow a value. Read as [value, checksum], they would
        # be taken for the checksum and not be equal to it.
        value, follows = loads(
            b"".join((_PAIR_HEAD, body, _UINT32_HEAD, ending)),
            tag_hook=_unknown_tag,
            semantic_decoders=_DECODERS,
            max_depth=_DECODE_DEPTH,
            allow_duplicate_keys=False,
        )
    except (
        CBORError,
        ValueError,
        TypeError,
        LookupError,
        ArithmeticError,
        RuntimeError,
        OSError,  # a zone name that is a folder
        MemoryError,
    ) as error:
        cause = error.__cause__ or error
        raise CorruptPayload(f"a sealed value cannot be read: {cause}") from error
    if type(follows) is not int or follows != checksum:
        raise CorruptPayload("a sealed value is followed by more bytes")
    return value


def _refuse_arguments(
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    task: str,
    names: Sequence[str],
    error: Exception | None,
) -> None:
    """Raise for the argument to blame; return only if there is none and ``error`` is None."""
    for index, value in enumerate(args):
        root = names[index] if index < len(names) else f"args[{index}]"
        _blame_argument(find_culprit(value, root), task)
    for name, value in kwargs.items():
        _blame_argument(find_culprit(name, "(name)"), task)
        _blame_argument(find_culprit(value, name), task)
    if error is not None:
        raise NotSerializable(f"the arguments of task {task!r} cannot travel: {error}") from None


def _blame_argument(culprit: Culprit | None, task: str) -> None:
    if culprit is not None:
        raise NotSerializable(
            f"argument {culprit.path!r} of task {task!r} {culprit.reason}"
        ) from None


def _refuse_value(value: object, what: str, error: Exception | None) -> None:
    """Raise for the part to blame; return only if there is none and ``error`` is None."""
    culprit = find_culprit(value, "")
    if culprit is not None:
        subject = f"{culprit.path.removeprefix('.')!r} of {what}" if culprit.path else what
        raise NotSerializable(f"{subject} {culprit.reason}") from None
    if error is not None:
        raise NotSerializable(f"{what} cannot travel: {error}") from None


def _too_long(body: bytes) -> str:
    return (
        f"take {len(body) + _CHECKSUM_BYTES} bytes, and at most {MAX_PAYLOAD_BYTES} can travel; "
        "send where the data is instead"
    )


def _unknown_tag(tag: CBORTag, immutable: bool) -> NoReturn:
    raise ValueError(f"tag {tag.tag} is not known here")


def _refused_tag(value: object, immutable: bool) -> NoReturn:
    raise ValueError("a tag that is refused: references, patterns, e-mail and big floats")


def _items(value: Any) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise ValueError("a tuple or frozenset that is not an array")
    return value


def _natural(value: Any, immutable: bool) -> int:
    if not isinstance(value, bytes) or len(value) > MAX_NUMBER_BYTES:
        raise ValueError(f"an integer that is not at most {MAX_NUMBER_BYTES} bytes")
    return int.from_bytes(value, "big")


def _negative(value: Any, immutable: bool) -> int:
    return -1 - _natural(value, immutable)


def _tuple(value: Any, immutable: bool) -> tuple[Any, ...]:
    return tuple(_items(value))


def _frozenset(value: Any, immutable: bool) -> frozenset[Any]:
    return frozenset(_items(value))


def _timedelta(value: Any, immutable: bool) -> timedelta:
    return timedelta(microseconds=_integer(value))


def _time(value: Any, immutable: bool) -> time:
    return time.fromisoformat(value)


def _zoned(value: Any, immutable: bool) -> datetime:
    microseconds, zone = value
    moment = _EPOCH + timedelta(microseconds=_integer(microseconds))
    if isinstance(zone, str):
        return moment.astimezone(ZoneInfo(zone))
    return moment.astimezone(timezone(timedelta(microseconds=_integer(zone))))


def _integer(value: object) -> int:
    if type(value) is not int:
        raise ValueError("microseconds that are not an integer")
    return value


def _path(value: Any, immutable: bool) -> Path:
    return Path(value)


def _decimal(value: Any, immutable: bool) -> Decimal:
    if not isinstance(value, str) or len(value) > MAX_NUMBER_BYTES:
        raise ValueError("a decimal that is not short text")
    return Decimal(value)


_DECODERS: Final[dict[int, Callable[[Any, bool], Any]]] = {
    **dict.fromkeys(_REFUSED_TAGS, _refused_tag),
    2: _natural,
    3: _negative,
    TAG_TUPLE: _tuple,
    TAG_FROZENSET: _frozenset,
    TAG_TIMEDELTA: _timedelta,
    TAG_TIME: _time,
    TAG_ZONED: _zoned,
    TAG_PATH: _path,
    TAG_DECIMAL: _decimal,
}
