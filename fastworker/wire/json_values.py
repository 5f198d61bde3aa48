"""Any value as JSON: what the command line prints and webhooks carry."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from datetime import date, datetime, time, timedelta
from enum import Enum
from typing import Final

_LONGEST_NUMBER_BITS: Final = 14_000
"""Python refuses to write integers of more than 4,300 digits."""


def json_text(value: object, *, indent: int | None = None) -> str:
    """Return any value as strict JSON in ASCII."""
    return json.dumps(plain(value), indent=indent, allow_nan=False)


def plain(value: object) -> object:
    """Return the nearest value JSON has.

    Bytes become base64, moments ISO 8601, lengths of time seconds, NaN and infinities text,
    records objects, numbers of thousands of digits hexadecimal text, and everything else its text.
    """
    match value:
        case Enum():
            return value.name.lower() if isinstance(value.value, int) else plain(value.value)
        case None | bool() | str():
            return value
        case int():
            return value if value.bit_length() <= _LONGEST_NUMBER_BITS else hex(value)
        case float():
            return value if math.isfinite(value) else str(value)
        case bytes() | bytearray() | memoryview():
            return base64.b64encode(value).decode("ascii")
        case datetime() | date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case Mapping():
            return {_key(key): plain(inner) for key, inner in value.items()}
        case tuple() if hasattr(value, "_asdict"):
            return plain(value._asdict())
        case AbstractSet() | list() | tuple():
            return [plain(inner) for inner in value]
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return {one.name: plain(getattr(value, one.name)) for one in dataclasses.fields(value)}
        case _:
            return str(value)


def _key(key: object) -> str:
    text = plain(key)
    return text if isinstance(text, str) else json.dumps(text)
