"""One POST over a connection of its own. Needs httpx: imported when the first webhook is sent.

Its bare transport is used: no redirects, cookies, proxies or `.netrc`. Of the answer only the head
is read.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from typing import Final

import httpx

from fastworker.server.callback_rules import CallbackTarget
from fastworker.version import __version__

CONNECT_SECONDS: Final = 4.0
"""For TCP and again for TLS: together less than an attempt may take, because a handshake that is
cancelled from outside would leave its socket open."""

_NO_TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Never used; without it the authorities would be read for every plain webhook."""


async def post(
    target: CallbackTarget, body: bytes, headers: dict[str, str], tls: ssl.SSLContext | None
) -> tuple[int, str]:
    """Send one, and return the status and what ``Retry-After`` says. The caller bounds the time.

    Raises:
        Exception: of httpx, of the network or of TLS; see `trouble_of`.
    """
    async with httpx.AsyncHTTPTransport(
        verify=_NO_TLS if tls is None else tls, trust_env=False, http2=False
    ) as transport:
        response = await transport.handle_async_request(_request(target, body, headers))
        try:
            return response.status_code, response.headers.get("retry-after", "")
        finally:
            await response.aclose()


class _Body(httpx.AsyncByteStream):
    """A body in one piece. The library's own is a generator, and would be left in the middle by a
    receiver that closes before it has taken all."""

    def __init__(self, data: bytes) -> None:
        self._left = [data]

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        return self._left.pop()


def _request(target: CallbackTarget, body: bytes, headers: dict[str, str]) -> httpx.Request:
    """To the IP address that was found, in the name that was asked for."""
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
            "content-length": str(len(body)),
            "user-agent": f"fastworker/{__version__}",
            **headers,
        },
        stream=_Body(body),
        extensions={"sni_hostname": address.host, "timeout": {"connect": CONNECT_SECONDS}},
    )
