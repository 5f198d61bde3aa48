"""Where a connection comes from, and what decides whether it may stay."""

from __future__ import annotations

from dataclasses import dataclass

import trio

from fastworker.server.gate import Visit, is_loopback
from fastworker.server.http_head import Head
from fastworker.server.tls import Door


@dataclass(frozen=True, slots=True)
class Caller:
    """One connection before it has become a peer.

    Args:
        peer: for the log.
        host: its IP address.
        dialled: the host it meant to reach, as it says.
        door: the tokens that it may come in with.
        visit: its place among all connections.
    """

    peer: str
    host: str | None
    dialled: str | None
    door: Door
    visit: Visit


def peer_host(stream: trio.abc.Stream) -> str | None:
    """The IP address at the other end; None if there is no network in between."""
    transport = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
    if not isinstance(transport, trio.SocketStream):
        return None
    try:
        return str(transport.socket.getpeername()[0])
    except OSError:
        return None


def is_from_loopback(stream: trio.abc.Stream) -> bool:
    """Whether a connection came over the loopback interface."""
    host = peer_host(stream)
    return host is not None and is_loopback(host)


def peer_name(stream: trio.abc.Stream) -> str:
    """The other end as the log calls it."""
    transport = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
    if not isinstance(transport, trio.SocketStream):
        return "this process"
    try:
        host, port = transport.socket.getpeername()[:2]
    except OSError:
        return "an unknown address"
    return f"{host}:{port}"


def host_of(head: Head) -> str | None:
    """The host a peer dialled, from its Host header."""
    host = head.headers.get("host", "")
    name = host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host
    return name.strip("[]") or None


__all__ = ["Caller", "host_of", "is_from_loopback", "peer_host", "peer_name"]
