"""Messages of any connection: how it begins, lives and ends.

`fastworker.wire.messages` gives them out with all the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fastworker.wire.fields import U32, U64, Blob, Flag, Id16, Name, Seconds, Text, U64Column
from fastworker.wire.messages_base import Message


@dataclass(slots=True)
class Hello(Message):
    """First message of whoever dials. ``role``: ``client`` or ``subworker``."""

    KIND: ClassVar[int] = 1
    versions: U64Column
    role: Name
    token_id: Name
    nonce: Blob
    """32 random bytes."""
    agent: Text = ""


@dataclass(slots=True)
class Challenge(Message):
    """The control plane proves itself: HMAC-SHA256(token, "server" ‖ nonces ‖ role)."""

    KIND: ClassVar[int] = 2
    version: U32
    nonce: Blob
    mac: Blob


@dataclass(slots=True)
class Proof(Message):
    """The same with "client": now the dialler has proved itself."""

    KIND: ClassVar[int] = 3
    mac: Blob


@dataclass(slots=True)
class Welcome(Message):
    """The connection stands."""

    KIND: ClassVar[int] = 4
    control_plane: Id16
    agent: Text
    heartbeat_seconds: Seconds
    lease_seconds: Seconds
    max_payload_bytes: U64
    now: Seconds


@dataclass(slots=True)
class Problem(Message):
    """A typed refusal. ``code`` is the ``code`` of a class in `fastworker.errors`.

    ``request`` names the request it answers; None means the connection, which then ends.
    """

    KIND: ClassVar[int] = 5
    code: Name
    message: Text
    request: U64 | None = None
    retry_after: Seconds | None = None
    existing_id: Id16 | None = None


@dataclass(slots=True)
class Beat(Message):
    """Application heartbeat, both ways. From a subworker it renews its lease."""

    KIND: ClassVar[int] = 6
    number: U64


@dataclass(slots=True)
class BeatAck(Message):
    """Answer to `Beat` with the same number."""

    KIND: ClassVar[int] = 7
    number: U64


@dataclass(slots=True)
class Bye(Message):
    """The sender is leaving on purpose (drain, stop)."""

    KIND: ClassVar[int] = 8
    reason: Text


@dataclass(slots=True)
class Piece(Message):
    """Part of a frame that is larger than a WebSocket message may be. Alone in its frame."""

    KIND: ClassVar[int] = 9
    transfer: U64
    index: U32
    last: Flag
    data: Blob
