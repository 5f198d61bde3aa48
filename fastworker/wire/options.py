"""`JobOptions` as the map that travels in a spec: only what differs from the default.

Unknown keys are ignored, so that a newer client may ask for what this version does not know.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Final

from fastworker.core.ids import ID_BYTES
from fastworker.core.records import DEFAULT_OPTIONS, MAX_NAME_LENGTH, JobOptions
from fastworker.errors import InvalidAddress, InvalidOption
from fastworker.wire.callback_addresses import parse_callback_address
from fastworker.wire.fields import MAX_SECONDS

MAX_CALLBACK_DATA_BYTES: Final = 8192
"""Kept with the job and sent with every delivery; an id or a small record, not a payload."""

MAX_CONTEXT_BYTES: Final = 8192
"""Request ids, tenants, locales: a context variable is no way to carry arguments."""

ON_LOST: Final = ("retry", "fail")

_OWN_CONNECTION: Final = re.compile(r"client:[0-9a-f]{32}\Z")
_NAMES: Final = tuple(field.name for field in fields(JobOptions))


def options_to_map(options: JobOptions) -> dict[str, object]:
    """The options that are not default, by name.

    Raises:
        InvalidOption: a value it cannot have.
    """
    if options is DEFAULT_OPTIONS:
        return {}
    _check(options)
    return {
        name: value
        for name in _NAMES
        if (value := getattr(options, name)) != getattr(DEFAULT_OPTIONS, name)
    }


def map_to_options(found: Mapping[str, object]) -> JobOptions:
    """Read options back; `DEFAULT_OPTIONS` itself if none is given.

    Raises:
        InvalidOption: a value it cannot have.
    """
    known = {name: found[name] for name in _NAMES if name in found}
    if not known:
        return DEFAULT_OPTIONS
    options = JobOptions(**known)  # type: ignore[arg-type]  # checked right below
    _check(options)
    return options


def _check(options: JobOptions) -> None:
    if type(options.keep_result) is not bool:
        raise _invalid("keep_result", options.keep_result, "True or False")
    if type(options.on_lost) is not str or options.on_lost not in ON_LOST:
        raise _invalid("on_lost", options.on_lost, "'retry' or 'fail'")
    if options.callback is not None:
        _check_callback(options.callback)
    data = options.callback_data
    if data is not None and (type(data) is not bytes or len(data) > MAX_CALLBACK_DATA_BYTES):
        size = f"{len(data)} bytes" if type(data) is bytes else data
        raise _invalid("callback_data", size, f"at most {MAX_CALLBACK_DATA_BYTES} sealed bytes")
    token = options.callback_token
    if token is not None and (type(token) is not str or not 1 <= len(token) <= MAX_NAME_LENGTH):
        raise _invalid("callback_token", "that", "the id of a token")
    ids = (("parent", options.parent), ("replay_of", options.replay_of), ("owner", options.owner))
    for name, other in ids:
        if other is not None and (type(other) is not bytes or len(other) != ID_BYTES):
            raise _invalid(name, other, "an id of 16 bytes")
    _check_limits(options)


def _check_limits(options: JobOptions) -> None:
    for name in ("timeout", "grace", "deadline", "owned"):
        seconds = getattr(options, name)
        if seconds is not None and not _is_length(seconds):
            raise _invalid(name, seconds, "a number of seconds, not negative")
    for name in ("detached", "stream"):
        if type(getattr(options, name)) is not bool:
            raise _invalid(name, getattr(options, name), "True or False")
    context = options.context
    if context is not None and (type(context) is not bytes or len(context) > MAX_CONTEXT_BYTES):
        size = f"{len(context)} bytes" if type(context) is bytes else context
        raise _invalid("context", size, f"at most {MAX_CONTEXT_BYTES} sealed bytes")


def _is_length(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value <= MAX_SECONDS  # type: ignore[operator]


def _check_callback(callback: object) -> None:
    if type(callback) is not str:
        raise _invalid("callback", callback, "an address")
    if _OWN_CONNECTION.match(callback):
        return
    try:
        parse_callback_address(callback)
    except InvalidAddress as error:
        raise InvalidOption(f"option callback: {error}") from None


def _invalid(name: str, value: object, expected: str) -> InvalidOption:
    return InvalidOption(f"option {name} is {value!a:.60}; expected {expected}")
