"""Addresses as users write them: ``tcp://host:port``, ``ws://…`` (the same) and ``wss://…`` (TLS).

Nothing is resolved or opened here.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from fastworker.errors import InvalidAddress

MAX_ADDRESS_CHARACTERS: Final = 300
"""A host name has at most 253."""

MAX_PORT: Final = 65_535

_TLS_BY_SCHEME: Final = {"tcp": False, "ws": False, "wss": True}
_HOST_NAME: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?\Z")
_AFTER_THE_PORT: Final = re.compile(r"[/?#]")
_PORT: Final = re.compile(r"[0-9]{1,5}\Z")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a control plane or a callback listener is.

    Args:
        host: a name or an IP address, without brackets.
        port: 0 to 65535; 0 lets the system choose and is for listening only.
        tls: whether the connection is encrypted (``wss://``).
    """

    host: str
    port: int
    tls: bool = False

    @property
    def url(self) -> str:
        """As a WebSocket URL: ``ws://host:port`` or ``wss://host:port``."""
        return f"{'wss' if self.tls else 'ws'}://{self._authority}"

    @property
    def is_loopback(self) -> bool:
        """Whether the host, as written, is this machine; names other than localhost are not."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host.lower() == "localhost"

    @property
    def _authority(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{'wss' if self.tls else 'tcp'}://{self._authority}"


def parse_address(text: str, *, default_port: int | None = None) -> Address:
    """Read one address.

    Args:
        default_port: used if the address has none; None: a port is needed.

    Raises:
        InvalidAddress: a sentence with the address and what is wrong with it.
    """
    if len(text) > MAX_ADDRESS_CHARACTERS:
        raise InvalidAddress(
            f"address {text[:40]!a}… has {len(text)} characters; at most {MAX_ADDRESS_CHARACTERS}"
        )
    if "@" in text:
        # The text may hold a password, so it is not repeated.
        raise InvalidAddress(
            "an address holds a user or a password before '@'; leave them out and set the token "
            "with FASTWORKER_TOKEN"
        )
    scheme, separator, rest = text.partition("://")
    if not separator:
        raise _invalid(text, "has no scheme; write it as tcp://host:port")
    if scheme.lower() not in _TLS_BY_SCHEME:
        raise _invalid(text, "starts with an unknown scheme; use tcp://, ws:// or wss://")
    authority = rest.removesuffix("/")
    if any(mark in authority for mark in "/?#"):
        raise _invalid(
            text,
            "has a path or a query; leave off everything after the port, and set a token with "
            "FASTWORKER_TOKEN",
        )
    host, port_text = _host_and_port(text, authority)
    return Address(host, _port(text, port_text, default_port), _TLS_BY_SCHEME[scheme.lower()])


def parse_addresses(text: str, *, default_port: int | None = None) -> list[Address]:
    """Read addresses separated by commas, in order, each once.

    Raises:
        InvalidAddress: one is invalid, or there is none.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise InvalidAddress("a list of addresses has an empty place; separate them by one comma")
    found = (parse_address(part, default_port=default_port) for part in parts)
    return list(dict.fromkeys(found))


def _invalid(text: str, what: str) -> InvalidAddress:
    return InvalidAddress(f"address {_shown(text)!a} {what}")


def _shown(text: str) -> str:
    """Without a path or a query: somebody may have put a token there."""
    scheme, separator, rest = text.rpartition("://")
    kept = _AFTER_THE_PORT.split(rest, maxsplit=1)[0]
    return scheme + separator + kept + ("…" if len(kept) < len(rest) else "")


def _host_and_port(text: str, authority: str) -> tuple[str, str | None]:
    if authority.startswith("["):
        host, bracket, after = authority[1:].partition("]")
        if not bracket or (after and not after.startswith(":")):
            raise _invalid(text, "has an unfinished IPv6 address; write it as tcp://[::1]:port")
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise _invalid(text, "has something in brackets that is no IPv6 address") from None
        return host, after[1:] if after else None
    host, colon, port = authority.partition(":")
    if ":" in port:
        raise _invalid(text, "has several colons; write IPv6 in brackets: tcp://[::1]:port")
    if not host:
        raise _invalid(text, "has no host; write it as tcp://host:port")
    if not _HOST_NAME.match(host):
        raise _invalid(
            text,
            "has a host that is neither a name nor an IP address; "
            "to listen everywhere use 0.0.0.0 or [::]",
        )
    return host, port if colon else None


def _port(text: str, port: str | None, default_port: int | None) -> int:
    if port is None:
        if default_port is None:
            raise _invalid(text, "has no port; write it as tcp://host:port")
        return default_port
    if not _PORT.match(port) or int(port) > MAX_PORT:
        raise _invalid(text, f"has a port that is not a number from 0 to {MAX_PORT}")
    return int(port)
