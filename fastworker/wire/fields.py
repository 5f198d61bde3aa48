"""The types a message field may have, each with the check that decoding runs on it.

The alias is what type checkers see; the `Check` in it is what the codec runs. A check gets the
decoded CBOR value and returns it (perhaps narrowed), or raises `ValueError` saying what it got.

Columns hold thousands of elements: their checks use `map`, `min`, `max` and `sum`, never a loop
in Python. What must hold between several fields of a message is in `agreement.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import NoneType
from typing import Annotated, Any, Final, NamedTuple, TypeAlias

from fastworker.core.ids import ID_BYTES
from fastworker.core.records import MAX_NAME_LENGTH

MAX_U32: Final = 2**32 - 1
MAX_U64: Final = 2**63 - 1
"""The largest integer SQLite and PostgreSQL can keep."""

MAX_SECONDS: Final = 253_402_300_799.0
"""The end of the year 9999, the last moment a ``datetime`` can hold; either sign."""

MAX_NUMBER: Final = 1e300
"""Of an amount that a task names; larger ones have no digits left to speak of."""

MAX_TEXT: Final = 65_536
"""Characters of a text or of one traceback: room for any sane one, small enough to keep."""

MAX_ROWS: Final = 1_048_576
"""Elements of one column: as many ids as fit into the largest frame."""

MAX_OPTION_BYTES: Final = 24_576
"""What the options of one spec may weigh: they are kept with every job."""

PRIORITIES: Final = 4

_PLAIN_LEAVES: Final = frozenset({str, bytes, int, float, bool, NoneType})
_NUMBERS: Final = frozenset({int, float})
_MAYBE_NUMBERS: Final[frozenset[type]] = frozenset({int, float, NoneType})
_MAYBE_BYTES: Final[frozenset[type]] = frozenset({bytes, NoneType})
_MAYBE_TEXT: Final[frozenset[type]] = frozenset({str, NoneType})
_ONLY_INT: Final = frozenset({int})
_ONLY_BYTES: Final = frozenset({bytes})
_ONLY_TEXT: Final = frozenset({str})


class Check(NamedTuple):
    """How one field is checked when it is decoded."""

    expected: str
    accept: Callable[[object], object]
    """Returns the value, or raises `ValueError` with what it got instead."""


def _got(value: object) -> ValueError:
    """What was found instead, without repeating more than a number of it."""
    if type(value) is int or type(value) is float:
        return ValueError(f"got {value:.6g}" if type(value) is float else f"got {value}")
    if type(value) is bytes or type(value) is str or type(value) is list:
        return ValueError(f"got {type(value).__name__} of length {len(value)}")
    return ValueError(f"got {'null' if value is None else type(value).__name__}")


# --- single values -------------------------------------------------------------------------


def _integer(limit: int) -> Callable[[object], int]:
    def accept(value: object) -> int:
        if type(value) is int and 0 <= value <= limit:
            return value
        raise _got(value)

    return accept


def _flag(value: object) -> bool:
    if type(value) is bool:
        return value
    raise _got(value)


def _seconds(value: object) -> float:
    # A comparison with NaN is False, so NaN is refused here too.
    if (type(value) is float or type(value) is int) and -MAX_SECONDS <= value <= MAX_SECONDS:
        return float(value)
    raise _got(value)


def _maybe_seconds(value: object) -> float | None:
    return None if value is None else _seconds(value)


def _text(limit: int) -> Callable[[object], str]:
    def accept(value: object) -> str:
        if type(value) is str and len(value) <= limit:
            return value
        raise _got(value)

    return accept


def _blob(value: object) -> bytes:
    if type(value) is bytes:
        return value
    raise _got(value)


def _id16(value: object) -> bytes:
    if type(value) is bytes and len(value) == ID_BYTES:
        return value
    raise _got(value)


def _ids(value: object) -> bytes:
    if type(value) is bytes and len(value) % ID_BYTES == 0 and len(value) <= MAX_ROWS * ID_BYTES:
        return value
    raise _got(value)


# --- columns -------------------------------------------------------------------------------


def _elements(value: object, allowed: frozenset[type]) -> list[Any]:
    """A list with nothing but elements of the allowed types."""
    if type(value) is not list or len(value) > MAX_ROWS:
        raise _got(value)
    other = set(map(type, value)) - allowed
    if other:
        raise ValueError(f"got {min(kind.__name__ for kind in other)} in it")
    return value


def _blobs(value: object) -> Sequence[bytes]:
    return _elements(value, _ONLY_BYTES)


def _maybe_blobs(value: object) -> Sequence[bytes | None]:
    return _elements(value, _MAYBE_BYTES)


def _check_moments(numbers: Sequence[float]) -> None:
    # The quick way first: the Euclidean norm is at least as large as every number, and NaN or
    # infinite if one of them is. A long column of good moments takes the exact way.
    if math.hypot(*numbers) <= MAX_SECONDS:
        return
    # min and max are blind to NaN; the sum is not.
    finite = math.isfinite(sum(numbers))
    if not finite or min(numbers) < -MAX_SECONDS or max(numbers) > MAX_SECONDS:
        raise ValueError("got one that is not a finite number of seconds")


def _floats(value: object) -> Sequence[float]:
    numbers = _elements(value, _NUMBERS)
    _check_moments(numbers)
    return list(map(float, numbers)) if int in map(type, numbers) else numbers


def _maybe_floats(value: object) -> Sequence[float | None]:
    numbers = _elements(value, _MAYBE_NUMBERS)
    present = [number for number in numbers if number is not None] if None in numbers else numbers
    _check_moments(present)
    if int in map(type, present):
        return [None if number is None else float(number) for number in numbers]
    return numbers


def _numbers(value: object) -> Sequence[float]:
    numbers = _elements(value, _NUMBERS)
    _check_finite(numbers)
    return numbers


def _maybe_numbers(value: object) -> Sequence[float | None]:
    numbers = _elements(value, _MAYBE_NUMBERS)
    _check_finite([number for number in numbers if number is not None])
    return numbers


def _check_finite(numbers: Sequence[float]) -> None:
    if not all(-MAX_NUMBER <= number <= MAX_NUMBER for number in numbers):
        raise ValueError("got one that is no number or too large")


def _u64s(value: object) -> Sequence[int]:
    numbers = _elements(value, _ONLY_INT)
    if numbers and (min(numbers) < 0 or max(numbers) > MAX_U64):
        raise ValueError("got one that is negative or too large")
    return numbers


def _texts(value: object) -> Sequence[str]:
    texts = _elements(value, _ONLY_TEXT)
    if texts and max(map(len, texts)) > MAX_TEXT:
        raise ValueError(f"got one of more than {MAX_TEXT} characters")
    return texts


def _maybe_texts(value: object) -> Sequence[str | None]:
    texts = _elements(value, _MAYBE_TEXT)
    if max((len(text) for text in texts if text is not None), default=0) > MAX_TEXT:
        raise ValueError(f"got one of more than {MAX_TEXT} characters")
    return texts


# --- rows and maps -------------------------------------------------------------------------


def _weigh(value: object) -> int:
    """Roughly the bytes of a plain value: text keys, no tags, no exotic simple values."""
    if type(value) is str or type(value) is bytes:
        return 4 + len(value)
    if type(value) in _PLAIN_LEAVES:
        return 8
    if type(value) is list:
        return 4 + sum(map(_weigh, value))
    if type(value) is dict:
        if not set(map(type, value)) <= _ONLY_TEXT:
            raise ValueError("got a key that is not text")
        return 4 + sum(map(_weigh, value)) + sum(map(_weigh, value.values()))
    raise _got(value)


def _plain_map(value: object) -> dict[str, Any]:
    if type(value) is not dict:
        raise _got(value)
    _weigh(value)
    return value


def _small_map(value: object) -> dict[str, Any]:
    if type(value) is not dict:
        raise _got(value)
    if _weigh(value) > MAX_OPTION_BYTES:
        raise ValueError(f"got more than {MAX_OPTION_BYTES} bytes")
    return value


def _maps(value: object) -> list[dict[str, Any]]:
    if type(value) is not list or len(value) > MAX_ROWS:
        raise _got(value)
    return [_plain_map(each) for each in value]


def _rows(*cells: Callable[[object], object]) -> Callable[[object], list[list[object]]]:
    """A list of rows, each with exactly these cells."""
    width = len(cells)

    def accept_rows(value: object) -> list[list[object]]:
        if type(value) is not list or len(value) > MAX_ROWS:
            raise _got(value)
        for number, row in enumerate(value):
            if type(row) is not list or len(row) != width:
                raise ValueError(f"row {number} is not a list of {width}")
            try:
                # What a check makes of a cell counts: seconds may come as integers.
                value[number] = [accept(cell) for cell, accept in zip(row, cells, strict=True)]
            except ValueError as error:
                raise ValueError(f"row {number}: {error}") from None
        return value

    return accept_rows


def _runner_number(value: object) -> int:
    if type(value) is int and abs(value) <= MAX_U32:
        return value
    raise _got(value)


def _pairs(value: object) -> Sequence[Sequence[int]]:
    if type(value) is not list or len(value) > MAX_ROWS:
        raise _got(value)
    for pair in value:
        if type(pair) is not list or len(pair) != 2 or set(map(type, pair)) != _ONLY_INT:
            raise ValueError("got something that is not two integers")
        if max(map(abs, pair)) > MAX_U32:
            raise ValueError("got one that is too large")
    return value


_u32 = _integer(MAX_U32)
_u64 = _integer(MAX_U64)
_name = _text(MAX_NAME_LENGTH)
_long_text = _text(MAX_TEXT)
_priority = _integer(PRIORITIES - 1)

U32: TypeAlias = Annotated[int, Check("an integer from 0 to 2^32-1", _u32)]
U64: TypeAlias = Annotated[int, Check("an integer from 0 to 2^63-1", _u64)]
Flag: TypeAlias = Annotated[bool, Check("true or false", _flag)]
Seconds: TypeAlias = Annotated[float, Check("a finite number of seconds", _seconds)]
Text: TypeAlias = Annotated[str, Check(f"text of at most {MAX_TEXT} characters", _long_text)]
Name: TypeAlias = Annotated[str, Check(f"text of at most {MAX_NAME_LENGTH} characters", _name)]
Blob: TypeAlias = Annotated[bytes, Check("bytes", _blob)]
Id16: TypeAlias = Annotated[bytes, Check("an id of 16 bytes", _id16)]
Ids: TypeAlias = Annotated[bytes, Check("packed 16-byte ids", _ids)]
NumberBytes: TypeAlias = Annotated[bytes, Check("bytes, one a job", _blob)]
BlobColumn: TypeAlias = Annotated[Sequence[bytes], Check("a list of bytes", _blobs)]
MaybeBlobColumn: TypeAlias = Annotated[
    Sequence[bytes | None], Check("a list of bytes or null", _maybe_blobs)
]
FloatColumn: TypeAlias = Annotated[Sequence[float], Check("a list of seconds", _floats)]
MaybeFloatColumn: TypeAlias = Annotated[
    Sequence[float | None], Check("a list of seconds or null", _maybe_floats)
]
NumberColumn: TypeAlias = Annotated[Sequence[float], Check("a list of numbers", _numbers)]
MaybeNumberColumn: TypeAlias = Annotated[
    Sequence[float | None], Check("a list of numbers or null", _maybe_numbers)
]
MaybeTextColumn: TypeAlias = Annotated[
    Sequence[str | None], Check("a list of texts or null", _maybe_texts)
]
U64Column: TypeAlias = Annotated[Sequence[int], Check("a list of integers from 0 to 2^63-1", _u64s)]
IndexColumn: TypeAlias = Annotated[Sequence[int], Check("a list of indices", _u64s)]
TextColumn: TypeAlias = Annotated[Sequence[str], Check("a list of texts", _texts)]
Pairs: TypeAlias = Annotated[Sequence[Sequence[int]], Check("pairs of integers", _pairs)]
OptionMap: TypeAlias = Annotated[
    dict[str, Any], Check("a map of plain values with text keys", _plain_map)
]
OptionMaps: TypeAlias = Annotated[
    list[dict[str, Any]], Check("a list of maps of plain values with text keys", _maps)
]
SubmitSpecs: TypeAlias = Annotated[
    list[list[object]],
    Check("rows [task, queue, priority, options]", _rows(_name, _name, _priority, _small_map)),
]
AssignSpecs: TypeAlias = Annotated[
    list[list[object]],
    Check("rows [task, priority, pool, options]", _rows(_name, _priority, _u32, _small_map)),
]
TaskRows: TypeAlias = Annotated[
    list[list[object]], Check("rows [name, pool, signature]", _rows(_name, _u32, _long_text))
]
FailureRows: TypeAlias = Annotated[
    list[list[object]],
    Check(
        "rows [index, type name, message, traceback, reason]",
        _rows(_u32, _long_text, _long_text, _long_text, _long_text),
    ),
]
RetryRows: TypeAlias = Annotated[
    list[list[object]],
    Check(
        "rows [index, delay, counted, budget]",
        _rows(_u32, _seconds, _flag, _maybe_seconds),
    ),
]
RefusedRows: TypeAlias = Annotated[
    list[list[object]],
    Check("rows [index, code, message, retry_after]", _rows(_u32, _name, _long_text, _seconds)),
]
ExistingRows: TypeAlias = Annotated[
    list[list[object]], Check("rows [index, id]", _rows(_u32, _id16))
]
StackRows: TypeAlias = Annotated[
    list[list[object]],
    Check(
        "rows [token, kind, waits, start, stack]",
        _rows(_u64, _name, _u32, _maybe_seconds, _long_text),
    ),
]
InspectedRows: TypeAlias = Annotated[
    list[list[object]],
    Check(
        "rows [token, runner, pid, kind, waits, start, stack]",
        _rows(_u64, _runner_number, _u64, _name, _u32, _maybe_seconds, _long_text),
    ),
]
