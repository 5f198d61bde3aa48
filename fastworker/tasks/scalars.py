"""Values of the standard library: they travel as themselves, and are made of text where they did
not, as from a command line or another language. Pure."""

from __future__ import annotations

import fractions
import ipaddress
import uuid
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from pathlib import PurePath
from typing import Any, Final

from fastworker.tasks.misfits import Misfit, article, kind_name, raised, refuse

PLAIN: Final[frozenset[Any]] = frozenset(
    {int, str, float, bool, bytes, complex, list, dict, type(None), object, memoryview}
)
"""Annotated so, a value is left as it arrives: Python does not enforce annotations either."""


def _seconds(value: Any) -> timedelta:
    return timedelta(seconds=value)


_FROM: Final[dict[type, tuple[tuple[type, ...], Callable[[Any], Any]]]] = {
    uuid.UUID: ((str,), uuid.UUID),
    datetime: ((str,), datetime.fromisoformat),
    date: ((str,), date.fromisoformat),
    time: ((str,), time.fromisoformat),
    timedelta: ((int, float), _seconds),
    Decimal: ((str, int), Decimal),
    fractions.Fraction: ((str, int), fractions.Fraction),
    bytearray: ((bytes,), bytearray),
    ipaddress.IPv4Address: ((str,), ipaddress.IPv4Address),
    ipaddress.IPv6Address: ((str,), ipaddress.IPv6Address),
    ipaddress.IPv4Network: ((str,), ipaddress.IPv4Network),
    ipaddress.IPv6Network: ((str,), ipaddress.IPv6Network),
    ipaddress.IPv4Interface: ((str,), ipaddress.IPv4Interface),
    ipaddress.IPv6Interface: ((str,), ipaddress.IPv6Interface),
}
"""What each may be made of beside itself."""


def scalar_of(kind: type) -> Callable[[Any], Any] | None:
    """The converter of a class of values; None if it is none of them."""
    known = _FROM.get(kind)
    if known is not None:
        return partial(_scalar, kind, *known)
    if issubclass(kind, PurePath):
        return partial(_scalar, kind, (str, PurePath), kind)
    return None


def _scalar(kind: type, sources: tuple[type, ...], make: Callable[[Any], Any], value: Any) -> Any:
    if isinstance(value, kind):
        return value
    if not isinstance(value, sources):
        refuse(value, article(kind_name(kind)))
    try:
        return make(value)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise Misfit(f"is no {kind_name(kind)}: {raised(error)}") from None
