"""Where callbacks go: a listener (``tcp://host:port``, ``wss://…``) or a webhook (``https://…``).

Stricter than `wire/addresses.py`, because these come from whoever may submit: every spelling of an
IP address but the usual one is refused, so that what is read is what is dialled. Nothing is looked
up here.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from fastworker.errors import InvalidAddress
from fastworker.wire.addresses import Address, parse_address

MAX_WEBHOOK_CHARACTERS: Final = 2_000
"""What servers commonly take as the target of a request."""

_TLS_BY_SCHEME: Final = {"http": False, "https": True}
_DEFAULT_PORTS: Final = {False: 80, True: 443}
_AUTHORITY_ENDS: Final = re.compile(r"[/?]")
_TARGET: Final = re.compile(r"[!-~]*\Z")
_NUMBER: Final = re.compile(r"([0-9]+|0[xX][0-9A-Fa-f]*)\Z")
"""What ends a host that C libraries and browsers read as an IPv4 address, in whatever base."""


@dataclass(frozen=True, slots=True)
class CallbackAddress:
    """One of them.

    Args:
        host: a name in lower case without a final dot, or an IP address without brackets.
        target: path and query of a webhook; None: a listener.
    """

    host: str
    port: int
    tls: bool
    target: str | None = None

    @property
    def is_webhook(self) -> bool:
        """Whether it is called by HTTP."""
        return self.target is not None

    @property
    def origin(self) -> str:
        """Without path and query, which may hold a secret: for logs and lists."""
        if self.target is None:
            return str(Address(self.host, self.port, self.tls))
        return f"{'https' if self.tls else 'http'}://{self.authority}"

    @property
    def authority(self) -> str:
        """Host and port as the ``Host`` header has them; the usual port is left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        if self.target is not None and self.port == _DEFAULT_PORTS[self.tls]:
            return host
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The whole of it, to be parsed again."""
        if self.target is None:
            return Address(self.host, self.port, self.tls).url
        return f"{self.origin}{self.target}"


def parse_callback_address(text: str) -> CallbackAddress:
    """Read one.

    Raises:
        InvalidAddress: a sentence with what is wrong with it.
    """
    scheme, _, rest = text.partition("://")
    tls = _TLS_BY_SCHEME.get(scheme.lower())
    if tls is None:
        listener = parse_address(text)
        return _checked(listener.host, listener.port, listener.tls, None)
    if len(text) > MAX_WEBHOOK_CHARACTERS:
        raise InvalidAddress(
            f"a webhook's address has {len(text)} characters; at most {MAX_WEBHOOK_CHARACTERS}"
        )
    ending = _AUTHORITY_ENDS.search(rest)
    authority = rest if ending is None else rest[: ending.start()]
    target = "" if ending is None else rest[ending.start() :]
    if "@" in authority:
        # The text may hold a password, so it is not repeated.
        raise InvalidAddress(
            "a webhook's address holds a user or a password before '@'; leave them out, and "
            "check the signature at the receiver instead"
        )
    if not _TARGET.match(target) or "#" in target or "\\" in target:
        raise InvalidAddress(
            "a webhook's address has a character in its path or query that must be written as "
            "%XX, or a part after '#'"
        )
    host, port = _split(authority, _DEFAULT_PORTS[tls])
    return _checked(host, port, tls, target if target.startswith("/") else f"/{target}")


def _split(authority: str, default_port: int) -> tuple[str, int]:
    try:
        found = parse_address(f"tcp://{authority}", default_port=default_port)
    except InvalidAddress:
        raise InvalidAddress(
            f"webhook address {authority!a:.80} has a host or port that cannot be one; write it "
            "as https://host[:port]/path, a name that is not ASCII in its xn-- form"
        ) from None
    return found.host, found.port


def _checked(host: str, port: int, tls: bool, target: str | None) -> CallbackAddress:
    plain = host.lower().removesuffix(".")
    if port == 0:
        raise InvalidAddress(f"callback address {host!a:.80} has port 0, which nobody listens on")
    if ":" in plain and "%" not in plain:
        return CallbackAddress(str(ipaddress.IPv6Address(plain)), port, tls, target)
    # An empty label: of several final dots each reader would take another number away.
    is_name = ":" not in plain and "" not in plain.split(".")
    if not is_name or (_looks_numeric(plain) and not _is_ipv4(plain)):
        raise InvalidAddress(
            f"callback address {host!a:.80} is no host name, and no IP address in its usual form; "
            "write four decimal numbers such as 10.0.0.7, or IPv6 in brackets without a zone"
        )
    return CallbackAddress(plain, port, tls, target)


def _looks_numeric(host: str) -> bool:
    return _NUMBER.match(host.rpartition(".")[2]) is not None


def _is_ipv4(host: str) -> bool:
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True
