"""Why a value cannot become what an annotation says, as the end of a sentence. Pure."""

from __future__ import annotations

from typing import Final, NoReturn

_MAX_NAME_CHARACTERS: Final = 120
_MAX_REASON_CHARACTERS: Final = 500
_MAX_PATH_CHARACTERS: Final = 200


class Misfit(Exception):
    """One value does not fit: where, seen from the value that was given, and why.

    Args:
        reason: a predicate: "is a str; expected shop.Item".
        path: from the outermost value to this one, such as ``.items[2]``.
    """

    def __init__(self, reason: str, path: str = "") -> None:
        super().__init__(reason, path)
        self.reason = _cut(reason, _MAX_REASON_CHARACTERS)
        self.path = path

    def inside(self, step: str) -> Misfit:
        """The same, seen from one container further out."""
        if len(self.path) < _MAX_PATH_CHARACTERS:
            self.path = step + self.path
        return self


def refuse(value: object, expected: str) -> NoReturn:
    """Raise `Misfit`: ``value`` is something else than what is expected."""
    raise Misfit(f"is {article(kind_name(type(value)))}; expected {expected}") from None


def kind_name(kind: type) -> str:
    """A class as people write it."""
    name = kind.__qualname__ if kind.__module__ == "builtins" else _full_name(kind)
    return _cut(name, _MAX_NAME_CHARACTERS)


def article(name: str) -> str:
    """``an int``, ``a shop.Item``."""
    return f"an {name}" if name[:1] in "aeiou" else f"a {name}"


def step_to(key: object) -> str:
    """A key or field as part of a path."""
    if type(key) is str and key.isidentifier():
        return f".{key}"
    return f"[{key!r:.40}]" if type(key) in (str, int) else f"[{kind_name(type(key))}]"


def raised(error: BaseException) -> str:
    """What a user's class said when it refused: type and message, however hostile."""
    name = kind_name(type(error))
    try:
        text = str(error)
    except Exception:  # the user's __str__ is user code
        return name
    return f"{name}: {text}" if text else name


def _full_name(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
