"""`JobView` and `AttemptView` as the maps of `Fetched` and `Report`: None is left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fastworker.core.ids import ID_BYTES
from fastworker.core.records import (
    DEFAULT_TENANT,
    AttemptView,
    Failure,
    JobView,
    ProgressView,
    TaskStatus,
)
from fastworker.errors import ProtocolError
from fastworker.wire.fields import MAX_NUMBER, MAX_SECONDS, MAX_U64, PRIORITIES

_REQUIRED: Final[dict[str, tuple[type, ...]]] = {
    "id": (bytes,),
    "task": (str,),
    "queue": (str,),
    "priority": (int,),
    "status": (str,),
    "submitted_at": (float, int),
    "attempts": (int,),
    "token": (int,),
    "result_kept": (bool,),
}
_OPTIONAL: Final[dict[str, tuple[type, ...]]] = {
    "ready_at": (float, int),
    "expires_at": (float, int),
    "started_at": (float, int),
    "finished_at": (float, int),
    "session": (bytes,),
    "value": (bytes,),
    "failure": (list,),
    "reason": (str,),
    "replay_of": (bytes,),
    "replayed_by": (bytes,),
    "progress": (dict,),
    "tenant": (str,),
}
_PROGRESS: Final[dict[str, tuple[type, ...]]] = {
    "done": (float, int),
    "message": (str,),
    "at": (float, int),
}
_PROGRESS_OPTIONAL: Final[dict[str, tuple[type, ...]]] = {"total": (float, int)}
_ATTEMPT: Final[dict[str, tuple[type, ...]]] = {
    "token": (int,),
    "outcome": (str,),
    "error": (str,),
}
_ATTEMPT_OPTIONAL: Final[dict[str, tuple[type, ...]]] = {
    "worker": (str,),
    "host": (str,),
    "pid": (int,),
    "started_at": (float, int),
    "finished_at": (float, int),
}
_NUMBERS: Final[dict[str, tuple[float, float]]] = {
    "priority": (0, PRIORITIES - 1),
    "done": (-MAX_NUMBER, MAX_NUMBER),
    "total": (-MAX_NUMBER, MAX_NUMBER),
}
"""Those that are no moments and no counts."""


def view_to_map(view: JobView) -> dict[str, object]:
    """The fields of a view by name; the status as its word, the failure as a list of four."""
    found = {name: value for name, value in view._asdict().items() if value is not None}
    found["status"] = view.status.value
    if view.tenant == DEFAULT_TENANT:
        del found["tenant"]
    if view.failure is not None:
        found["failure"] = list(view.failure)
    if view.progress is not None:
        found["progress"] = progress_to_map(view.progress)
    return found


def map_to_view(found: Mapping[str, object]) -> JobView:
    """Read a view back; unknown keys are ignored.

    Raises:
        ProtocolError: a key is missing or has the wrong type; it is named.
    """
    values = _typed_values(found, _REQUIRED, _OPTIONAL, "job")
    for name in ("id", "replay_of", "replayed_by"):
        _check_id(name, values[name], required=name == "id")
    values["status"] = _status(values["status"])
    values["tenant"] = values["tenant"] or DEFAULT_TENANT
    values["failure"] = _failure(values["failure"])
    values["progress"] = map_to_progress(values["progress"])
    return JobView(**values)  # type: ignore[arg-type]  # every type has just been checked


def progress_to_map(progress: ProgressView) -> dict[str, object]:
    """Its fields by name."""
    return {name: value for name, value in progress._asdict().items() if value is not None}


def map_to_progress(found: object) -> ProgressView | None:
    """Read progress back; unknown keys are ignored.

    Raises:
        ProtocolError: a key is missing or has the wrong type; it is named.
    """
    if found is None:
        return None
    if not isinstance(found, dict):
        raise _wrong("progress", "a map")
    values = _typed_values(found, _PROGRESS, _PROGRESS_OPTIONAL, "progress")
    return ProgressView(**values)  # type: ignore[arg-type]  # every type has just been checked


def attempt_to_map(view: AttemptView) -> dict[str, object]:
    """The fields of an attempt by name."""
    return {name: value for name, value in view._asdict().items() if value is not None}


def map_to_attempt(found: Mapping[str, object]) -> AttemptView:
    """Read an attempt back; unknown keys are ignored.

    Raises:
        ProtocolError: a key is missing or has the wrong type; it is named.
    """
    values = _typed_values(found, _ATTEMPT, _ATTEMPT_OPTIONAL, "attempt")
    return AttemptView(**values)  # type: ignore[arg-type]  # every type has just been checked


def _typed_values(
    found: Mapping[str, object],
    required: Mapping[str, tuple[type, ...]],
    optional: Mapping[str, tuple[type, ...]],
    what: str,
) -> dict[str, object]:
    values: dict[str, object] = {}
    for name, types in (*required.items(), *optional.items()):
        value = values[name] = found.get(name)
        if value is None and name not in required:
            continue
        if type(value) not in types:
            raise _wrong(name, types[0].__name__, what)
        if isinstance(value, int | float):
            _check_number(name, value, types, what)
    return values


def _check_number(name: str, value: float, types: tuple[type, ...], what: str) -> None:
    """Refuse what would fail only where it is shown, such as a moment in no calendar."""
    if name in _NUMBERS:
        least, most = _NUMBERS[name]
    else:
        least, most = (-MAX_SECONDS, MAX_SECONDS) if float in types else (0, MAX_U64)
    if not least <= value <= most:  # so NaN is refused, too
        raise _wrong(name, f"a number from {least:g} to {most:g}", what)


def _check_id(name: str, value: object, *, required: bool) -> None:
    if value is None and not required:
        return
    if not isinstance(value, bytes) or len(value) != ID_BYTES:
        raise _wrong(name, "16 bytes")


def _status(value: object) -> TaskStatus:
    try:
        return TaskStatus(str(value))
    except ValueError:
        raise _wrong("status", "a word of TaskStatus") from None


def _failure(value: object) -> Failure | None:
    if value is None:
        return None
    if not isinstance(value, list) or set(map(type, value)) != {str}:
        raise _wrong("failure", "four texts")
    if len(value) != len(Failure._fields):
        raise _wrong("failure", "four texts")
    return Failure(*value)


def _wrong(name: str, expected: str, what: str = "job") -> ProtocolError:
    return ProtocolError(f"{what} view, key {name}: expected {expected}")
