"""Every public coroutine, found by looking: what can be awaited, iterated or entered.

Public are the exported names of the modules below, and the classes that their functions return.
Found are ``async def`` methods and functions, async generators, `asynccontextmanager`s, and plain
functions that return something to wait for.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any

MODULES = {
    "fastworker": None,
    "fastworker.testing": None,
    "fastworker.integrations.fastapi": None,
    "fastworker.server.control_plane": ["run_control_plane"],
    "fastworker.worker.subworker": ["run_subworker"],
    "fastworker.transport.link": ["Link"],
    "fastworker.store.thread": ["StoreThread", "open_store_thread"],
}
"""Where to look; None: all that the module exports."""

SPECIAL = ("__aenter__", "__aexit__", "__aiter__", "__anext__", "__await__", "__call__")

WAITED_FOR = re.compile(r"\b(Async\w+|Awaitable|Coroutine|AbstractAsyncContextManager)\b")


def public_coroutines() -> set[str]:
    """Their names: ``Client.submit``, ``client.BoundOptions.delay``, ``open_cluster``."""
    found: set[str] = set()
    classes: list[type] = []
    for path, chosen in MODULES.items():
        module = importlib.import_module(path)
        for name in module.__all__ if chosen is None else chosen:
            value = getattr(module, name)
            if isinstance(value, type):
                classes.append(value)
            elif callable(value) and _is_coroutine(value):
                found.add(name)
    seen: set[type] = set()
    while classes:
        one = classes.pop()
        if one in seen:
            continue
        seen.add(one)
        for name, method in _public_methods(one):
            classes += _returned_classes(one, method)
            if _is_coroutine(method):
                found.add(f"{_name_of(one)}.{name}")
    return found


def _public_methods(one: type) -> Iterator[tuple[str, Any]]:
    for name in dir(one):
        method = inspect.getattr_static(one, name)
        if isinstance(method, staticmethod | classmethod):
            method = method.__func__
        if inspect.isfunction(method) and (not name.startswith("_") or name in SPECIAL):
            yield name, method


def _is_coroutine(function: Any) -> bool:
    plain = inspect.unwrap(function)
    if inspect.iscoroutinefunction(plain) or inspect.isasyncgenfunction(plain):
        return True
    returned = str(getattr(plain, "__annotations__", {}).get("return", ""))
    return function.__name__ == "__await__" or bool(WAITED_FOR.search(returned))


def _returned_classes(owner: type, method: Any) -> Iterator[type]:
    """Classes of ours that the annotation of what it returns names."""
    import fastworker

    plain = inspect.unwrap(method)
    for name in re.findall(r"\w+", str(plain.__annotations__.get("return", ""))):
        value = plain.__globals__.get(name)
        if value is None and name in fastworker.__all__:
            value = getattr(fastworker, name)
        if isinstance(value, type) and value.__module__.startswith("fastworker."):
            yield value


def _name_of(one: type) -> str:
    import fastworker

    name, module = str(one.__name__), str(one.__module__)
    if getattr(fastworker, name, None) is one:
        return name
    return f"{module.split('.')[1]}.{name}"
