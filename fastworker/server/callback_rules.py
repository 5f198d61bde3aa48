"""Where callbacks may go: the submitter's own address, loopback for loopback, and what is listed.

A name is looked up once, when the job is submitted; what is dialled later is the address found
then. Link-local addresses (cloud metadata lives there) are refused whatever the list says.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from typing import Final

import trio

from fastworker.errors import Forbidden, InvalidAddress
from fastworker.wire.addresses import Address, parse_address

LOOKUP_SECONDS: Final = 5.0
"""For the name of a callback's host."""

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


async def resolve_callback(address: str, submitter: str | None, allowed: Sequence[str]) -> str:
    """The address to dial, its host an IP address.

    Args:
        address: as the submitter gave it.
        submitter: the submitter's IP address.
        allowed: ``--callback-allow``: hosts or ``host:port``.

    Raises:
        InvalidAddress: it cannot be parsed, or its name is not known.
        Forbidden: the rules do not allow it.
    """
    wanted = parse_address(address)
    found = await _look_up(wanted)
    listed = wanted.host in allowed or f"{wanted.host}:{wanted.port}" in allowed
    if not is_allowed(found, submitter, listed=listed):
        raise Forbidden(
            f"callbacks to {wanted} are not allowed from here: only the submitter's own address, "
            "or hosts that the control plane lists with --callback-allow"
        )
    if wanted.tls:
        # The name is needed to check the certificate, which proves who answers.
        return wanted.url
    return Address(str(found), wanted.port).url


def is_allowed(found: IPAddress, submitter: str | None, *, listed: bool) -> bool:
    """The rule, for an address that has been looked up."""
    if found.is_link_local or found.is_multicast or found.is_unspecified:
        return False
    if listed:
        return True
    if submitter is None:
        return False
    own = _plain(ipaddress.ip_address(submitter.partition("%")[0]))
    return found == own or (own.is_loopback and found.is_loopback)


def _plain(address: IPAddress) -> IPAddress:
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped if mapped is not None else address


async def _look_up(wanted: Address) -> IPAddress:
    try:
        return _plain(ipaddress.ip_address(wanted.host))
    except ValueError:
        pass
    try:
        with trio.fail_after(LOOKUP_SECONDS):
            answers = await trio.socket.getaddrinfo(
                wanted.host, wanted.port, type=trio.socket.SOCK_STREAM
            )
    except (OSError, trio.TooSlowError) as error:
        raise InvalidAddress(
            f"callback address {wanted}: the host name {wanted.host!r} cannot be looked up "
            "from the control plane"
        ) from error
    return _plain(ipaddress.ip_address(answers[0][4][0]))
