"""From an address to a connection both ends of which have proved that they hold the token."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

import anyio

from fastworker.client.ambient import Lease, Transport, TransportOpener, lease_to_show
from fastworker.client.transport import open_websocket
from fastworker.errors import (
    AuthenticationFailed,
    ControlPlaneUnavailable,
    FastWorkerError,
    ProtocolError,
    UnsupportedVersion,
)
from fastworker.tls import explain_tls
from fastworker.wire.addresses import Address
from fastworker.wire.codec import decode, encode
from fastworker.wire.handshake import DialerHandshake
from fastworker.wire.messages import Challenge, Message, Problem, Welcome

CONNECT_SECONDS: Final = 5.0
"""From the first packet to `Welcome`: an unreachable address must not look like a slow one."""

AGENT: Final = "fastworker-python"

_M = TypeVar("_M", bound=Message)


@dataclass(slots=True)
class Dialled:
    """A connection that stands; ``early`` came together with the welcome."""

    transport: Transport
    name: str
    welcome: Welcome | None = None
    early: list[Message] = field(default_factory=list)
    lease: Lease | None = None
    """What to show over a runner's channel, to see the jobs of its tenant."""


class Dialler:
    """Knows where to connect; every call tries the next address.

    Args:
        addresses: best first.
        token_for: the token for an address; called at each try, so that a local token that a
            control plane makes at its start is found.
        tls: gives the context for ``wss://`` addresses, at each try.
        opener: a runner's own channel; replaces everything else.
        tenant: of the job that uses that channel.
        open_transport: connects without a network; the handshake follows as ever.
    """

    def __init__(
        self,
        addresses: list[Address],
        token_for: Callable[[Address], str],
        *,
        tls: Callable[[], ssl.SSLContext] | None = None,
        opener: TransportOpener | None = None,
        tenant: str | None = None,
        open_transport: TransportOpener | None = None,
    ) -> None:
        self._addresses = addresses
        self._token_for = token_for
        self._tls = tls
        self._opener = opener
        self._tenant = tenant
        self._open_transport = open_transport
        self._next = 0

    @property
    def places(self) -> str:
        """Where it dials, for messages."""
        if self._opener is not None:
            return "the runner's channel"
        return ", ".join(map(str, self._addresses))

    @property
    def count(self) -> int:
        """How many places there are to try."""
        return 1 if self._opener is not None else len(self._addresses)

    async def dial(self) -> Dialled:
        """Connect to the next address.

        Raises:
            FastWorkerError: in a sentence, why that did not work; nothing is left open.
        """
        if self._opener is not None:
            try:
                lease = lease_to_show(self._tenant)
                return Dialled(await self._opener(), self.places, lease=lease)
            except OSError as error:
                raise ControlPlaneUnavailable(f"the runner's channel failed: {error}") from error
        address = self._addresses[self._next % len(self._addresses)]
        self._next += 1
        token = self._token_for(address)
        try:
            with anyio.fail_after(CONNECT_SECONDS):
                dialled = await _shake_hands(await self._connect(address), address, token)
        except TimeoutError as error:
            raise _unreachable(address, f"no answer within {CONNECT_SECONDS:g} s") from error
        except OSError as error:
            of_tls = explain_tls(error, str(address))
            raise of_tls or _unreachable(address, _why(error)) from error
        self._next -= 1  # a place that worked is tried first after the connection is lost
        return dialled

    async def _connect(self, address: Address) -> Transport:
        if self._open_transport is not None:
            return await self._open_transport()
        context = self._tls() if self._tls is not None and address.tls else None
        return await open_websocket(address, context)


async def _shake_hands(transport: Transport, address: Address, token: str) -> Dialled:
    try:
        handshake = DialerHandshake("client", token, os.urandom, AGENT)
        await transport.send(encode([handshake.hello()]))
        challenge, _ = await _expect(transport, Challenge, address)
        await transport.send(encode([handshake.receive(challenge)]))
        welcome, early = await _expect(transport, Welcome, address)
    except BaseException:
        await transport.aclose()
        raise
    return Dialled(transport, str(address), welcome, early)


async def _expect(
    transport: Transport, kind: type[_M], address: Address
) -> tuple[_M, list[Message]]:
    messages = decode(await transport.receive())
    match messages:
        case [Problem() as problem, *_]:
            raise _refusal(problem, address)
        case [message, *early] if isinstance(message, kind):
            return message, early
    seen = ", ".join(type(message).__name__ for message in messages[:3]) or "an empty frame"
    raise ProtocolError(f"expected {kind.__name__} from {address}, not {seen}")


def _refusal(problem: Problem, address: Address) -> FastWorkerError:
    text = f"{address} refused the connection: {problem.message}"
    if problem.code in (AuthenticationFailed.code, "forbidden"):
        return AuthenticationFailed(text)
    if problem.code == UnsupportedVersion.code:
        return UnsupportedVersion(text)
    return ControlPlaneUnavailable(text)


def _why(error: OSError) -> str:
    """What the system says; anyio's own sentence hides it."""
    cause: BaseException | None = error.__cause__
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    inner = cause if isinstance(cause, OSError) and not error.strerror else error
    if isinstance(inner, ConnectionError) and inner.errno:
        return os.strerror(inner.errno)  # asyncio writes "Connect call failed" there
    return inner.strerror or str(inner)


def _unreachable(address: Address, why: str) -> ControlPlaneUnavailable:
    return ControlPlaneUnavailable(
        f"no control plane can be reached at {address}: {why}; "
        "start one with `fastworker run control-plane`, or check the address"
    )
