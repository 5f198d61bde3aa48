"""Which member of a union a value belongs to.

A model that fits wins over plain data, plain data over what is made of text. A value that fits two
models alike fits none: to choose would be to guess, and it may have been the other.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias, get_origin, is_typeddict

from fastworker.tasks.misfits import Misfit, article, kind_name
from fastworker.tasks.scalars import scalar_of

Converter: TypeAlias = Callable[[Any], Any]


class Member(NamedTuple):
    """One member of a union, and what makes it of plain data."""

    annotation: Any
    convert: Converter | None


def union_of(members: Sequence[Member]) -> Converter | None:
    """The converter of a union; None if all of its members are plain."""
    if all(one.convert is None for one in members):
        return None
    others = [one for one in members if one.annotation not in (None, type(None))]
    nullable = len(others) < len(members)
    first = others[0].convert
    if len(others) == 1 and first is not None:
        return partial(_optional, first)
    return _Union(others, nullable=nullable)


def optional(convert: Converter) -> Converter:
    """The same, and None is None."""
    return partial(_optional, convert)


def _optional(convert: Converter, value: Any) -> Any:
    return None if value is None else convert(value)


class _Union:
    def __init__(self, members: Sequence[Member], *, nullable: bool) -> None:
        self._nullable = nullable
        self._plain = tuple(
            plain for one in members if one.convert is None for plain in _classes(one.annotation)
        )
        converting = [one for one in members if one.convert is not None]
        self._live = tuple(
            one.annotation
            for one in converting
            if isinstance(one.annotation, type) and not is_typeddict(one.annotation)
        )
        self._models = [one for one in converting if not _is_scalar(one.annotation)]
        self._scalars = [one for one in converting if _is_scalar(one.annotation)]
        self._names = ", ".join(inspect.formatannotation(one.annotation) for one in members)

    def __call__(self, value: Any) -> Any:
        if value is None and self._nullable:
            return None
        if isinstance(value, self._live):
            return value
        is_plain = isinstance(value, self._plain)
        fits, misfits = _fits(self._models, value)
        exact = [(one, made) for one, made in fits if _is_exact(one, value)]
        if exact or is_plain:
            fits = exact
        if len(fits) == 1 or (fits and not value):
            return fits[0][1]
        if fits:
            both = " and ".join(inspect.formatannotation(one.annotation) for one, _ in fits)
            raise Misfit(f"fits {both} alike; give them a Literal field that tells them apart")
        if is_plain:
            return value
        made_of_text, _ = _fits(self._scalars, value)
        if made_of_text:
            return made_of_text[0][1]
        if len(misfits) == 1 and isinstance(value, dict):
            raise misfits[0]
        what = article(kind_name(type(value)))
        why = "; ".join(f"'{one.path}' {one.reason}" for one in misfits if one.path)
        raise Misfit(f"is {what} that fits none of {self._names}" + (why and f": {why}"))


def _fits(members: Sequence[Member], value: Any) -> tuple[list[tuple[Member, Any]], list[Misfit]]:
    fits: list[tuple[Member, Any]] = []
    misfits: list[Misfit] = []
    for one in members:
        assert one.convert is not None
        try:
            fits.append((one, one.convert(value)))
        except Misfit as misfit:
            misfits.append(misfit)
    return fits, misfits


def _is_exact(member: Member, value: Any) -> bool:
    is_exact: Callable[[Any], bool] | None = getattr(member.convert, "is_exact", None)
    return is_exact is None or is_exact(value)


def _is_scalar(annotation: Any) -> bool:
    return isinstance(annotation, type) and scalar_of(annotation) is not None


def _classes(annotation: Any) -> tuple[type, ...]:
    """The classes whose instances a plain annotation takes."""
    kind = get_origin(annotation) or annotation
    if kind is float:
        return float, int
    return (kind,) if isinstance(kind, type) else (object,)
