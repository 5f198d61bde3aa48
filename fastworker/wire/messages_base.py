"""The base of all messages, apart from them so that they can be spread over several modules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(slots=True)
class Message:
    """Base of all messages; ``KIND`` is the number on the wire."""

    KIND: ClassVar[int] = 0
