"""Which member of a union a value belongs to.

A model that fits wins over plain data, plain data over what is made of text. A value that fits two
models alike fits none: to choose would be to guess, and it may have been the other.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias, get_origin, is_typeddict

from fastworker.tasks.misfits import Misfit, article, kind_name
from fastworker.tasks.scalars import scalar_of

Converter: TypeAlias = Callable[[Any], Any]

MAX_TRIES: Final = 1_000_000
"""Members tried for one value, with all unions inside it. Unions of unions that nothing but the
innermost value tells apart take twice as many with each level: a second of work is enough."""


class Undecided(Misfit):
    """It cannot be known which member a value is: so the unions around this one cannot, either."""


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
        return optional(first)
    return _Union(others, nullable=nullable)


def optional(convert: Converter) -> Converter:
    """The same, and None is None."""
    return partial(_optional, convert)


def _optional(convert: Converter, value: Any) -> Any:
    return None if value is None else convert(value)


class _Tries(threading.local):
    """Counted from the outermost union that is being tried in this thread."""

    depth: int = 0
    left: int = 0


_tries: Final = _Tries()


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
        fits, misfits = _fits(self._candidates(value, is_plain=is_plain), value)
        if len(fits) == 1 or (fits and not value):
            return fits[0][1]
        if fits:
            both = " and ".join(inspect.formatannotation(one.annotation) for one, _ in fits)
            raise Undecided(f"fits {both} alike; give them a Literal field that tells them apart")
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

    def _candidates(self, value: Any, *, is_plain: bool) -> Sequence[Member]:
        """The models that may be meant: those whose fields are just these, if there are any."""
        found = [(one, _is_exact(one, value)) for one in self._models]
        if is_plain or any(exact for _, exact in found):
            return [one for one, exact in found if exact is not False]
        return self._models


def _fits(members: Sequence[Member], value: Any) -> tuple[list[tuple[Member, Any]], list[Misfit]]:
    fits: list[tuple[Member, Any]] = []
    misfits: list[Misfit] = []
    if _tries.depth == 0:
        _tries.left = MAX_TRIES
    _tries.depth += 1
    try:
        for one in members:
            _tries.left -= 1
            if _tries.left < 0:
                raise Undecided("has unions in unions that only the innermost values tell apart")
            try:
                fits.append((one, one.convert(value)))  # type: ignore[misc]
            except Undecided:
                raise
            except Misfit as misfit:
                misfits.append(misfit)
    finally:
        _tries.depth -= 1
    return fits, misfits


def _is_exact(member: Member, value: Any) -> bool | None:
    """Whether a value has all fields of a model and no more; None: the member has no fields."""
    is_exact: Callable[[Any], bool] | None = getattr(member.convert, "is_exact", None)
    return None if is_exact is None else is_exact(value)


def _is_scalar(annotation: Any) -> bool:
    return isinstance(annotation, type) and scalar_of(annotation) is not None


def _classes(annotation: Any) -> tuple[type, ...]:
    """The classes whose instances a plain annotation takes."""
    kind = get_origin(annotation) or annotation
    if kind is float:
        return float, int
    return (kind,) if isinstance(kind, type) else (object,)
