"""A WebSocket over an anyio stream, for either end: websockets' Sans-I/O protocol does the rest.

Frames are whole binary messages. A send that is cancelled half-way leaves the stream unusable;
the transport knows, and then closes without a closing handshake.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
from typing import Final

import anyio
from anyio.abc import ByteStream, SocketAttribute
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, InvalidStatus
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import Protocol, State
from websockets.typing import Subprotocol
from websockets.uri import WebSocketURI

from fastworker.errors import ControlPlaneUnavailable
from fastworker.tls import (
    UPGRADE_TO_TLS,
    CertificateFiles,
    dialler_context,
    left_opening,
    wants_tls,
)
from fastworker.wire.addresses import Address
from fastworker.wire.messages import SUBPROTOCOL

MAX_MESSAGE_BYTES: Final = 1_048_576
"""Of one WebSocket message; peers send at most 256 KiB."""

RECEIVE_BYTES: Final = 262_144

QUIET: Final = logging.getLogger("fastworker.client.websocket")
"""The library's own records: at DEBUG they would hold every frame, with arguments and results."""
QUIET.setLevel(logging.WARNING)

CLOSE_SECONDS: Final = 1.0
"""For the closing handshake: nobody waits for a peer that is gone."""

UNSENT_MILLISECONDS: Final = 15_000
"""Bytes the peer's kernel has not taken for this long end the connection (TCP_USER_TIMEOUT)."""


STRANGER_BYTES: Final = 8 * 1024
"""Read in one go from somebody who has proved nothing: a thousand frames, if they are empty."""

STRANGER_FRAMES: Final = 64
"""All that such a one may send: one message, in pieces."""


class WebSocketTransport:
    """Whole frames over a WebSocket. One task may send while another receives.

    Args:
        stranger: whether the peer has proved nothing yet: see `proved`.
    """

    def __init__(self, stream: ByteStream, protocol: Protocol, *, stranger: bool = False) -> None:
        self._stream = stream
        self._protocol = protocol
        self._sending = anyio.Lock(fast_acquire=True)
        self._broken = False
        self._events: list[Request | Response | Frame] = []
        self._fragments: list[bytes] = []
        self._receive_bytes = STRANGER_BYTES if stranger else RECEIVE_BYTES
        self._frames_left: int | None = STRANGER_FRAMES if stranger else None

    def proved(self) -> None:
        """The peer has shown who it is: it may send as much as it likes."""
        self._receive_bytes, self._frames_left = RECEIVE_BYTES, None

    async def send(self, frame: bytes) -> None:
        """Send one binary message.

        Raises:
            ConnectionError: the connection has ended.
        """
        if self._broken or self._protocol.state is not State.OPEN:
            raise ConnectionError(self._ended())
        self._protocol.send_binary(frame)
        await self.flush()

    async def receive(self) -> bytes:
        """The next binary message.

        Raises:
            ConnectionError: the connection ended, or the peer broke the rules.
        """
        while True:
            event = await self.next_event()
            if not isinstance(event, Frame):
                continue
            if self._frames_left is not None:
                self._frames_left -= 1
                if self._frames_left < 0:
                    raise ConnectionError("too many frames came before one that proves anything")
            if event.opcode is Opcode.TEXT:
                raise ConnectionError("the peer sent text; only binary messages are spoken here")
            if event.opcode not in (Opcode.BINARY, Opcode.CONT):
                continue
            if event.fin and not self._fragments:
                return bytes(event.data)
            self._fragments.append(bytes(event.data))
            if event.fin:
                whole = b"".join(self._fragments)
                self._fragments.clear()
                return whole

    async def next_event(self) -> Request | Response | Frame:
        """The next thing the peer said, opening handshake included.

        Raises:
            ConnectionError: no more will come.
        """
        while not self._events:
            if self._protocol.close_expected() and self._protocol.state is not State.CONNECTING:
                raise ConnectionError(self._ended())
            try:
                self._protocol.receive_data(await self._stream.receive(self._receive_bytes))
            except anyio.EndOfStream:
                self._protocol.receive_eof()
            except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
                raise ConnectionError(f"the connection broke ({error.__cause__ or error!r})") from (
                    error
                )
            self._events = self._protocol.events_received()
            self._events.reverse()
            await self.flush()
            if not self._events and self._protocol.state is State.CLOSED:
                raise ConnectionError(self._ended())
        return self._events.pop()

    async def flush(self) -> None:
        """Send what the protocol has to say; raises `ConnectionError` when it cannot."""
        chunks = self._protocol.data_to_send()
        data = b"".join(chunks)
        if not data:
            return
        # Bytes leave the protocol and enter the stream in one order only if nobody overtakes:
        # the lock is fair, and whoever waits here took its bytes before the next one did.
        finished = False
        try:
            async with self._sending:
                await self._stream.send(data)
            finished = True
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise ConnectionError(f"the connection broke ({error.__cause__ or error!r})") from error
        finally:
            self._broken = self._broken or not finished

    def _ended(self) -> str:
        code, reason = self._protocol.close_code, self._protocol.close_reason
        if code is None or code == CloseCode.ABNORMAL_CLOSURE:
            return "the other side ended the connection"
        return f"the other side closed the connection ({code} {reason})".replace(" )", ")")

    async def aclose(self) -> None:
        """Say goodbye if that is still possible, and close; a second call does nothing."""
        with anyio.move_on_after(CLOSE_SECONDS, shield=True):
            if not self._broken and self._protocol.state is State.OPEN:
                with contextlib.suppress(ConnectionError):
                    self._protocol.send_close(CloseCode.NORMAL_CLOSURE)
                    await self.flush()
            self._broken = True
        with anyio.CancelScope(shield=True):
            await anyio.aclose_forcefully(self._stream)


async def open_websocket(address: Address, tls: ssl.SSLContext | None) -> WebSocketTransport:
    """Connect to the control plane at ``address``, up to the WebSocket.

    Raises:
        ControlPlaneUnavailable: it answers, but does not speak our protocol.
        OSError: nothing answers, or TLS fails.
    """
    stream = await _open_stream(address, tls)
    protocol = ClientProtocol(
        WebSocketURI(address.tls, address.host, address.port, "/", ""),
        subprotocols=[Subprotocol(SUBPROTOCOL)],
        max_size=MAX_MESSAGE_BYTES,
        logger=QUIET,
    )
    transport = WebSocketTransport(stream, protocol)
    try:
        protocol.send_request(protocol.connect())
        await transport.flush()
        await transport.next_event()
        _check_opening(address, protocol)
    except BaseException:
        await transport.aclose()
        raise
    return transport


async def _open_stream(address: Address, tls: ssl.SSLContext | None) -> ByteStream:
    try:
        if not address.tls:
            stream: ByteStream = await anyio.connect_tcp(address.host, address.port)
        else:
            context = dialler_context(CertificateFiles()) if tls is None else tls
            stream = await anyio.connect_tcp(
                address.host, address.port, ssl_context=context, tls_standard_compatible=False
            )
    except anyio.EndOfStream as error:
        raise left_opening(str(address)) from error
    except anyio.BrokenResourceError as error:
        raise ConnectionError(f"the connection broke ({error.__cause__ or error!r})") from error
    raw = stream.extra(SocketAttribute.raw_socket, None)
    if raw is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNSENT_MILLISECONDS)
    return stream


def _check_opening(address: Address, protocol: ClientProtocol) -> None:
    failed = protocol.handshake_exc
    if isinstance(failed, InvalidStatus) and _names_tls(failed):
        raise wants_tls(str(address)) from failed
    if isinstance(failed, InvalidHandshake):
        raise ControlPlaneUnavailable(
            f"what answers at {address} is no control plane ({failed}); check the address"
        ) from failed
    if failed is not None:
        raise ConnectionError(f"no answer to the opening of the WebSocket ({failed})") from failed
    if protocol.subprotocol != SUBPROTOCOL:
        raise ControlPlaneUnavailable(
            f"what answers at {address} is a WebSocket server, but does not speak {SUBPROTOCOL}; "
            "is this the control plane's address?"
        )


def _names_tls(rejected: InvalidStatus) -> bool:
    """Whether a port with TLS has answered that it is one."""
    return UPGRADE_TO_TLS in rejected.response.headers.get_all("Upgrade")
