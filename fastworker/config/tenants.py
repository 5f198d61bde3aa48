"""The setting ``tenants``: tables in a file, ``NAME:weight=3,…`` as a flag or variable."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Final

from fastworker.config.kinds import Kind, Raw, Size, Whole, read_kind, read_number
from fastworker.core.names import check_name
from fastworker.core.records import ALL_TENANTS
from fastworker.core.tenants import TenantLimits, Tenants
from fastworker.errors import InvalidOption

MOST_WEIGHT: Final = 1_000
"""Beyond a thousand to one the others might as well not be there."""
MOST_JOBS: Final = 999_999_999_999
"""More than any store we know holds."""
MOST_BYTES: Final = 2**50
"""A pebibyte: more than any disk we know holds."""
MOST_CONNECTIONS: Final = 1_000_000
"""More than one process can have."""
SLOWEST_RATE: Final = 0.001
"""One job in a quarter of an hour; whoever wants less wants a schedule."""
FASTEST_RATE: Final = 1_000_000.0
"""More jobs a second than any control plane takes."""


@dataclass(frozen=True, slots=True)
class Rate:
    """Jobs a second, not necessarily whole."""

    @property
    def expects(self) -> str:
        return f"a number of jobs a second from {SLOWEST_RATE:g} to {FASTEST_RATE:.0f}"

    def read(self, raw: Raw) -> float:
        return read_number(raw, SLOWEST_RATE, FASTEST_RATE)


LIMITS: Final[Mapping[str, Kind]] = {
    "weight": Whole(1, MOST_WEIGHT),
    "max_queued_jobs": Whole(1, MOST_JOBS),
    "max_queued_bytes": Size(MOST_BYTES),
    "max_connections": Whole(1, MOST_CONNECTIONS),
    "max_submissions_per_second": Rate(),
}
"""What each key of a tenant may be."""


@dataclass(frozen=True, slots=True)
class TenantTable:
    """Limits by tenant; those of ``*`` hold for every tenant that is not named."""

    expects: str = "limits by tenant, such as acme:weight=3,max-queued-jobs=1000"

    def read(self, raw: Raw) -> Tenants:
        if not raw.is_text:
            if not isinstance(raw.value, dict):
                raise InvalidOption("in a file they are tables: [tenants.acme] with weight = 3")
            return _read_all(raw.value.items(), raw)
        given = raw.value if isinstance(raw.value, list | tuple) else [raw.value]
        return _read_all((_split(word) for text in given for word in _words(text)), raw)


def tenants_map(tenants: Tenants) -> dict[str, dict[str, object]]:
    """The limits as a settings file has them: only what is set."""
    unset = TenantLimits()
    return {
        name: {
            one.name: value
            for one in fields(limits)
            if (value := getattr(limits, one.name)) != getattr(unset, one.name)
        }
        for name, limits in tenants.by_name.items()
    }


def _words(text: object) -> list[str]:
    if not isinstance(text, str):
        raise ValueError
    return text.split()


def _split(word: str) -> tuple[str, dict[str, object]]:
    name, colon, rest = word.rpartition(":")
    if not colon:
        raise InvalidOption(f"{_shown(word)} has no limits; write {word:.40}:weight=3, for example")
    limits: dict[str, object] = {}
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            raise InvalidOption(f"tenant {_shown(name)}: {_shown(part)} is not KEY=VALUE")
        if key in limits:
            raise InvalidOption(f"tenant {_shown(name)}: {key} is given twice")
        limits[key.replace("-", "_")] = value
    return name, limits


def _read_all(given: Iterable[tuple[str, object]], raw: Raw) -> Tenants:
    found: dict[str, TenantLimits] = {}
    for name, limits in given:
        if name != ALL_TENANTS:
            check_name("tenant", name)
        if name in found:
            raise InvalidOption(f"tenant {name!r} is given twice")
        if not isinstance(limits, dict):
            raise InvalidOption(f"tenant {name!r} is not a table of limits")
        values = dict(_read_limits(name, limits, raw))
        found[name] = replace(TenantLimits(), **values)  # type: ignore[arg-type]
    return Tenants(found)


def _read_limits(
    tenant: str, limits: Mapping[str, object], raw: Raw
) -> Iterator[tuple[str, object]]:
    for key, value in limits.items():
        kind = LIMITS.get(key)
        if kind is None:
            close = difflib.get_close_matches(key.replace("-", "_").lower(), LIMITS, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(LIMITS)}"
            raise InvalidOption(f"tenant {tenant!r}: unknown key {_shown(key)}; {hint}")
        try:
            read = read_kind(kind, Raw(value, raw.is_text, raw.folder))
        except ValueError as error:
            raise InvalidOption(
                f"tenant {tenant!r}: {key} expects {kind.expects}, not {_shown(value)}"
            ) from error
        if read == 0:
            raise InvalidOption(f"tenant {tenant!r}: {key} of 0 would accept nothing")
        yield key, read


def _shown(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
