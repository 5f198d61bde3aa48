"""Reads the annotations of functions and classes; what cannot be resolved stays text."""

from __future__ import annotations

import inspect
import logging
import sys
import types
import typing
from typing import Any

from fastworker.tasks.misfits import raised

_log = logging.getLogger("fastworker.tasks")


def hints_of(thing: Any) -> dict[str, Any]:
    """The annotations of a function or class, resolved; text where that is not possible."""
    try:
        return typing.get_type_hints(thing, include_extras=True)
    except Exception as error:  # annotations are user code
        name = getattr(thing, "__qualname__", thing)
        _log.debug("annotations of %s are resolved one by one: %s", name, raised(error))
    return {name: _resolved(thing, one) for name, one in _written(thing).items()}


def inherited_scope(kind: type) -> dict[Any, Any]:
    """What the type variables of generic bases stand for: in ``class Prices(Box[Decimal])``."""
    found: dict[Any, Any] = {}
    for part in kind.__mro__:
        for base in part.__dict__.get("__orig_bases__", ()):
            variables = getattr(typing.get_origin(base), "__parameters__", ())
            for variable, value in zip(variables, typing.get_args(base), strict=False):
                found.setdefault(variable, found.get(value, value))
    return {variable: value for variable, value in found.items() if value is not variable}


def _written(thing: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in reversed(thing.__mro__) if isinstance(thing, type) else (thing,):
        found |= inspect.get_annotations(part)
    return found


def _resolved(thing: Any, annotation: Any) -> Any:
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    names = getattr(inspect.unwrap(thing), "__globals__", None)
    if names is None:
        names = vars(sys.modules.get(thing.__module__, types.SimpleNamespace()))
    try:
        return typing.get_type_hints(holder, names, include_extras=True)["it"]
    except Exception:  # annotations are user code
        return annotation
