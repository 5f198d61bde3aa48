"""What a setting's value may be: one small class a kind, from text or from a TOML value.

A kind's ``read`` returns the value or raises ``ValueError`` without a message; the sentence for
the user is made where the key and its origin are known.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from fastworker.core.names import check_name
from fastworker.core.records import ALL_QUEUES
from fastworker.errors import FastWorkerError
from fastworker.wire.addresses import parse_address

_MODULE: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*\Z")
_YES: Final = frozenset({"1", "true", "yes", "on"})
_NO: Final = frozenset({"0", "false", "no", "off"})

AUTO: Final = "auto"

UNITS: Final = {
    **{"": 1, "b": 1},
    **{"kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12},
    **{"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40},
}
"""Bytes by unit, in small letters."""

_SIZE: Final = re.compile(
    r"\s*(\d{1,15}(?:\.\d{1,3})?)\s*(" + "|".join(UNITS) + r")\s*", re.ASCII | re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Raw:
    """A value as it was found.

    Args:
        value: text from a flag or the environment, anything TOML has from a file.
        is_text: True for flags and the environment, where numbers arrive as text.
        folder: what relative paths are relative to.
    """

    value: object
    is_text: bool
    folder: Path


class Kind(Protocol):
    """How to read a setting, and what to tell someone who got it wrong."""

    @property
    def expects(self) -> str:
        """What is expected, to follow "expects "."""

    def read(self, raw: Raw) -> object:
        """Return the value; ``ValueError`` if it is not of this kind."""


def _text(raw: Raw) -> str:
    if not isinstance(raw.value, str) or not raw.value.strip():
        raise ValueError
    return raw.value.strip()


@dataclass(frozen=True, slots=True)
class Text:
    """Text that ``check`` accepts; its ``FastWorkerError`` or ``ValueError`` refuses it."""

    expects: str
    check: Callable[[str], object] | None = None

    def read(self, raw: Raw) -> str:
        text = _text(raw)
        if self.check is not None:
            self.check(text)
        return text


@dataclass(frozen=True, slots=True)
class Texts:
    """Several texts: a list, or one text with commas. Order is kept, repeats are dropped."""

    expects: str
    check: Callable[[str], object] | None = None

    def read(self, raw: Raw) -> tuple[str, ...]:
        given = raw.value if isinstance(raw.value, list | tuple) else [raw.value]
        found: dict[str, None] = {}
        for item in given:
            if not isinstance(item, str):
                raise ValueError
            for part in filter(None, (piece.strip() for piece in item.split(","))):
                if self.check is not None:
                    self.check(part)
                found[part] = None
        return tuple(found)


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of a few words, in any case."""

    words: tuple[str, ...]

    @property
    def expects(self) -> str:
        return "one of " + ", ".join(self.words)

    def read(self, raw: Raw) -> str:
        word = _text(raw).lower()
        if word not in self.words:
            raise ValueError
        return word


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number between two limits, both allowed."""

    least: int
    most: int

    @property
    def expects(self) -> str:
        return f"a whole number from {self.least} to {self.most}"

    def read(self, raw: Raw) -> int:
        value = raw.value
        if raw.is_text and isinstance(value, str) and re.fullmatch(r"\s*\d{1,12}\s*", value, re.A):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError
        if not self.least <= value <= self.most:
            raise ValueError
        return value


@dataclass(frozen=True, slots=True)
class WholeOrAuto:
    """A whole number between two limits, or the word ``auto``."""

    least: int
    most: int

    @property
    def expects(self) -> str:
        return f"{AUTO}, or {Whole(self.least, self.most).expects}"

    def read(self, raw: Raw) -> int | str:
        if isinstance(raw.value, str) and raw.value.strip().lower() == AUTO:
            return AUTO
        return Whole(self.least, self.most).read(raw)


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes: a number, or a text such as ``512MiB`` or ``2GB``; at most ``most``."""

    most: int

    @property
    def expects(self) -> str:
        return "a size such as 512MiB or 2GB, or a number of bytes"

    def read(self, raw: Raw) -> int:
        value = raw.value
        if isinstance(value, str):
            found = _SIZE.fullmatch(value)
            if found is None:
                raise ValueError
            value = round(float(found[1]) * UNITS[found[2].lower()])
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= self.most:
            raise ValueError
        return value


def read_number(raw: Raw, least: float, most: float) -> float:
    """A number within bounds, also as text; `ValueError` if it is none."""
    value = raw.value
    if raw.is_text and isinstance(value, str):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError
    if not math.isfinite(value) or not least <= value <= most:
        raise ValueError
    return float(value)


@dataclass(frozen=True, slots=True)
class Seconds:
    """A length of time: seconds, not negative, at most ``most``."""

    most: float

    @property
    def expects(self) -> str:
        return f"seconds from 0 to {self.most:g}, as a number"

    def read(self, raw: Raw) -> float:
        return read_number(raw, 0, self.most)


@dataclass(frozen=True, slots=True)
class Switch:
    """On or off."""

    expects: str = "true or false"

    def read(self, raw: Raw) -> bool:
        if isinstance(raw.value, bool):
            return raw.value
        word = raw.value.strip().lower() if raw.is_text and isinstance(raw.value, str) else ""
        if word not in _YES and word not in _NO:
            raise ValueError
        return word in _YES


@dataclass(frozen=True, slots=True)
class FilePath:
    """A path; ``~`` is the home folder, relative ones start where they were written."""

    expects: str

    def read(self, raw: Raw) -> Path:
        text = _text(raw) if not isinstance(raw.value, Path) else str(raw.value)
        if "://" in text or "\0" in text:
            raise ValueError
        try:
            return raw.folder / Path(text).expanduser()
        except RuntimeError as error:  # no home folder for that user
            raise ValueError from error


def check_address(text: str) -> None:
    """Raise ``InvalidAddress`` unless ``text`` can be dialled or listened on."""
    parse_address(text)


def check_module(text: str) -> None:
    """Raise ``ValueError`` unless ``text`` is a dotted module name."""
    if not _MODULE.match(text):
        raise ValueError


def check_queue(text: str) -> None:
    """Raise ``InvalidName`` unless ``text`` may name a queue; ``*`` stands for all of them."""
    if text != ALL_QUEUES:
        check_name("queue", text)


def check_tag(text: str) -> None:
    """Raise ``InvalidName`` unless ``text`` may be a tag."""
    check_name("tag", text)


def check_worker(text: str) -> None:
    """Raise ``InvalidName`` unless ``text`` may name a worker."""
    check_name("worker", text)


def check_host(text: str) -> None:
    """Raise ``ValueError`` unless ``text`` is one host, ``host:port`` or address."""
    if any(character.isspace() or not character.isprintable() for character in text):
        raise ValueError


def read_kind(kind: Kind, raw: Raw) -> object:
    """Return what ``kind`` makes of ``raw``; every refusal is a ``ValueError``.

    Its message, if it has one, says more than ``kind.expects``.
    """
    try:
        return kind.read(raw)
    except FastWorkerError as error:
        raise ValueError(str(error)) from error
    except (ValueError, OverflowError) as error:
        raise ValueError from error
