"""Classes with fields, made of a dict of them: dataclasses, attrs, msgspec, pydantic, named tuples.

Their libraries are never imported here: a class shows by its markers whose it is, and brings its
own library along. Constructors decide what they accept; pydantic models validate by their own
rules, the others check nothing by themselves. Unknown keys are passed over, so that a newer sender
may know more fields; a missing one without a default does not fit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final, Literal, NamedTuple, TypeAlias, get_origin

from fastworker.tasks.hints import hints_of
from fastworker.tasks.misfits import Misfit, article, kind_name, raised, refuse, step_to

Converter: TypeAlias = Callable[[Any], Any]
Reader: TypeAlias = Callable[[Any], Converter | None]
"""From the annotation of a field to its converter."""


class Field(NamedTuple):
    """One field of a class.

    Args:
        key: its name, in plain data too.
        argument: of the constructor; None: set on the finished object.
    """

    key: str
    argument: str | None
    required: bool
    annotation: Any = None
    """Where the class itself has none."""


class _Step(NamedTuple):
    key: str
    argument: str | None
    required: bool
    convert: Converter | None


class Record:
    """Makes instances of one class by its constructor. Reads its annotations at first use, since
    classes may hold themselves."""

    def __init__(
        self,
        kind: type,
        fields: Iterable[Field],
        read: Reader,
        tag: tuple[str, Any] | None = None,
    ) -> None:
        self.kind = kind
        self._fields = tuple(fields)
        self._read = read
        self._tag = tag
        self._steps: list[_Step] | None = None
        self._keys: Final = {field.key for field in self._fields} | ({tag[0]} if tag else set())

    def is_exact(self, value: Any) -> bool:
        """Whether a dict has all the fields and no other key."""
        return isinstance(value, dict) and value.keys() == self._keys

    def __call__(self, value: Any) -> Any:
        if isinstance(value, self.kind):
            return value
        if not isinstance(value, dict):
            refuse(value, article(kind_name(self.kind)))
        if self._tag is not None and value.get(self._tag[0], self._tag[1]) != self._tag[1]:
            raise Misfit(f"does not say {self._tag[1]!r:.40}", step_to(self._tag[0]))
        arguments: dict[str, Any] = {}
        later: list[tuple[str, Any]] = []
        for key, argument, required, convert in self._steps or self._resolve():
            if key not in value:
                if required:
                    raise Misfit(f"is missing in {article(kind_name(self.kind))}", f".{key}")
                continue
            item = value[key]
            if convert is not None:
                try:
                    item = convert(item)
                except Misfit as misfit:
                    raise misfit.inside(f".{key}") from None
            if argument is None:
                later.append((key, item))
            else:
                arguments[argument] = item
        return self._make(arguments, later)

    def _make(self, arguments: dict[str, Any], later: list[tuple[str, Any]]) -> Any:
        try:
            made = self.kind(**arguments)
            for name, item in later:
                object.__setattr__(made, name, item)  # the class may be frozen
        except Exception as error:  # constructors are user code
            raise Misfit(f"cannot be {article(kind_name(self.kind))}: {raised(error)}") from None
        return made

    def _resolve(self) -> list[_Step]:
        hints = hints_of(self.kind)
        self._steps = [
            _Step(
                field.key,
                field.argument,
                field.required,
                self._read(hints.get(field.key, field.annotation)),
            )
            # Literals first: they tell members of a union apart before anything is built.
            for field in sorted(self._fields, key=lambda one: not _is_literal(hints.get(one.key)))
        ]
        return self._steps


def _is_literal(annotation: Any) -> bool:
    return get_origin(annotation) is Literal


class PydanticModel:
    """Makes instances of a pydantic model, which validates by its own rules.

    What these refuse is tried once more with the fields rebuilt: strict models take no enum member
    by its value, and pydantic knows nothing of attrs.
    """

    def __init__(self, kind: Any, read: Reader) -> None:
        from pydantic import VERSION

        self.kind = kind
        self._read = read
        self._converters: dict[str, Converter] | None = None
        self._options: dict[str, bool] = {}
        version = VERSION.split(".")
        if (int(version[0]), int(version[1])) >= (2, 11):
            # Models are taken apart by the names of fields, whatever their aliases.
            self._options = {"by_name": True, "by_alias": True}

    def is_exact(self, value: Any) -> bool:
        """As `Record.is_exact`; a root model has no keys."""
        if getattr(self.kind, "__pydantic_root_model__", False):
            return True
        return isinstance(value, dict) and value.keys() == self.kind.model_fields.keys()

    def __call__(self, value: Any) -> Any:
        if isinstance(value, self.kind):
            return value
        try:
            return self.kind.model_validate(value, **self._options)
        except Exception as error:  # validators are user code
            rebuilt = self._rebuilt(value) if isinstance(value, dict) else value
            if rebuilt is value:
                raise _pydantic_misfit(self.kind, error) from None
        try:
            return self.kind.model_validate(rebuilt, **self._options)
        except Exception as error:  # as above
            raise _pydantic_misfit(self.kind, error) from None

    def _rebuilt(self, value: dict[Any, Any]) -> dict[Any, Any]:
        if self._converters is None:
            fields = {name: self._read(one) for name, one in hints_of(self.kind).items()}
            self._converters = {name: one for name, one in fields.items() if one is not None}
        made = value
        for name in self._converters.keys() & value.keys():
            # What does not fit is left to pydantic, which may have a use for it.
            with suppress(Misfit):
                item = self._converters[name](value[name])
                made = {**made, name: item}
        return made


def _pydantic_misfit(kind: type, error: Exception) -> Misfit:
    errors: Any = getattr(error, "errors", None)
    try:
        first = errors(include_url=False, include_context=False, include_input=False)[0]
        path = "".join(map(step_to, first["loc"]))
        return Misfit(f"does not fit {kind_name(kind)}: {first['msg']}", path)
    except Exception:  # not pydantic's own error, but one of the user's validators
        return Misfit(f"cannot be {article(kind_name(kind))}: {raised(error)}")


class NamedTupleRecord:
    """Makes named tuples of tuples."""

    def __init__(self, kind: Any, read: Reader) -> None:
        self.kind = kind
        self._read = read
        self._converters: list[Converter | None] | None = None

    def is_exact(self, value: Any) -> bool:
        """Whether it has all the fields."""
        return isinstance(value, tuple | list) and len(value) == len(self.kind._fields)

    def __call__(self, value: Any) -> Any:
        if isinstance(value, self.kind):
            return value
        if not isinstance(value, tuple | list):
            refuse(value, article(kind_name(self.kind)))
        if self._converters is None:
            hints = hints_of(self.kind)
            self._converters = [self._read(hints.get(name)) for name in self.kind._fields]
        items = list(value)
        for index, convert in enumerate(self._converters[: len(items)]):
            if convert is not None:
                try:
                    items[index] = convert(items[index])
                except Misfit as misfit:
                    raise misfit.inside(f".{self.kind._fields[index]}") from None
        try:
            return self.kind(*items)
        except Exception as error:  # __new__ may be user code
            raise Misfit(f"cannot be {article(kind_name(self.kind))}: {raised(error)}") from None


Model: TypeAlias = Record | PydanticModel | NamedTupleRecord


def record_of(kind: Any, read: Reader) -> Model | None:
    """The converter of a class with fields; None if it is none of those known here."""
    if issubclass(kind, tuple):
        return NamedTupleRecord(kind, read) if hasattr(kind, "_fields") else None
    if hasattr(kind, "__pydantic_validator__") and hasattr(kind, "model_validate"):
        return PydanticModel(kind, read)
    if dataclasses.is_dataclass(kind):
        return Record(kind, _dataclass_fields(kind), read)  # type: ignore[arg-type]
    if hasattr(kind, "__attrs_attrs__"):
        return Record(kind, _attrs_fields(kind), read)
    if hasattr(kind, "__struct_fields__"):
        config = kind.__struct_config__
        tag = None if config.tag is None else (config.tag_field, config.tag)
        # Which fields have defaults the constructor knows best.
        fields = [Field(name, name, required=False) for name in kind.__struct_fields__]
        return Record(kind, fields, read, tag)
    return None


def _dataclass_fields(kind: Any) -> Iterable[Field]:
    for field in dataclasses.fields(kind):
        has_default = (
            field.default is not dataclasses.MISSING
            or field.default_factory is not dataclasses.MISSING
        )
        yield Field(field.name, field.name if field.init else None, field.init and not has_default)


def _attrs_fields(kind: Any) -> Iterable[Field]:
    from attr import NOTHING

    for one in kind.__attrs_attrs__:
        required = one.init and one.default is NOTHING
        yield Field(one.name, one.alias if one.init else None, required, one.type)
