"""Webhooks: one POST a delivery, over a connection of its own, to an address looked up before.

Needs httpx, of which the bare transport is used: no redirects, cookies, proxies or `.netrc`. The
answer's body is never read.
"""

from __future__ import annotations

import importlib.util
import math
import re
import ssl
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

from fastworker.server.callback_rules import CallbackTarget
from fastworker.server.callback_trouble import Trouble, Undelivered
from fastworker.tls import Contexts
from fastworker.version import __version__

if TYPE_CHECKING:
    import httpx

CONNECT_SECONDS: Final = 4.0
"""For TCP and again for TLS: together less than an attempt may take, because a handshake that is
cancelled from outside would leave its socket open."""

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
        import httpx

        context = self._contexts.current() if target.address.tls else _NO_TLS
        async with httpx.AsyncHTTPTransport(
            verify=context, trust_env=False, http2=False
        ) as transport:
            response = await transport.handle_async_request(_request(target, body, headers))
            try:
                return _judge(response)
            finally:
                await response.aclose()


_NO_TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Never used; without it the authorities would be read for every plain webhook."""


def _request(target: CallbackTarget, body: bytes, headers: dict[str, str]) -> httpx.Request:
    """To the IP address that was found, in the name that was asked for."""
    import httpx

    address = target.address
    url = httpx.URL(
        scheme="https" if address.tls else "http",
        host=str(target.found),
        port=address.port,
        raw_path=(address.target or "/").encode(),
    )
    return httpx.Request(
        "POST",
        url,
        headers={
            "host": address.authority,
            "content-type": "application/json",
            "user-agent": f"fastworker/{__version__}",
            **headers,
        },
        content=body,
        extensions={"sni_hostname": address.host, "timeout": {"connect": CONNECT_SECONDS}},
    )


def _judge(response: httpx.Response) -> Undelivered | None:
    status = response.status_code
    if 200 <= status < 300:
        return None
    if status == _GONE:
        return Undelivered(Trouble.GONE, for_good=True)
    retry_after = read_retry_after(response.headers.get("retry-after", ""), time.time())
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
