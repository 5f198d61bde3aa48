"""From an annotation to what turns plain data into it, or None where plain data is what it says.

Only the receiver's own annotations decide: nothing is looked up by a name that has travelled. What
is not listed here, such as a class of no known kind, is left as it arrives. Values of the right
class pass as they are, so the same converters check arguments before they are sent.

Classes with fields are in `records`, the values of the standard library in `scalars`.
"""

from __future__ import annotations

import collections.abc as abc
import enum
import logging
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar, Union, get_args, get_origin

from fastworker.tasks.hints import hints_of, inherited_scope
from fastworker.tasks.misfits import Misfit, article, kind_name, raised, refuse, step_to
from fastworker.tasks.records import record_of
from fastworker.tasks.scalars import PLAIN, scalar_of
from fastworker.tasks.unions import Member, union_of

_log = logging.getLogger("fastworker.tasks")

Converter: TypeAlias = Callable[[Any], Any]
"""Raises `Misfit`; may return what it is given."""

Scope: TypeAlias = Mapping[Any, Any]
"""What type variables stand for, inside a generic class."""

_WRAPPERS: Final = frozenset({"Required", "NotRequired", "ReadOnly", "Final", "ClassVar"})
_LISTS: Final = (list, abc.Sequence, abc.MutableSequence)
_ANY_ORDER: Final = (abc.Iterable, abc.Collection)
_SETS: Final = (set, frozenset, abc.Set, abc.MutableSet)
_MAPS: Final = (dict, abc.Mapping, abc.MutableMapping)
_ARRAYS: Final = (list, tuple)
_GROUPS: Final = (list, tuple, set, frozenset)


def converter_for(annotation: Any) -> Converter | None:
    """What turns plain data into values of this annotation; None: nothing has to be done."""
    try:
        return _Building().of(annotation, {})
    except Exception as error:  # annotations may be anything, and so may their classes
        _log.debug("values annotated %r are left as they are: %s", annotation, raised(error))
        return None


class _Building:
    """One annotation being read; remembers what it is inside of, for types that name themselves."""

    def __init__(self) -> None:
        self._open: dict[Any, Callable[[Any], Any] | None] = {}

    def of(self, annotation: Any, scope: Scope) -> Converter | None:
        if annotation is Any or annotation is None:
            return None
        if isinstance(annotation, TypeVar):
            return self._of_type_variable(annotation, scope)
        if isinstance(annotation, str | typing.ForwardRef):
            _log.debug(
                "annotation %r cannot be resolved; its values are left as they are", annotation
            )
            return None
        if isinstance(annotation, typing.NewType):
            return self.of(annotation.__supertype__, scope)
        if hasattr(annotation, "__value__"):  # `type X = …` of Python 3.12
            return self._of_named(annotation, lambda: self.of(annotation.__value__, scope))
        origin = get_origin(annotation)
        if origin is None:
            return self._of_class(annotation, scope) if isinstance(annotation, type) else None
        return self._of_generic(origin, get_args(annotation), scope)

    def _of_type_variable(self, variable: TypeVar, scope: Scope) -> Converter | None:
        if variable in scope:
            return self.of(scope[variable], {})
        return self.of(variable.__bound__, {})

    def _of_generic(self, origin: Any, args: tuple[Any, ...], scope: Scope) -> Converter | None:
        if origin is Annotated or getattr(origin, "_name", None) in _WRAPPERS:
            return self.of(args[0], scope)
        if origin is Union or origin is types.UnionType:
            return self._of_union(args, scope)
        if origin is Literal:
            return partial(_literal, {_plain_of(value): value for value in args})
        if origin in _LISTS or origin in _ANY_ORDER:
            return _of_list(origin, self.of(args[0], scope))
        if origin is tuple:
            return self._of_tuple(args, scope)
        if origin in _SETS:
            kind = frozenset if origin is frozenset else set
            return partial(_set, kind, self.of(args[0], scope))
        if origin in _MAPS:
            return _of_map(self.of(args[0], scope), self.of(args[1], scope))
        if isinstance(origin, type):
            parameters = getattr(origin, "__parameters__", ())
            values = (scope.get(one, one) if isinstance(one, TypeVar) else one for one in args)
            return self._of_class(origin, dict(zip(parameters, values, strict=False)))
        return None

    def _of_tuple(self, args: tuple[Any, ...], scope: Scope) -> Converter | None:
        if len(args) == 2 and args[1] is Ellipsis:
            return partial(_tuple_of_any_length, self.of(args[0], scope))
        if any(get_origin(one) is typing.Unpack for one in args):
            return None
        return partial(_tuple, tuple(self.of(one, scope) for one in args))

    def _of_union(self, args: tuple[Any, ...], scope: Scope) -> Converter | None:
        return union_of([Member(one, self.of(one, scope)) for one in args])

    def _of_class(self, kind: type, scope: Scope) -> Converter | None:
        if kind in PLAIN:
            return None
        if kind is tuple:
            return partial(_tuple_of_any_length, None)
        if kind is set or kind is frozenset:
            return partial(_set, kind, None)
        scalar = scalar_of(kind)
        if scalar is not None:
            return scalar
        if issubclass(kind, enum.Enum):
            return partial(_member, kind)
        if typing.is_typeddict(kind):
            return self._of_named(kind, lambda: self._of_typed_dict(kind, scope))
        within = {**inherited_scope(kind), **scope}
        return record_of(kind, lambda annotation: _Building().of(annotation, within))

    def _of_typed_dict(self, kind: type, scope: Scope) -> Converter | None:
        found = {key: self.of(one, scope) for key, one in hints_of(kind).items()}
        converters = {key: one for key, one in found.items() if one is not None}
        return partial(_typed_dict, kind, converters) if converters else None

    def _of_named(self, named: Any, build: Callable[[], Converter | None]) -> Converter | None:
        """A type that may name itself: first as if that were plain; if it is not all plain,
        again with a reference to itself."""
        if named in self._open:
            return self._open[named]
        self._open[named] = None
        try:
            if build() is None:
                return None
            whole: list[Converter | None] = [None]
            self._open[named] = lambda value: _call(whole[0], value)
            whole[0] = build()
            return whole[0]
        finally:
            del self._open[named]


def _call(convert: Converter | None, value: Any) -> Any:
    return value if convert is None else convert(value)


def _of_list(origin: Any, inner: Converter | None) -> Converter | None:
    if inner is None:
        return None
    if origin is list or origin is abc.MutableSequence:
        return partial(_list, inner)
    return partial(_group, _ARRAYS if origin in _LISTS else _GROUPS, inner)


def _of_map(keys: Converter | None, items: Converter | None) -> Converter | None:
    return None if keys is None and items is None else partial(_map, keys, items)


def _each(inner: Converter, values: Iterable[Any]) -> list[Any]:
    made: list[Any] = []
    try:
        for value in values:
            made.append(inner(value))
    except Misfit as misfit:
        raise misfit.inside(f"[{len(made)}]") from None
    return made


def _list(inner: Converter, value: Any) -> Any:
    if not isinstance(value, _ARRAYS):
        refuse(value, "a list")
    return _each(inner, value)


def _group(kinds: tuple[type, ...], inner: Converter, value: Any) -> Any:
    kind: Any
    for kind in kinds:
        if isinstance(value, kind):
            return kind(_each(inner, value))
    refuse(value, "a list")


def _tuple_of_any_length(inner: Converter | None, value: Any) -> Any:
    if not isinstance(value, _ARRAYS):
        refuse(value, "a tuple")
    if inner is None:
        return value if isinstance(value, tuple) else tuple(value)
    return tuple(_each(inner, value))


def _tuple(inner: tuple[Converter | None, ...], value: Any) -> Any:
    if not isinstance(value, _ARRAYS):
        refuse(value, "a tuple")
    if len(value) != len(inner):
        raise Misfit(f"has {len(value)} elements; expected {len(inner)}")
    return tuple(in_order(inner, value))


def in_order(inner: Iterable[Converter | None], values: Iterable[Any]) -> list[Any]:
    """Each value by its own converter."""
    made: list[Any] = []
    try:
        for convert, value in zip(inner, values, strict=False):
            made.append(value if convert is None else convert(value))
    except Misfit as misfit:
        raise misfit.inside(f"[{len(made)}]") from None
    return made


def _set(kind: type, inner: Converter | None, value: Any) -> Any:
    if inner is None and isinstance(value, kind):
        return value
    if not isinstance(value, _GROUPS):
        refuse(value, article(kind.__name__))
    try:
        return kind(value if inner is None else _each(inner, value))
    except TypeError as error:
        raise Misfit(f"cannot be a {kind.__name__}: {raised(error)}") from None


def _map(keys: Converter | None, items: Converter | None, value: Any) -> Any:
    if not isinstance(value, dict):
        refuse(value, "a dict")
    made: dict[Any, Any] = {}
    for key, item in value.items():
        try:
            made_key = key if keys is None else keys(key)
        except Misfit as misfit:
            raise misfit.inside("(key)") from None
        try:
            made[made_key] = item if items is None else items(item)
        except Misfit as misfit:
            raise misfit.inside(step_to(key)) from None
        except TypeError as error:
            raise Misfit(f"cannot be a key: {raised(error)}", "(key)") from None
    return made


def _typed_dict(kind: type, converters: Mapping[str, Converter], value: Any) -> Any:
    if not isinstance(value, dict):
        refuse(value, f"a dict of {kind_name(kind)}")
    made = dict(value)
    for key, convert in converters.items():
        if key in made:
            try:
                made[key] = convert(made[key])
            except Misfit as misfit:
                raise misfit.inside(step_to(key)) from None
    return made


def _member(kind: type[enum.Enum], value: Any) -> Any:
    if isinstance(value, kind):
        return value
    try:
        member = kind(value)
        if type(value) is not bool or type(member.value) is bool:  # True == 1
            return member
    except Exception as error:  # looking for a missing value may be user code
        if not isinstance(error, ValueError | TypeError):
            raise Misfit(f"is no {kind_name(kind)}: {raised(error)}") from None
    shown = f"{value!r:.40}" if type(value) in (str, int) else article(kind_name(type(value)))
    raise Misfit(f"is {shown}, which is no {kind_name(kind)}") from None


def _plain_of(value: Any) -> tuple[type, Any]:
    """With its type: 1, 1.0 and True are different literals."""
    plain = value.value if isinstance(value, enum.Enum) else value
    return type(plain), plain


def _literal(members: Mapping[tuple[type, Any], Any], value: Any) -> Any:
    try:
        return members[_plain_of(value)]
    except (KeyError, TypeError):
        choices = ", ".join(f"{plain!r:.40}" for _, plain in members)
        raise Misfit(f"is none of {choices}") from None
