"""What arguments a task takes: a stable text for people and comparison, and a quick check.

The text is enough to check calls of a task whose function is elsewhere.
"""

from __future__ import annotations

import ast
import enum
import functools
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from fastworker.errors import ArgumentError

if TYPE_CHECKING:
    from fastworker.tasks.definitions import TaskDefinition

_MAX_DEFAULT_CHARACTERS: Final = 40
_MAX_TEXT_CHARACTERS: Final = 1_000
"""Sent by every subworker for every task: enough to read, bounded to carry."""

_MAX_PARSED: Final = 1_024
"""Signatures of other processes that are kept parsed: more tasks than anybody offers."""

_STABLE_DEFAULTS: Final = (type(None), bool, int, float, str, bytes)


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters of one function.

    Args:
        positional: names of those that may be given by position, in order.
        required: how many of ``positional`` have no default.
        most: so many arguments may be given by position.
        only_positional_calls: any call by position alone, of a fitting length, is right.
    """

    text: str
    names: tuple[str, ...]
    positional: tuple[str, ...]
    required: int
    most: int
    only_positional_calls: bool
    inspected: inspect.Signature

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Parameters:
        """Inspect a function."""
        inspected = inspect.signature(function)
        return cls.of_signature(inspected, text=signature_text(inspected))

    @classmethod
    def of_signature(cls, inspected: inspect.Signature, *, text: str) -> Parameters:
        """Those of a signature; ``text`` is what to show of it."""
        kinds = inspect.Parameter
        positional = [
            parameter
            for parameter in inspected.parameters.values()
            if parameter.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)
        ]
        return cls(
            text=text,
            names=tuple(inspected.parameters),
            positional=tuple(parameter.name for parameter in positional),
            required=sum(parameter.default is parameter.empty for parameter in positional),
            most=sys.maxsize
            if any(one.kind is kinds.VAR_POSITIONAL for one in inspected.parameters.values())
            else len(positional),
            only_positional_calls=not any(
                parameter.kind is kinds.KEYWORD_ONLY and parameter.default is parameter.empty
                for parameter in inspected.parameters.values()
            ),
            inspected=inspected,
        )


def bind_arguments(
    definition: TaskDefinition, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> None:
    """Check that a call fits the task's signature.

    Raises:
        ArgumentError: it does not; the message shows the signature.
    """
    check_arguments(definition.name, definition.parameters, args, kwargs)


def check_arguments(
    task: str, parameters: Parameters, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> None:
    """Check that a call fits these parameters of the task of this name.

    Raises:
        ArgumentError: it does not; the message shows the signature.
    """
    if (
        not kwargs
        and parameters.only_positional_calls
        and parameters.required <= len(args) <= parameters.most
    ):
        return
    try:
        parameters.inspected.bind(*args, **kwargs)
    except TypeError as error:
        raise ArgumentError(f"task {task}{parameters.text} cannot be called so: {error}") from None


@functools.lru_cache(maxsize=_MAX_PARSED)
def parameters_of_text(text: str) -> Parameters | None:
    """The parameters that a text such as ``(x: int, y: int = 3) -> int`` describes.

    It is parsed and never evaluated: names, kinds and which have a default are all that counts.

    Returns:
        None if it cannot be read: cut off, or with something in it that is no Python.
    """
    if len(text) > _MAX_TEXT_CHARACTERS:
        return None
    try:
        module = ast.parse(f"def task{text}: ...")
        match module.body:
            case [ast.FunctionDef(args=described)]:
                inspected = inspect.Signature(list(_described_parameters(described)))
                return Parameters.of_signature(inspected, text=text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pass  # what the parser raises for text that is wrong, or nested too deeply
    return None


def _described_parameters(described: ast.arguments) -> Iterator[inspect.Parameter]:
    kinds = inspect.Parameter
    positional = (*described.posonlyargs, *described.args)
    required = len(positional) - len(described.defaults)
    for index, one in enumerate(positional):
        only = index < len(described.posonlyargs)
        yield kinds(
            one.arg,
            kinds.POSITIONAL_ONLY if only else kinds.POSITIONAL_OR_KEYWORD,
            default=kinds.empty if index < required else ...,
        )
    if described.vararg is not None:
        yield kinds(described.vararg.arg, kinds.VAR_POSITIONAL)
    for one, default in zip(described.kwonlyargs, described.kw_defaults, strict=True):
        yield kinds(one.arg, kinds.KEYWORD_ONLY, default=kinds.empty if default is None else ...)
    if described.kwarg is not None:
        yield kinds(described.kwarg.arg, kinds.VAR_KEYWORD)


def signature_text(signature: inspect.Signature) -> str:
    """A signature as text that is the same in every process: no addresses, nothing endless."""
    parameters = [
        parameter.replace(default=_Shown(_default_text(parameter.default)))
        if parameter.default is not parameter.empty
        else parameter
        for parameter in signature.parameters.values()
    ]
    text = str(signature.replace(parameters=parameters))
    if len(text) > _MAX_TEXT_CHARACTERS:
        return text[: _MAX_TEXT_CHARACTERS - 1] + "…"
    return text


class _Shown:
    """Stands for a default value and looks like its text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _default_text(default: object) -> str:
    if isinstance(default, enum.Enum):
        return f"{type(default).__name__}.{default.name}"
    if default == () and type(default) is tuple:
        return "()"
    if type(default) not in _STABLE_DEFAULTS:
        return "..."
    text = repr(default) if not _is_long_number(default) else "..."
    return text if len(text) <= _MAX_DEFAULT_CHARACTERS else "..."


def _is_long_number(default: object) -> bool:
    return isinstance(default, int) and default.bit_length() > 4 * _MAX_DEFAULT_CHARACTERS
