"""Webhooks: whether they can be sent from here, and what an answer to one means."""

from __future__ import annotations

import importlib.util
import math
import re
import time
from email.utils import parsedate_to_datetime
from typing import Final

from fastworker.server.callback_rules import CallbackTarget
from fastworker.server.callback_trouble import Trouble, Undelivered
from fastworker.tls import Contexts

LONGEST_RETRY_AFTER_SECONDS: Final = 3600.0
"""What a receiver may ask for at most."""

_SECONDS: Final = re.compile(r"[0-9]{1,9}\Z", re.ASCII)
_GONE: Final = 410


def can_send() -> bool:
    """Whether the extra ``webhooks`` is installed here."""
    return importlib.util.find_spec("httpx") is not None


class WebhookSender:
    """Sends, with ``contexts`` where that is encrypted."""

    def __init__(self, contexts: Contexts) -> None:
        self._contexts = contexts

    async def post(
        self, target: CallbackTarget, body: bytes, headers: dict[str, str]
    ) -> Undelivered | None:
        """Deliver; None: it was taken. The caller bounds the time.

        Raises:
            Exception: of httpx, of the network or of TLS; see `trouble_of`.
        """
        if not can_send():
            return Undelivered(Trouble.NO_EXTRA)
        from fastworker.server.webhook_post import post

        tls = self._contexts.current() if target.address.tls else None
        status, retry_after = await post(target, body, headers, tls)
        return judge(status, read_retry_after(retry_after, time.time()))


def judge(status: int, retry_after: float | None = None) -> Undelivered | None:
    """What a status means; None: it was taken."""
    if 200 <= status < 300:
        return None
    if status == _GONE:
        return Undelivered(Trouble.GONE, for_good=True)
    if 300 <= status < 400:
        return Undelivered(Trouble.REDIRECT, retry_after)
    if 400 <= status < 500:
        return Undelivered(Trouble.STATUS_4XX, retry_after)
    if 500 <= status < 600:
        return Undelivered(Trouble.STATUS_5XX, retry_after)
    return Undelivered(Trouble.NOT_UNDERSTOOD)


def read_retry_after(text: str, now: float) -> float | None:
    """Seconds, from a number or a date; at most `LONGEST_RETRY_AFTER_SECONDS`, None: neither."""
    given = text.strip()[:64]
    if _SECONDS.match(given):
        seconds = float(given)
    else:
        try:
            seconds = parsedate_to_datetime(given).timestamp() - now
        except (ValueError, TypeError, IndexError, OverflowError, OSError):
            return None
    if not math.isfinite(seconds):
        return None
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_SECONDS)
