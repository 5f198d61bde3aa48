"""What arguments a task takes: a stable text for people and comparison, and a quick check."""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from fastworker.errors import ArgumentError

if TYPE_CHECKING:
    from fastworker.tasks.definitions import TaskDefinition

_MAX_DEFAULT_CHARACTERS: Final = 40
_MAX_TEXT_CHARACTERS: Final = 1_000
"""Sent by every subworker for every task: enough to read, bounded to carry."""

_STABLE_DEFAULTS: Final = (type(None), bool, int, float, str, bytes)


@dataclass(frozen=True, slots=True)
class Parameters:
    """The parameters of one function.

    Args:
        positional: names of those that may be given by position, in order.
        required: how many of ``positional`` have no default.
        only_positional_calls: any call by position alone, of a fitting length, is right.
    """

    text: str
    names: tuple[str, ...]
    positional: tuple[str, ...]
    required: int
    only_positional_calls: bool
    inspected: inspect.Signature

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Parameters:
        """Inspect a function."""
        inspected = inspect.signature(function)
        kinds = inspect.Parameter
        positional = [
            parameter
            for parameter in inspected.parameters.values()
            if parameter.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)
        ]
        return cls(
            text=signature_text(inspected),
            names=tuple(inspected.parameters),
            positional=tuple(parameter.name for parameter in positional),
            required=sum(parameter.default is parameter.empty for parameter in positional),
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
    parameters = definition.parameters
    if (
        not kwargs
        and parameters.only_positional_calls
        and parameters.required <= len(args) <= len(parameters.positional)
    ):
        return
    try:
        parameters.inspected.bind(*args, **kwargs)
    except TypeError as error:
        raise ArgumentError(
            f"task {definition.name}{parameters.text} cannot be called so: {error}"
        ) from None


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
