"""A `JobView` as the map that travels in `Fetched` and `Report`: None is left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fastworker.core.ids import ID_BYTES
from fastworker.core.records import Failure, JobView, TaskStatus
from fastworker.errors import ProtocolError

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
}


def view_to_map(view: JobView) -> dict[str, object]:
    """The fields of a view by name; the status as its word, the failure as a list of four."""
    found = {name: value for name, value in view._asdict().items() if value is not None}
    found["status"] = view.status.value
    if view.failure is not None:
        found["failure"] = list(view.failure)
    return found


def map_to_view(found: Mapping[str, object]) -> JobView:
    """Read a view back; unknown keys are ignored.

    Raises:
        ProtocolError: a key is missing or has the wrong type; it is named.
    """
    values: dict[str, object] = {}
    for name, types in _REQUIRED.items():
        values[name] = _typed(name, found.get(name), types)
    for name, types in _OPTIONAL.items():
        value = found.get(name)
        values[name] = None if value is None else _typed(name, value, types)
    _check_id(values["id"])
    values["status"] = _status(values["status"])
    values["failure"] = _failure(values["failure"])
    return JobView(**values)  # type: ignore[arg-type]  # every type has just been checked


def _check_id(value: object) -> None:
    if not isinstance(value, bytes) or len(value) != ID_BYTES:
        raise _wrong("id", "16 bytes")


def _typed(name: str, value: object, types: tuple[type, ...]) -> object:
    if type(value) not in types:
        raise _wrong(name, types[0].__name__)
    return value


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


def _wrong(name: str, expected: str) -> ProtocolError:
    return ProtocolError(f"job view, key {name}: expected {expected}")
