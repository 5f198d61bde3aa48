"""What a task's annotations make of plain arguments and results. Read once, at the first job.

A task whose annotations are all plain has nothing to do, and pays nothing for it.
"""

from __future__ import annotations

import collections.abc as abc
import inspect
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias, get_args, get_origin

from fastworker.errors import ArgumentError, TaskError
from fastworker.tasks.hints import hints_of
from fastworker.tasks.misfits import Misfit, raised
from fastworker.tasks.rebuilding import Converter, converter_for
from fastworker.tasks.unions import optional

if TYPE_CHECKING:
    from fastworker.tasks.signatures import Parameters

Rebuild: TypeAlias = Callable[[list[Any], dict[str, Any]], None]
"""Replaces arguments by what they are annotated as, in place; raises `ArgumentError`."""

_STREAMS: Final = (
    abc.AsyncIterator,
    abc.AsyncIterable,
    abc.AsyncGenerator,
    abc.Iterator,
    abc.Generator,
)


class TaskModels:
    """The models of one task.

    Attributes:
        arguments: None if there is nothing to rebuild.
        result: of what the function returns; None if there is nothing to rebuild.
        item: of what a generator yields; None if there is nothing to rebuild.
    """

    __slots__ = ("_function", "_parameters", "_task", "arguments", "item", "result")

    def __init__(self, task: str, function: Callable[..., Any], parameters: Parameters) -> None:
        self._task = task
        self._function = function
        self._parameters = parameters
        # Until the first use: annotations may name what is defined later in the module.
        self.arguments: Rebuild | None = self._first_arguments
        self.result: Converter | None = self._first_result
        self.item: Converter | None = self._first_item

    def check(self, args: tuple[Any, ...], kwargs: abc.Mapping[str, Any]) -> None:
        """Check arguments before they are sent.

        Raises:
            ArgumentError: one does not fit its annotation; its path is named.
        """
        if self.arguments is not None:
            self.arguments(list(args), dict(kwargs))

    def rebuilt_result(self, value: Any) -> Any:
        """A result as the function's return annotation says.

        Raises:
            TaskError: it does not fit.
        """
        if self.result is None:
            return value
        return self._rebuilt(self.result, "result", value)

    def rebuilt_item(self, value: Any) -> Any:
        """The same for one of what a generator yields."""
        if self.item is None:
            return value
        return self._rebuilt(self.item, "item", value)

    def _rebuilt(self, convert: Converter, what: str, value: Any) -> Any:
        try:
            return convert(value)
        except Misfit as misfit:
            raise TaskError(
                f"'{what}{misfit.path}' of task {self._task!r} does not fit its annotation: it "
                f"{misfit.reason}; asked for by the task's name it is plain data",
                type_name="ResultMisfit",
            ) from None

    def _first_arguments(self, args: list[Any], kwargs: dict[str, Any]) -> None:
        self._read()
        if self.arguments is not None:
            self.arguments(args, kwargs)

    def _first_result(self, value: Any) -> Any:
        self._read()
        return value if self.result is None else self.result(value)

    def _first_item(self, value: Any) -> Any:
        self._read()
        return value if self.item is None else self.item(value)

    def _read(self) -> None:
        hints = hints_of(self._function)
        returned = hints.get("return")
        if get_origin(returned) in _STREAMS:
            yielded = get_args(returned)[0]
            self.item = converter_for(yielded)
            returned = list[yielded]  # type: ignore[valid-type]  # unless it is streamed
        else:
            self.item = None
        self.result = converter_for(returned)
        self.arguments = _arguments(self._task, self._parameters, hints)


def _arguments(task: str, parameters: Parameters, hints: dict[str, Any]) -> Rebuild | None:
    kinds = inspect.Parameter
    positional: list[tuple[str, Converter | None]] = []
    named: dict[str, Converter] = {}
    rest: tuple[str, Converter | None] = ("", None)
    others: Converter | None = None
    for parameter in parameters.inspected.parameters.values():
        convert = converter_for(hints.get(parameter.name))
        if convert is not None and parameter.default is None:
            convert = optional(convert)
        if parameter.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD):
            positional.append((parameter.name, convert))
        if parameter.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY) and convert:
            named[parameter.name] = convert
        if parameter.kind is kinds.VAR_POSITIONAL:
            rest = (parameter.name, convert)
        if parameter.kind is kinds.VAR_KEYWORD:
            others = convert
    if rest[1] is None and others is None and not named and not any(c for _, c in positional):
        return None
    return partial(_rebuild, _Plan(task, tuple(positional), rest, named, others))


class _Plan:
    __slots__ = ("named", "others", "positional", "rest", "task")

    def __init__(
        self,
        task: str,
        positional: tuple[tuple[str, Converter | None], ...],
        rest: tuple[str, Converter | None],
        named: dict[str, Converter],
        others: Converter | None,
    ) -> None:
        self.task = task
        self.positional = positional
        self.rest = rest
        self.named = named
        self.others = others


def _rebuild(plan: _Plan, args: list[Any], kwargs: dict[str, Any]) -> None:
    name = ""
    try:
        for index, value in enumerate(args):
            if index < len(plan.positional):
                name, convert = plan.positional[index]
            else:
                name, convert = f"{plan.rest[0]}[{index - len(plan.positional)}]", plan.rest[1]
            if convert is not None:
                args[index] = convert(value)
        for name, value in kwargs.items():
            convert = plan.named.get(name, plan.others)
            if convert is not None:
                kwargs[name] = convert(value)
    except Misfit as misfit:
        raise ArgumentError(
            f"argument '{name}{misfit.path}' of task {plan.task!r} {misfit.reason}"
        ) from None
    except Exception as error:  # looking into a user's object may run user code
        raise ArgumentError(
            f"argument {name!r} of task {plan.task!r} cannot be looked into: {raised(error)}"
        ) from error
