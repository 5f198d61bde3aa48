"""A webhook: the JSON body that tells of a job's end, and the headers that prove who says so.

Headers and signature are those of Standard Webhooks (https://www.standardwebhooks.com), so that
receivers in other languages find a library: HMAC-SHA256 over ``id.timestamp.body``, its key the
submitter's whole token.
"""

from __future__ import annotations

import base64
import hmac
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from fastworker.core.ids import id_text
from fastworker.core.records import Failure, TaskStatus
from fastworker.errors import ProtocolError
from fastworker.wire.callbacks import CallbackBody
from fastworker.wire.json_values import json_text
from fastworker.wire.values import open_value

ID_HEADER: Final = "webhook-id"
TIMESTAMP_HEADER: Final = "webhook-timestamp"
SIGNATURE_HEADER: Final = "webhook-signature"

MAX_SIGNATURES: Final = 10
"""In one header; we send one, and a receiver need not look at any number of them."""

_SIGNATURE_VERSION: Final = "v1,"
_DELIVERY: Final = re.compile(r"[0-9a-f]{32}\Z")
_TIMESTAMP: Final = re.compile(r"[0-9]{1,12}\Z", re.ASCII)
_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "delivery_id": (str,),
    "task_id": (str,),
    "status": (str,),
    "error": (str, type(None)),
    "traceback": (str, type(None)),
    "reason": (str, type(None)),
    "started_at": (str, type(None)),
    "completed_at": (str, type(None)),
    "attempts": (int,),
}


def encode_webhook(body: CallbackBody) -> bytes:
    """The JSON object of a callback, under the names that `JobCallback` has.

    Raises:
        ProtocolError: its result or data is damaged.
    """
    failure = body.failure
    return json_text(
        {
            "delivery_id": body.delivery.hex(),
            "task_id": id_text(body.task_id),
            "status": body.status.value,
            "result": None if body.value is None else open_value(body.value),
            "error": None if failure is None else _summary(failure),
            "traceback": None if failure is None else failure.traceback or None,
            "reason": None if failure is None else failure.reason or None,
            "started_at": _moment(body.started_at),
            "completed_at": _moment(body.completed_at),
            "attempts": body.attempts,
            "callback_data": None if body.data is None else open_value(body.data),
        }
    ).encode()


def decode_webhook(body: bytes) -> dict[str, Any]:
    """Read the object of a body whose signature has been checked; other keys stay in it.

    Raises:
        ProtocolError: it is no such object.
    """
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"a webhook's body is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ProtocolError("a webhook's body is not a JSON object")
    for name, types in _TYPES.items():
        if type(found.get(name)) not in types:
            raise ProtocolError(f"a webhook's body, key {name}: expected {types[0].__name__}")
    try:
        found["status"] = TaskStatus(found["status"])
        for name in ("started_at", "completed_at"):
            moment = found.get(name)
            found[name] = None if moment is None else datetime.fromisoformat(moment)
    except ValueError as error:
        raise ProtocolError(f"a webhook's body: {error}") from error
    return found


def webhook_headers(key: bytes, delivery: bytes, body: bytes, *, now: float) -> dict[str, str]:
    """The headers that prove a body: they change with every attempt to deliver it."""
    delivery_id, timestamp = delivery.hex(), str(int(now))
    return {
        ID_HEADER: delivery_id,
        TIMESTAMP_HEADER: timestamp,
        SIGNATURE_HEADER: _SIGNATURE_VERSION + _sign(key, delivery_id, timestamp, body),
    }


def signed_at(key: bytes, headers: Mapping[str, str], body: bytes) -> tuple[str, float]:
    """The delivery id and the moment of sending, if the holder of ``key`` signed all of it.

    Args:
        headers: their names in lower case.

    Raises:
        ProtocolError: a header is missing or malformed, or no signature fits.
    """
    for name in (ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER):
        if name not in headers:
            raise ProtocolError(f"the header {name} is missing")
    delivery_id, timestamp = headers[ID_HEADER], headers[TIMESTAMP_HEADER]
    if not _DELIVERY.match(delivery_id) or not _TIMESTAMP.match(timestamp):
        raise ProtocolError(f"the header {ID_HEADER} or {TIMESTAMP_HEADER} is malformed")
    expected = f"{_SIGNATURE_VERSION}{_sign(key, delivery_id, timestamp, body)}".encode()
    given = headers[SIGNATURE_HEADER].encode("utf-8", "replace").split()[:MAX_SIGNATURES]
    fits = [hmac.compare_digest(expected, one) for one in given]
    if not any(fits):
        raise ProtocolError("the signature does not fit our token")
    return delivery_id, float(timestamp)


def _sign(key: bytes, delivery_id: str, timestamp: str, body: bytes) -> str:
    signed = b".".join((delivery_id.encode(), timestamp.encode(), body))
    return base64.b64encode(hmac.digest(key, signed, "sha256")).decode()


def _summary(failure: Failure) -> str:
    return f"{failure.type_name}: {failure.message}" if failure.type_name else failure.message


def _moment(wall: float | None) -> str | None:
    return None if wall is None else datetime.fromtimestamp(wall, UTC).isoformat()
