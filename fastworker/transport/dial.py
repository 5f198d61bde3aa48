"""Dialling a control plane: TCP, TLS where the address says so, WebSocket, mutual handshake.

What comes out is a `Link` both ends of which have proved that they hold the token. What to say
over it is the caller's business.
"""

from __future__ import annotations

import math
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, TypeAlias, TypeVar, cast

import trio
from trio_websocket import ConnectionRejected, HandshakeError, WebSocketConnection
from trio_websocket import wrap_client_stream as wrap_websocket

from fastworker.errors import (
    AuthenticationFailed,
    ControlPlaneUnavailable,
    FastWorkerError,
    ProtocolError,
    UnsupportedVersion,
)
from fastworker.tls import (
    UPGRADE_TO_TLS,
    CertificateFiles,
    dialler_context,
    explain_tls,
    left_opening,
    wants_tls,
)
from fastworker.transport.link import FrameStream, Link, LinkClosed
from fastworker.transport.websocket import (
    CLOSE_SECONDS,
    MAX_WEBSOCKET_MESSAGE_BYTES,
    MESSAGE_QUEUE_SIZE,
    RECEIVE_BUFFER_BYTES,
    WebSocketFrames,
)
from fastworker.wire.addresses import Address
from fastworker.wire.handshake import DialerHandshake
from fastworker.wire.messages import SUBPROTOCOL, Challenge, Message, Problem, Welcome

CONNECT_SECONDS: Final = 5.0
"""From the first packet to `Welcome`: an unreachable address must not look like a slow one."""

UNSENT_MILLISECONDS: Final = 15_000
"""Bytes the peer's kernel has not taken for this long end the connection (TCP_USER_TIMEOUT)."""

MAX_OPENING_BYTES: Final = RECEIVE_BUFFER_BYTES
"""What may answer the opening of a WebSocket, such as a page that says why it was refused."""

MAX_SHORT_MESSAGE_BYTES: Final = 4096
"""From a listener for callbacks, which has nothing to say but an acknowledgement."""

GOODBYE_SECONDS: Final = 0.1
"""For the last frame alone, once cancelled: the peer's answer could not be read any more."""

_M = TypeVar("_M", bound=Message)
_Stream: TypeAlias = trio.SocketStream | trio.SSLStream[trio.SocketStream]


@asynccontextmanager
async def open_link(
    address: Address, *, role: str, token: str, agent: str, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[Link, Welcome]]:
    """Connect to the control plane at ``address`` and prove who we are to each other.

    The link's writer runs while the block runs; leaving the block, by any way, closes the
    connection. Inside the block the end of the connection shows as `LinkClosed` from `receive`.

    Args:
        role: ``"client"`` or ``"subworker"``.
        token: ``id.secret``; never sent.
        agent: program and version, for the control plane's list of peers.
        tls: for ``wss://`` addresses; None verifies against the system's authorities.

    Raises:
        ControlPlaneUnavailable: nothing there speaks our protocol, within `CONNECT_SECONDS`.
        AuthenticationFailed: one side's token is not the other's, or a certificate is not accepted.
        UnsupportedVersion: no protocol version in common.
    """
    standing = False
    try:
        async with AsyncExitStack() as closing, trio.open_nursery() as nursery:
            with trio.fail_after(CONNECT_SECONDS):
                stream = await _open_stream(address, tls)
                # The library leaves the socket open if the peer has closed first.
                closing.push_async_callback(trio.aclose_forcefully, stream)
                websocket = await _open_websocket(nursery, stream, address)
                link = _start_link(nursery, WebSocketFrames(websocket, stream), str(address))
                welcome = await _shake_hands(link, DialerHandshake(role, token, os.urandom, agent))
            standing = True
            try:
                yield link, welcome
            finally:
                # Cancellation has ended the connection's reader with everything else in here.
                cancelled = trio.current_effective_deadline() == -math.inf
                seconds = GOODBYE_SECONDS if cancelled else CLOSE_SECONDS
                with trio.move_on_after(seconds, shield=True):
                    await link.aclose()
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        error = _the_one_error(group)
        raise (error if standing else _explain(address, error)) from None
    except (OSError, trio.TooSlowError, trio.BrokenResourceError, HandshakeError) as error:
        if standing:
            raise
        raise _explain(address, error) from error


@asynccontextmanager
async def open_frames(
    address: Address, *, tls: ssl.SSLContext | None = None, name: str | None = None
) -> AsyncIterator[WebSocketFrames]:
    """A WebSocket of ours without any handshake above it: to a listener for callbacks.

    Leaving the block, by any way, closes the connection and its socket.

    Args:
        tls: for ``wss://`` addresses; None verifies against the system's authorities.
        name: which name its certificate must hold; None: the address's host.

    Raises:
        ControlPlaneUnavailable: what answers does not speak our protocol.
        OSError: nothing answers; this and all others may come in a group.
    """
    async with AsyncExitStack() as closing, trio.open_nursery() as nursery:
        stream = await _open_stream(address, tls, name)
        # The library leaves the socket open if the peer has closed first.
        closing.push_async_callback(trio.aclose_forcefully, stream)
        websocket = await _open_websocket(nursery, stream, address, MAX_SHORT_MESSAGE_BYTES)
        frames = WebSocketFrames(websocket, stream)
        try:
            yield frames
        finally:
            with trio.move_on_after(CLOSE_SECONDS, shield=True):
                await frames.aclose()
            nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_link_over(
    frames: FrameStream, *, name: str, role: str, token: str, agent: str
) -> AsyncIterator[tuple[Link, Welcome]]:
    """`open_link` over frames that stand already, without a network: in tests.

    Raises:
        as `open_link`.
    """
    standing = False
    try:
        async with trio.open_nursery() as nursery:
            link = _start_link(nursery, frames, name)
            try:
                with trio.fail_after(CONNECT_SECONDS):
                    handshake = DialerHandshake(role, token, os.urandom, agent)
                    welcome = await _shake_hands(link, handshake)
                standing = True
                yield link, welcome
            finally:
                with trio.CancelScope(shield=True):
                    await link.aclose()
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        error = _the_one_error(group)
        raise (error if standing else _explain(name, error)) from None


async def _open_stream(
    address: Address, tls: ssl.SSLContext | None, name: str | None = None
) -> _Stream:
    plain = await trio.open_tcp_stream(address.host, address.port)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNSENT_MILLISECONDS)
    if not address.tls:
        return plain
    context = tls if tls is not None else dialler_context(CertificateFiles())
    stream = trio.SSLStream(
        plain, context, server_hostname=name or address.host, https_compatible=True
    )
    try:
        await stream.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(plain)
        raise
    return stream


async def _open_websocket(
    nursery: trio.Nursery,
    stream: _Stream,
    address: Address,
    max_message_bytes: int = MAX_WEBSOCKET_MESSAGE_BYTES,
) -> WebSocketConnection:
    with trio.CancelScope() as opening:
        # Any stream will do, though the library says otherwise.
        watched = _WatchedStream(stream, on_end=opening.cancel)
        websocket = await wrap_websocket(
            nursery,
            cast("_Stream", watched),
            _host_header(address),
            "/",
            subprotocols=[SUBPROTOCOL],
            message_queue_size=MESSAGE_QUEUE_SIZE,
            max_message_size=max_message_bytes,
            receive_buffer_size=RECEIVE_BUFFER_BYTES,
        )
    watched.left = None
    if opening.cancelled_caught:
        # With TLS 1.3 a listener refuses our certificate after the handshake has ended here.
        refused = watched.broken and explain_tls(watched.broken, str(address))
        raise refused or left_opening(str(address))
    if websocket.subprotocol != SUBPROTOCOL:
        raise ControlPlaneUnavailable(
            f"what answers at {address} is a WebSocket server, "
            f"but does not speak {SUBPROTOCOL}; is this the control plane's address?"
        )
    return websocket


class _WatchedStream(trio.abc.Stream):
    """A stream that tells of its end: while opening, the library would wait on after it."""

    def __init__(self, stream: _Stream, on_end: Callable[[], None]) -> None:
        self._stream = stream
        self._on_end = on_end
        self.broken: BaseException | None = None
        """How it ended, if not well."""
        self.left: int | None = MAX_OPENING_BYTES
        """What may still come before the connection is open: the library would keep it all."""

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        try:
            data = bytes(await self._stream.receive_some(max_bytes))
        except trio.BrokenResourceError as error:
            self.broken = error
            self._on_end()
            raise
        if self.left is not None:
            self.left -= len(data)
        if not data or (self.left is not None and self.left < 0):
            self._on_end()
            return b""
        return data

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        try:
            await self._stream.send_all(data)
        except trio.BrokenResourceError:
            self._on_end()
            raise

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self._stream.aclose()


def _host_header(address: Address) -> str:
    host = f"[{address.host}]" if ":" in address.host else address.host
    return f"{host}:{address.port}"


def _start_link(nursery: trio.Nursery, frames: FrameStream, name: str) -> Link:
    link = Link(frames, name=name)
    link.on_overflow = lambda: nursery.start_soon(link.aclose, 1008, "too much left unread")
    nursery.start_soon(_write, link)
    return link


async def _write(link: Link) -> None:
    # A writer that fails closes the connection; its reader then says so to the caller.
    try:
        await link.write_forever()
    except (LinkClosed, trio.TooSlowError):
        await link.aclose()


async def _shake_hands(link: Link, handshake: DialerHandshake) -> Welcome:
    link.send(handshake.hello())
    challenge = await _expect(link, Challenge)
    link.send(handshake.receive(challenge))
    return await _expect(link, Welcome)


async def _expect(link: Link, kind: type[_M]) -> _M:
    messages = await link.receive()
    match messages:
        case [Problem() as problem, *_]:
            raise _refusal(problem, link.name)
        case [message] if isinstance(message, kind):
            return message
    seen = ", ".join(type(message).__name__ for message in messages[:3]) or "an empty frame"
    raise ProtocolError(f"expected {kind.__name__} from {link.name}, not {seen}")


def _refusal(problem: Problem, name: str) -> FastWorkerError:
    text = f"{name} refused the connection: {problem.message}"
    match problem.code:
        case AuthenticationFailed.code | "forbidden":
            return AuthenticationFailed(text)
        case UnsupportedVersion.code:
            return UnsupportedVersion(text)
    return ControlPlaneUnavailable(text)


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _the_one_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What a nursery's group says, if it says one thing; being cancelled outdoes the network."""
    leaves = list(_leaves(group))
    weightier = [leaf for leaf in leaves if not isinstance(leaf, LinkClosed | OSError)]
    if not weightier:
        return leaves[0]
    # Two ends of the same kind are one end; of different kinds, nobody may lose either.
    return weightier[0] if len({type(leaf) for leaf in weightier}) == 1 else group


def _explain(address: Address | str, error: BaseException) -> BaseException:
    """The failure to connect as one of our errors; anything unexpected stays what it is."""
    of_tls = explain_tls(error, str(address))
    if of_tls is not None:
        return of_tls
    match error:
        case ConnectionRejected() if _names_tls(error):
            return wants_tls(str(address))
        case ConnectionRejected():
            what = f"it answered HTTP status {error.status_code}"
        case trio.TooSlowError() | HandshakeError():
            what = f"no answer within {CONNECT_SECONDS:g} s"
        case trio.BrokenResourceError():
            what = f"the connection broke ({error.__cause__ or error})"
        case LinkClosed():
            what = f"during the handshake {error}"
        case OSError():
            what = error.strerror or str(error)
        case _:
            return error
    return ControlPlaneUnavailable(
        f"no control plane can be reached at {address}: {what}; "
        "start one with `fastworker run control-plane`, or check the address"
    )


def _names_tls(rejected: ConnectionRejected) -> bool:
    """Whether a port with TLS has answered that it is one."""
    found = (value for name, value in rejected.headers if name.lower() == b"upgrade")
    return UPGRADE_TO_TLS.encode() in found
