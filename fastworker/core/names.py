"""What a task, queue or worker may be called."""

from __future__ import annotations

import re
from typing import Final

from fastworker.core.records import MAX_NAME_LENGTH
from fastworker.errors import InvalidName

_ALLOWED: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@-]*\Z")


def check_name(what: str, name: object) -> str:
    """Return ``name`` if it may name a ``what`` ("task", "queue", "worker").

    Letters, digits and ``_ . : @ -`` of ASCII, at most 200, not starting with punctuation: no
    separators, no control characters, nothing that looks like something else.

    Raises:
        InvalidName: with the offending name, escaped and shortened.
    """
    if not isinstance(name, str):
        raise InvalidName(f"a {what} name is text, not {type(name).__name__}")
    if len(name) > MAX_NAME_LENGTH:
        raise InvalidName(
            f"{what} name {name[:40]!r}… has {len(name)} characters; at most {MAX_NAME_LENGTH}"
        )
    if not _ALLOWED.match(name):
        raise InvalidName(
            f"{what} name {name!a} is not allowed; use ASCII letters, digits and _ . : @ -, "
            "starting with a letter, digit or underscore"
        )
    return name
