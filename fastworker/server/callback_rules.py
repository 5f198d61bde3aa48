"""Where callbacks may go: the submitter's own address, loopback for loopback, and what is listed.

A name is looked up once, when the job is submitted; what is dialled later is the address found
then, after the same rules have been asked again. Some addresses are refused whatever the list says:
those that mean a link, a group or nobody, and those where clouds keep credentials.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import trio

from fastworker.errors import Forbidden, InvalidAddress, InvalidOption
from fastworker.wire.callback_addresses import CallbackAddress, parse_callback_address

LOOKUP_SECONDS: Final = 5.0
"""For the name of a callback's host."""

MAX_HOSTS_PER_SUBMISSION: Final = 32
"""Of up to 1,000 jobs; each may cost a question to a name server."""

LOOKUPS_AT_ONCE: Final = 8
"""Threads that wait for name servers, which a submitter may have chosen."""

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
LookUp = Callable[[str, int], Awaitable[list[IPAddress]]]

_NEVER: Final = tuple(
    map(
        ipaddress.ip_network,
        (
            *("0.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4"),
            *("::/128", "fe80::/10", "fec0::/10", "ff00::/8"),
            # Metadata of clouds that is not link-local.
            *("100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32"),
            *("fd00:ec2::254/128", "fd20:ce::254/128"),
        ),
    )
)
_NAT64: Final = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("64:ff9b:1::/48"))
_COMPATIBLE: Final = ipaddress.ip_network("::/96")
_IPV4_MASK: Final = 0xFFFF_FFFF


@dataclass(frozen=True, slots=True)
class CallbackTarget:
    """A callback's address with what was found out when the job was submitted.

    Args:
        found: the IP address to dial.
        submitter: the IP address it was submitted from; None: not over a network.
    """

    address: CallbackAddress
    found: IPAddress
    submitter: IPAddress | None

    @property
    def stored(self) -> str:
        """As one text, kept with the job; see `stored_target`."""
        return f"{self.address.url} {self.found} {self.submitter or '-'}"


def stored_target(text: str) -> CallbackTarget:
    """Read back what `CallbackTarget.stored` wrote.

    Raises:
        InvalidAddress: it was written by a version that did not look names up for TLS.
    """
    url, _, rest = text.partition(" ")
    address = parse_callback_address(url)
    try:
        if not rest:
            # Of a version that kept nothing but the address, after the same rule.
            found = ipaddress.ip_address(address.host)
            return CallbackTarget(address, found, found)
        host, _, submitter = rest.partition(" ")
        own = None if submitter == "-" else ipaddress.ip_address(submitter)
        return CallbackTarget(address, ipaddress.ip_address(host), own)
    except ValueError as error:
        raise InvalidAddress(f"callback address {address.origin}: {error}") from None


class CallbackRules:
    """The rules of one control plane.

    Args:
        allowed: ``--callback-allow``: hosts or ``host:port``.
        look_up: for tests.

    Raises:
        InvalidOption: an entry is neither.
    """

    def __init__(self, allowed: Iterable[str], look_up: LookUp | None = None) -> None:
        self._listed = [_listed(text) for text in allowed]
        hosts = {entry.host for entry in self._listed}
        self._look_up = _SystemNames(hosts) if look_up is None else look_up

    def one_look_each(self) -> LookUp:
        """For the addresses of one submission: each name is looked up once, all in one time."""
        return _OneLookEach(self._look_up)

    async def resolve(
        self, text: str, submitter: str | None, look_up: LookUp | None = None
    ) -> CallbackTarget:
        """What to dial for this address, looked up here and never again.

        Args:
            submitter: the submitter's IP address.
            look_up: see `one_look_each`.

        Raises:
            InvalidAddress: it cannot be parsed, or its name, which is listed, is not known.
            InvalidOption: too many names in one submission.
            Forbidden: the rules do not allow it.
        """
        address = parse_callback_address(text)
        own = None if submitter is None else _plain(submitter.partition("%")[0])
        try:
            found = await (look_up or self._look_up)(address.host, address.port)
        except (OSError, trio.TooSlowError) as error:
            if self._names(address):
                raise InvalidAddress(
                    f"callback address {address.origin}: this host name cannot be looked up from "
                    "the control plane"
                ) from error
            found = []  # which names are known here is nobody's business
        for candidate in sorted(found, key=lambda ip: (ip != own, _family(ip) != _family(own))):
            target = CallbackTarget(address, candidate, own)
            if self.permits(target):
                return target
        raise Forbidden(
            f"callbacks to {address.origin} are not allowed from here: only the submitter's own "
            "address, or hosts that the control plane lists with --callback-allow"
        )

    def permits(self, target: CallbackTarget) -> bool:
        """The rule, for an address that has been looked up."""
        found = target.found
        if is_never_called(found):
            return False
        own = target.submitter
        if own is not None and (found == own or (own.is_loopback and found.is_loopback)):
            return True
        return any(entry.allows(target.address, found) for entry in self._listed)

    def _names(self, address: CallbackAddress) -> bool:
        return any(entry.names(address) for entry in self._listed)


class _OneLookEach:
    """Remembers what names were found to be, for as long as it lives."""

    def __init__(self, look_up: LookUp) -> None:
        self._look_up = look_up
        self._found: dict[str, list[IPAddress] | Exception] = {}
        self._until = trio.current_time() + LOOKUP_SECONDS

    async def __call__(self, host: str, port: int) -> list[IPAddress]:
        """See `_SystemNames`."""
        if host not in self._found:
            if len(self._found) >= MAX_HOSTS_PER_SUBMISSION:
                raise InvalidOption(
                    f"one submission may have callbacks to {MAX_HOSTS_PER_SUBMISSION} hosts; "
                    "submit jobs for others by themselves"
                )
            try:
                with trio.fail_at(self._until):
                    self._found[host] = await self._look_up(host, port)
            except (OSError, trio.TooSlowError) as error:
                self._found[host] = error
        found = self._found[host]
        if isinstance(found, Exception):
            raise found
        return found


@dataclass(frozen=True, slots=True)
class _Listed:
    """One entry of ``--callback-allow``."""

    host: str
    port: int | None
    found: IPAddress | None
    """The entry itself, if it is an IP address."""

    def names(self, address: CallbackAddress) -> bool:
        return self.port in (None, address.port) and self.host == address.host

    def allows(self, address: CallbackAddress, found: IPAddress) -> bool:
        if self.found is not None:
            return self.port in (None, address.port) and self.found == found
        # Whoever answers for a name may say loopback; only this name says it by itself.
        return self.names(address) and (not found.is_loopback or self.host == "localhost")


def _listed(text: str) -> _Listed:
    entry = text.strip()
    bare = entry.count(":") > 1 and not entry.startswith("[")
    has_port = not bare and ":" in entry.rpartition("]")[2]
    host = f"[{entry}]" if bare else entry
    try:
        address = parse_callback_address(f"tcp://{host if has_port else f'{host}:1'}")
    except InvalidAddress as error:
        raise InvalidOption(
            f"--callback-allow: {text!a:.80} is neither a host nor host:port ({error})"
        ) from None
    try:
        found = _plain(address.host)
    except ValueError:
        found = None
    return _Listed(address.host, address.port if has_port else None, found)


def is_never_called(address: IPAddress) -> bool:
    """Whether this address, or an IPv4 address inside it, is refused whatever is listed."""
    if any(address in network for network in _NEVER if network.version == address.version):
        return True
    return any(inner.is_loopback or is_never_called(inner) for inner in _inside(address))


def _inside(address: IPAddress) -> Iterator[ipaddress.IPv4Address]:
    """The IPv4 addresses that routers and translators may find in an IPv6 address."""
    if address.version == 4 or address.is_loopback:
        return
    last = ipaddress.IPv4Address(int(address) & _IPV4_MASK)
    if address in _COMPATIBLE or any(address in network for network in _NAT64):
        yield last
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo


def _plain(text: str) -> IPAddress:
    address = ipaddress.ip_address(text)
    mapped = address.ipv4_mapped if address.version == 6 else None
    return address if mapped is None else mapped


def _family(address: IPAddress | None) -> int:
    return 0 if address is None else address.version


class _SystemNames:
    """Asks the system, in threads of one control plane.

    Args:
        listed: hosts of ``--callback-allow``. They have threads of their own: name servers that
            never answer hold up no others.
    """

    def __init__(self, listed: Collection[str]) -> None:
        self._listed = listed
        self._threads = trio.CapacityLimiter(LOOKUPS_AT_ONCE)
        self._listed_threads = trio.CapacityLimiter(LOOKUPS_AT_ONCE)

    async def __call__(self, host: str, port: int) -> list[IPAddress]:
        """The addresses of a host, in the system's order.

        Raises:
            OSError: it is not known.
            trio.TooSlowError: nobody says so in time.
        """
        try:
            return [_plain(host)]
        except ValueError:
            pass
        threads = self._listed_threads if host in self._listed else self._threads
        with trio.fail_after(LOOKUP_SECONDS):
            answers = await trio.to_thread.run_sync(
                _ask_system, host, port, abandon_on_cancel=True, limiter=threads
            )
        return [_plain(answer) for answer in answers]


def _ask_system(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # a label that is empty or too long
        raise OSError(str(error)) from error
    return [str(answer[4][0]).partition("%")[0] for answer in found]
