"""What an idempotency key may be, how long it may hold, and what calls are compared by."""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from fastworker.errors import InvalidOption

MAX_KEY_LENGTH: Final = 200
"""Characters: an address or several ids fit, a document does not."""

SHORTEST_WINDOW_SECONDS: Final = 1.0
LONGEST_WINDOW_SECONDS: Final = 30 * 86_400.0
"""As long as failed jobs are kept: what is older is told apart by the application's own data."""

DEFAULT_KEY_SECONDS: Final = 86_400.0
"""A day: longer than whoever repeats a request goes on trying."""

_DIGEST_BYTES: Final = 16


def digest_of(payload: bytes) -> bytes:
    """What sealed arguments are compared by: equal calls have equal bytes."""
    return sha256(payload).digest()[:_DIGEST_BYTES]


def check_key(key: object) -> str:
    """Return ``key`` if it may be an idempotency key.

    Raises:
        InvalidOption: not text of 1 to `MAX_KEY_LENGTH` characters, or with a NUL in it.
    """
    if not isinstance(key, str):
        raise InvalidOption(f"idempotency_key is text, not a {type(key).__name__}")
    if not 1 <= len(key) <= MAX_KEY_LENGTH:
        raise InvalidOption(
            f"idempotency_key has {len(key)} characters; give 1 to {MAX_KEY_LENGTH}, "
            "a hash of what is longer"
        )
    if "\0" in key:
        raise InvalidOption(f"idempotency_key {key!a:.80} has a NUL character; leave it out")
    return key


def check_window(seconds: float) -> float:
    """Return ``seconds`` if a key may hold so long.

    Raises:
        InvalidOption: shorter than a second or longer than 30 days.
    """
    if not SHORTEST_WINDOW_SECONDS <= seconds <= LONGEST_WINDOW_SECONDS:
        raise InvalidOption(
            f"idempotency_window is {seconds:g} s; give 1 second to 30 days "
            f"({LONGEST_WINDOW_SECONDS:.0f} s)"
        )
    return seconds
