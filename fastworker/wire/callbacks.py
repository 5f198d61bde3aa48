"""The body of a callback, and the signature over it: the same bytes for every way of delivery.

A body is one CBOR map with text keys; None is left out. The signature is HMAC-SHA256 over the
body, with the submitter's whole token as key. Delivery id and time of sending are in the body, and
so neither can be exchanged. Webhooks say the same otherwise: `wire/webhooks.py`.
"""

from __future__ import annotations

import hmac
from typing import Final, NamedTuple

import cbor2

from fastworker.core.ids import ID_BYTES
from fastworker.core.records import Failure, TaskStatus
from fastworker.errors import ProtocolError
from fastworker.wire.messages import SUBPROTOCOL

CALLBACK_SUBPROTOCOL: Final = SUBPROTOCOL
"""Spoken with a listener: frames of `Callback` towards it, frames of `CallbackAck` back."""

MAX_AGE_SECONDS: Final = 300.0
"""What was sent longer ago, or so far ahead, is not taken: somebody may have kept it. The clocks of
both sides may differ by as much."""

_MAX_DEPTH: Final = 4


class CallbackBody(NamedTuple):
    """What a callback says. Moments are wall-clock seconds; ``value`` and ``data`` are sealed."""

    delivery: bytes
    task_id: bytes
    status: TaskStatus
    value: bytes | None
    failure: Failure | None
    started_at: float | None
    completed_at: float | None
    attempts: int
    data: bytes | None
    sent_at: float | None = None
    """When this attempt to deliver it was made."""


_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "delivery": (bytes,),
    "task_id": (bytes,),
    "status": (str,),
    "value": (bytes, type(None)),
    "failure": (list, type(None)),
    "started_at": (float, type(None)),
    "completed_at": (float, type(None)),
    "attempts": (int,),
    "data": (bytes, type(None)),
    "sent_at": (float, type(None)),
}


def encode_callback(body: CallbackBody) -> bytes:
    """The bytes that are signed and sent."""
    found: dict[str, object] = {
        name: value for name, value in body._asdict().items() if value is not None
    }
    found["status"] = body.status.value
    if body.failure is not None:
        found["failure"] = list(body.failure)
    return cbor2.dumps(found)


def decode_callback(data: bytes) -> CallbackBody:
    """Read a body whose signature has been checked; unknown keys are ignored.

    Raises:
        ProtocolError: a key is missing or has the wrong type.
    """
    try:
        found = cbor2.loads(data, max_depth=_MAX_DEPTH)
    except (cbor2.CBORError, ValueError, TypeError, RecursionError) as error:
        raise ProtocolError(f"a callback's body is not CBOR: {error}") from error
    if not isinstance(found, dict):
        raise ProtocolError("a callback's body is not a map")
    values = {name: found.get(name) for name in _TYPES}
    for name, types in _TYPES.items():
        if type(values[name]) not in types:
            raise ProtocolError(f"a callback's body, key {name}: expected {types[0].__name__}")
    if len(found["delivery"]) != ID_BYTES or len(found["task_id"]) != ID_BYTES:
        raise ProtocolError("a callback's body: its ids have 16 bytes")
    try:
        values["status"] = TaskStatus(found["status"])
    except ValueError as error:
        raise ProtocolError(f"a callback's body, key status: {error}") from error
    failure = found.get("failure")
    if failure is not None:
        if len(failure) != len(Failure._fields) or {str} != set(map(type, failure)):
            raise ProtocolError("a callback's body, key failure: expected four texts")
        values["failure"] = Failure(*failure)
    return CallbackBody(**values)  # type: ignore[arg-type]  # every type has just been checked


def sign_callback(key: bytes, body: bytes) -> bytes:
    """The signature of a body; ``key`` is the submitter's token, whole."""
    return hmac.digest(key, body, "sha256")


def is_signed_by(token: str, body: bytes, signature: bytes) -> bool:
    """Whether the holder of this token's secret has signed the body."""
    return hmac.compare_digest(sign_callback(token.encode(), body), signature)
