"""Context variables that travel with jobs: only those that an application has named.

Both sides name them when they are imported. What is set where a job is submitted is set where it
runs, and so travels on to the jobs that it submits. Without any there is nothing to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Final

from fastworker.core.names import check_name
from fastworker.errors import CallerError, InvalidOption

_propagated: Final[dict[str, ContextVar[Any]]] = {}
_UNSET: Final = object()


def propagate(variable: ContextVar[Any], name: str | None = None) -> None:
    """Have a context variable travel with every job, from whoever submits it to its code.

    Call it where the variable is made, in a module that the application and the workers import::

        request_id: ContextVar[str] = ContextVar("request_id")
        propagate(request_id)

    A variable that is not set does not travel. Values are plain data, as a result that is asked
    for by id; all of one job take at most 8 KiB. A second call with the same variable and name
    does nothing.

    Args:
        name: what both sides call it; the variable's own name if not given.

    Raises:
        InvalidOption: another variable has this name.
        InvalidName: a name that cannot be one.
        CallerError: not a context variable.
    """
    if not isinstance(variable, ContextVar):
        raise CallerError(f"propagate() takes a ContextVar, not a {type(variable).__name__}")
    known = check_name("context variable", variable.name if name is None else name)
    if _propagated.setdefault(known, variable) is not variable:
        raise InvalidOption(
            f"another context variable travels as {known!r}; give this one a name of its own "
            "with propagate(variable, name=…)"
        )


def propagated_values() -> dict[str, Any]:
    """The values that are set here, of the variables that travel."""
    if not _propagated:
        return {}
    return {
        name: value
        for name, variable in _propagated.items()
        if (value := variable.get(_UNSET)) is not _UNSET
    }


def set_propagated(values: Mapping[str, Any]) -> None:
    """Set, in the calling context, those that are known here; others are passed over."""
    for name, value in values.items():
        variable = _propagated.get(name)
        if variable is not None:
            variable.set(value)


def forget_propagated(name: str) -> None:
    """No longer have the variable of this name travel; for tests."""
    _propagated.pop(name, None)
