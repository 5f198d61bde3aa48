"""Lifespan hooks: what a runner opens before its first job and closes after its last.

A hook is a function that yields once. What it yields is its ``value``, for the tasks that need it.
Runners enter and leave the hooks; here they are only described and remembered.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
)
from typing import Any, Final, Generic, TypeAlias, TypeVar, get_args, overload

from fastworker.errors import CallerError, InvalidOption
from fastworker.tasks.definitions import Runtime

T = TypeVar("T")

Opening: TypeAlias = (
    AsyncIterator[T] | Iterator[T] | AbstractAsyncContextManager[T] | AbstractContextManager[T]
)
"""What the function of a hook returns: it yields once."""


class Lifespan(Generic[T]):
    """Something every runner opens once: made by `lifespan`.

    Args:
        function: gives a context manager, one for each runner.
        runtime: where an async one is entered; None: the worker's default.
    """

    def __init__(self, function: Callable[[], Opening[T]], *, runtime: Runtime | None) -> None:
        yields: Any = inspect.unwrap(function)
        self.is_async: bool = inspect.isasyncgenfunction(yields)
        if not self.is_async and not inspect.isgeneratorfunction(yields):
            raise CallerError(
                f"lifespan {getattr(function, '__name__', function)!r:.80} does not yield; write "
                "a function (async def or def) that yields once, as for a context manager"
            )
        self.name: str = yields.__name__
        self.module: str = yields.__module__
        self.qualname: str = yields.__qualname__
        self.runtime: Runtime | None = runtime
        is_bare = inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function)
        self._new: Callable[[], Any] = function
        if is_bare:
            self._new = (asynccontextmanager if self.is_async else contextmanager)(yields)
        self._values: list[T] = []
        if runtime is not None and runtime not in get_args(Runtime):
            raise InvalidOption(
                f"runtime of lifespan {self.name!r} is 'asyncio' or 'trio', not {runtime!r:.40}"
            )
        if runtime is not None and not self.is_async:
            raise InvalidOption(
                f"lifespan {self.name!r} is a plain def; runtime is for async def only"
            )

    @property
    def value(self) -> T:
        """What the hook has yielded in this process.

        Raises:
            CallerError: it is not open: this is no runner, or it is just being opened.
        """
        if not self._values:
            raise CallerError(
                f"lifespan {self.name!r} of {self.module} is not open here; runners open it "
                "before their first job"
            )
        return self._values[0]

    def open(self) -> Any:
        """A new context manager, async if `is_async`."""
        return self._new()

    def opened(self, value: T) -> None:
        """Here is what it has yielded. In a test several runners share a process: the oldest
        value counts."""
        self._values.append(value)

    def closing(self, value: T) -> None:
        """It is about to be left, and its value no longer good."""
        for position, held in enumerate(self._values):
            if held is value:
                del self._values[position]
                return


class LifespanRegistry:
    """Hooks in the order in which they were declared."""

    def __init__(self) -> None:
        self._hooks: dict[tuple[str, str], Lifespan[Any]] = {}

    def register(self, hook: Lifespan[Any]) -> None:
        """Add a hook; the same function again replaces the older one."""
        self._hooks[hook.module, hook.qualname] = hook

    def of(self, runtime: Runtime, *, default: Runtime) -> list[Lifespan[Any]]:
        """Those to enter in a loop of this runtime; that of the default one enters plain ``def``
        hooks, too."""
        return [
            hook
            for hook in self._hooks.values()
            if (hook.runtime or default if hook.is_async else default) == runtime
        ]

    def __bool__(self) -> bool:
        return bool(self._hooks)


lifespans: Final = LifespanRegistry()
"""The hooks of this process."""


@overload
def lifespan(function: Callable[[], Opening[T]], /) -> Lifespan[T]: ...
@overload
def lifespan(
    *, runtime: Runtime | None = None
) -> Callable[[Callable[[], Opening[T]]], Lifespan[T]]: ...
def lifespan(
    function: Callable[[], Opening[Any]] | None = None,
    /,
    *,
    runtime: Runtime | None = None,
) -> Any:
    """Have every runner open something once: ``@lifespan`` on a function that yields.

    The function is entered after the task modules are imported and before the runner takes jobs,
    in the order of declaration, and left, last opened first, when the runner has ended its last
    job and stops. `Lifespan.value` is what it yields::

        @lifespan
        async def database() -> AsyncIterator[Pool]:
            async with open_pool() as pool:
                yield pool

        @task
        async def count() -> int:
            return await database.value.fetch("select count(*) from users")

    An ``async def`` is entered in the worker's runtime, a plain ``def`` in the main thread. If it
    raises, the runner cannot run; if it does not end within 10 seconds, its process is ended.

    Args:
        runtime: ``"asyncio"`` or ``"trio"``, for an ``async def``, if it is to be entered where
            tasks with the same ``runtime`` run.

    Raises:
        CallerError: a function that does not yield.
        InvalidOption: a runtime that there is not, or one for a plain ``def``.
    """

    def decorate(function: Callable[[], Opening[Any]]) -> Lifespan[Any]:
        hook = Lifespan(function, runtime=runtime)
        lifespans.register(hook)
        return hook

    return decorate if function is None else decorate(function)
