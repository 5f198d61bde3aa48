"""What a web application checks a webhook with, before it believes it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from fastworker.client.callbacks import JobCallback, callback_token
from fastworker.errors import CallbackRefused, ProtocolError
from fastworker.wire.callbacks import MAX_AGE_SECONDS
from fastworker.wire.webhooks import decode_webhook, signed_at

MAX_AGE: Final = timedelta(seconds=MAX_AGE_SECONDS)


def verify_webhook(
    body: bytes,
    headers: Mapping[str, str],
    *,
    token: str | None = None,
    max_age: float | timedelta = MAX_AGE,
) -> JobCallback:
    """Check a webhook's signature and age, and read it. Works in any framework; does not wait.

    A webhook that is not answered with a status of 2xx comes again under the same ``delivery_id``:
    answer one that you have handled before with 2xx, and do no more.

    Args:
        body: as it came, before anything has parsed it.
        headers: of the request, in any case.
        token: the one that the job was submitted with; None: that of the settings.
        max_age: seconds, or a timedelta; how long ago it may have been sent.

    Raises:
        CallbackRefused: nobody with this token has sent it just now; answer 401 and forget it.
    """
    key = (callback_token() if token is None else token).encode()
    seconds = max_age.total_seconds() if isinstance(max_age, timedelta) else max_age
    lower = {name.lower(): value for name, value in headers.items()}
    try:
        delivery_id, sent_at = signed_at(key, lower, body)
        if abs(time.time() - sent_at) > seconds:
            raise ProtocolError(
                f"it was not sent within the last {seconds:g} s; if it was, the clocks differ"
            )
        found = decode_webhook(body)
        if found["delivery_id"] != delivery_id:
            raise ProtocolError("its body belongs to another delivery")
    except ProtocolError as error:
        raise CallbackRefused(f"a webhook was refused: {error}") from None
    return JobCallback(
        task_id=found["task_id"],
        status=found["status"],
        result=found.get("result"),
        error=found["error"],
        traceback=found["traceback"],
        reason=found["reason"],
        started_at=found["started_at"],
        completed_at=found["completed_at"],
        attempts=found["attempts"],
        callback_data=found.get("callback_data"),
        delivery_id=delivery_id,
    )
