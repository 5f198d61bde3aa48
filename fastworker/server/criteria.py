"""What the options of a question or a change say. All of it raises `InvalidOption`."""

from __future__ import annotations

from typing import Final

from fastworker.core.ids import ID_BYTES, split_ids
from fastworker.core.records import MAX_PAYLOAD_BYTES
from fastworker.errors import InvalidOption
from fastworker.store.contract import DeadFilter
from fastworker.wire.fields import MAX_U64, OptionMap

MAX_LETTERS: Final = 500
"""In one page or request: with the longest messages and tracebacks about 36 MB."""


def named_ids(options: OptionMap) -> list[bytes]:
    """The packed ``ids``, each once, 1 to `MAX_LETTERS`."""
    packed = options["ids"]
    if type(packed) is not bytes or len(packed) % ID_BYTES:
        raise InvalidOption("ids are packed ids of 16 bytes each")
    ids = list(dict.fromkeys(split_ids(packed)))
    if not 1 <= len(ids) <= MAX_LETTERS:
        raise InvalidOption(f"ids are {len(ids)}; give 1 to {MAX_LETTERS} at once")
    return ids


def named_id(options: OptionMap) -> list[bytes]:
    """The one ``id``."""
    job_id = options.get("id")
    if type(job_id) is not bytes or len(job_id) != ID_BYTES:
        raise InvalidOption("id is the job's id, 16 bytes")
    return [job_id]


def edited_payload(options: OptionMap, jobs: int) -> bytes | None:
    """The ``payload`` that replaces the arguments of a single job, if there is one."""
    payload = options.get("payload")
    if payload is None:
        return None
    if type(payload) is not bytes or not 0 < len(payload) <= MAX_PAYLOAD_BYTES:
        raise InvalidOption(f"payload is sealed arguments of at most {MAX_PAYLOAD_BYTES} bytes")
    if jobs != 1:
        raise InvalidOption("edited arguments are for one dead letter")
    return payload


def named_tenant(options: OptionMap, sees: str | None) -> str | None:
    """Whose jobs are meant: the ``tenant`` that is named, or all that may be seen.

    Args:
        sees: the tenant whose jobs the asker may know of; None: everybody's.

    Raises:
        InvalidOption: another one is named than the asker's; whether there is one is not said.
    """
    tenant = text_option(options, "tenant")
    if sees is not None and tenant not in (None, sees):
        raise InvalidOption(f"tenant can only be {sees!r} here, as this token's; leave it out")
    return tenant if sees is None else sees


def dead_filter(options: OptionMap, sees: str | None) -> DeadFilter:
    """Which dead letters, of those that may be seen, and which page of them."""
    limit, before = options.get("limit", 100), options.get("before")
    if type(limit) is not int or not 1 <= limit <= MAX_LETTERS:
        raise InvalidOption(f"limit is {limit!r:.40}; expected 1 to {MAX_LETTERS}")
    if before is not None and (type(before) is not int or not 0 <= before <= MAX_U64):
        raise InvalidOption(f"before is {before!r:.40}; expected the cursor of a dead letter")
    return DeadFilter(
        task=text_option(options, "task"),
        error=text_option(options, "error"),
        ended_before=_moment(options, "ended_before"),
        ended_after=_moment(options, "ended_after"),
        before_key=before,
        limit=limit,
        tenant=named_tenant(options, sees),
    )


def text_option(options: OptionMap, name: str) -> str | None:
    """An option that is text, if it is there."""
    value = options.get(name)
    if value is not None and type(value) is not str:
        raise InvalidOption(f"{name} is {value!r:.40}; expected text")
    return value


def _moment(options: OptionMap, name: str) -> float | None:
    value = options.get(name)
    if value is None:
        return None
    if type(value) not in (int, float) or value != value:
        raise InvalidOption(f"{name} is {value!r:.40}; expected seconds since 1970")
    return float(value)
