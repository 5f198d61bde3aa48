"""The first bytes of a connection: health checks, WebSocket upgrades, and everything else.

The head is read and judged here, within a time and a size, before any WebSocket code sees it:
what is not a plain upgrade to our protocol never gets further.
"""

from __future__ import annotations

from base64 import b64decode
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

import trio

MAX_HEAD_BYTES: Final = 16 * 1024
"""Far more than any honest client or proxy sends."""

HEAD_SECONDS: Final = 5.0
"""For the whole head, however slowly it comes."""

WEBSOCKET_VERSION: Final = "13"
"""The only one there is (RFC 6455)."""


_TLS_HANDSHAKE: Final = b"\x16"
_SPOKE_TLS: Final = "it began TLS, which this port does only with --tls-cert and --tls-key"


class BadHead(Exception):
    """A request that is answered with an HTTP status and closed."""

    def __init__(self, status: int, reason: str, why: str = "") -> None:
        super().__init__(f"{status} {reason}: {why}" if why else f"{status} {reason}")
        self.status = status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Head:
    """A request line and its headers, names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    raw: bytes
    """Everything read so far, head and what came behind it."""

    @property
    def early(self) -> bytes:
        """What came behind the head."""
        return self.raw.partition(b"\r\n\r\n")[2]

    @property
    def is_upgrade(self) -> bool:
        """Whether it asks for a WebSocket."""
        return "websocket" in self.headers.get("upgrade", "").lower()


async def read_head(stream: trio.abc.Stream) -> Head | None:
    """Read one request head; None if the peer leaves without sending anything.

    Raises:
        BadHead: it is too large, too slow, or not HTTP.
    """
    data = bytearray()
    with trio.move_on_after(HEAD_SECONDS) as scope:
        while b"\r\n\r\n" not in data:
            chunk = await stream.receive_some(4096)
            if not chunk:
                if not data:
                    return None
                raise BadHead(400, "Bad Request")
            data += chunk
            if not _may_be_http(data):
                why = _SPOKE_TLS if data[:1] == _TLS_HANDSHAKE else ""
                raise BadHead(400, "Bad Request", why)
            if len(data) > MAX_HEAD_BYTES:
                raise BadHead(431, "Request Header Fields Too Large")
    if scope.cancelled_caught:
        if not data:
            return None
        raise BadHead(408, "Request Timeout")
    return parse_head(bytes(data))


def _may_be_http(data: bytearray) -> bool:
    """Whether the first bytes can still become a request line: upper-case method, then space."""
    word = bytes(data[:16]).split(b" ", 1)[0]
    return word.isalpha() and word.isupper() and (len(word) < 16)


def parse_head(raw: bytes) -> Head:
    """Split a request head.

    Raises:
        BadHead: it is not an HTTP/1.1 request in printable ASCII.
    """
    try:
        text = raw.split(b"\r\n\r\n", 1)[0].decode("ascii")
    except UnicodeDecodeError:
        raise BadHead(400, "Bad Request") from None
    request, *lines = text.split("\r\n")
    parts = request.split(" ")
    if len(parts) != 3 or parts[2] != "HTTP/1.1" or not request.isprintable():
        raise BadHead(400, "Bad Request")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip() or not value.strip().isprintable():
            raise BadHead(400, "Bad Request")
        headers[name.lower()] = value.strip()
    return Head(parts[0], parts[1], headers, raw)


def check_upgrade(head: Head, *, loopback: bool = False) -> None:
    """Refuse what is not an upgrade to our protocol from a program or a page of ours.

    Args:
        loopback: the connection came over the loopback interface.

    Raises:
        BadHead: with the status that says what is missing.
    """
    if not head.is_upgrade:
        raise BadHead(426, "Upgrade Required")
    if head.method != "GET" or not _is_key(head.headers.get("sec-websocket-key", "")):
        raise BadHead(400, "Bad Request")
    if head.headers.get("sec-websocket-version") != WEBSOCKET_VERSION:
        raise BadHead(426, "Upgrade Required")
    if "host" not in head.headers or "upgrade" not in head.headers.get("connection", "").lower():
        raise BadHead(400, "Bad Request")
    if "?" in head.path:
        # Secrets end up in query strings, and query strings in logs.
        raise BadHead(400, "Bad Request")
    origin = head.headers.get("origin")
    if origin is not None and not _is_own_page(origin, head.headers["host"], loopback=loopback):
        raise BadHead(403, "Forbidden")


def _is_key(text: str) -> bool:
    """Whether it is the base64 of 16 bytes."""
    try:
        return len(b64decode(text, validate=True)) == 16
    except ValueError:
        return False


def _is_own_page(origin: str, host: str, *, loopback: bool) -> bool:
    """Whether a page of this very server asks: browsers say where a page came from."""
    try:
        page = urlsplit(origin)
        name = page.hostname or ""
    except ValueError:
        return False
    if page.netloc != host:
        return False
    # A name of somebody's that suddenly means 127.0.0.1 is how a foreign page gets in here.
    return not loopback or name == "localhost" or _is_loopback_address(name)


def _is_loopback_address(name: str) -> bool:
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


async def send_response(
    stream: trio.abc.Stream, status: int, reason: str, body: str = "", *, version: str = ""
) -> None:
    """Answer with a short text and close."""
    extra = f"Sec-WebSocket-Version: {version}\r\n" if version else ""
    text = (
        f"HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body.encode())}\r\nConnection: close\r\n{extra}\r\n{body}"
    )
    with trio.move_on_after(HEAD_SECONDS):
        await stream.send_all(text.encode())
