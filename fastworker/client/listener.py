"""Opens a port where callbacks arrive: ``ws://`` over anyio, signature checked, acknowledged.

The control plane dials, and sends `Callback` messages; whoever listens answers each with a
`CallbackAck` once the application has taken it. The signature is the proof of who calls.
"""

from __future__ import annotations

import contextlib
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

import anyio
from anyio.abc import ByteStream, SocketAttribute, SocketStream
from anyio.streams.tls import TLSStream
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from fastworker.client.callbacks import (
    CallbackIterator,
    CallbackQueue,
    JobCallback,
    callback_token,
)
from fastworker.client.transport import MAX_MESSAGE_BYTES, QUIET, WebSocketTransport
from fastworker.errors import CannotCreate, InvalidOption, ProtocolError
from fastworker.tls import CertificateFiles, listener_context
from fastworker.wire.addresses import Address, parse_address
from fastworker.wire.callbacks import CALLBACK_SUBPROTOCOL, MAX_AGE_SECONDS
from fastworker.wire.codec import Assembler, decode, encode
from fastworker.wire.messages import Callback, CallbackAck, Message, Piece

logger = logging.getLogger("fastworker.client")

MAX_CONNECTIONS: Final = 64
"""Control planes are few; more is somebody else, who waits until another has gone."""

OPENING_SECONDS: Final = 10.0
"""For the opening handshake of a caller, and for each message until it has proved itself."""

ACKNOWLEDGE_SECONDS: Final = 1.0
"""To write a few bytes; whoever does not take them delivers again."""


@dataclass(frozen=True, slots=True)
class CallbackListener:
    """An open port. Iterate over it: ``async for callback in listener``.

    Args:
        address: what to give as ``callback_address``; the port is the one that was got.
    """

    address: str
    _callbacks: CallbackIterator

    def __aiter__(self) -> CallbackIterator:
        """An iterator for one loop; see `Client.callbacks` for what it acknowledges, and when."""
        return aiter(self._callbacks)

    async def __anext__(self) -> JobCallback:
        """The next callback; the one that was asked for here before is acknowledged by asking."""
        return await anext(self._callbacks)


@asynccontextmanager
async def open_callback_listener(
    address: str = "tcp://127.0.0.1:0",
    *,
    token: str | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[CallbackListener]:
    """Listen for callbacks as long as the block runs; leaving it closes the port.

    Args:
        address: ``tcp://host:port``; port 0 takes a free one.
        token: the one that jobs are submitted with; None: that of the settings.
        tls: for ``wss://``: a server-side context with a certificate; None: one with the settings
            ``tls_cert`` and ``tls_key``.

    Raises:
        InvalidAddress: not an address to listen on.
        InvalidOption: ``wss://`` without a context, or no token to check signatures with.
        CannotCreate: the port cannot be had.
    """
    where = parse_address(address)
    if where.tls and tls is None:
        tls = _default_context(address)
    checked = callback_token() if token is None else token
    queue = CallbackQueue()
    try:
        listener = await anyio.create_tcp_listener(
            local_host=where.host, local_port=where.port, reuse_port=False
        )
    except OSError as error:
        raise CannotCreate(
            f"cannot listen on {address} for callbacks: {error.strerror or error}"
        ) from error
    limiter = anyio.CapacityLimiter(MAX_CONNECTIONS)

    async def serve(stream: SocketStream) -> None:
        try:
            async with limiter:
                await _serve_safely(stream, tls if where.tls else None, queue, checked)
        finally:  # of those, too, who were cancelled before their turn
            with anyio.CancelScope(shield=True):
                await anyio.aclose_forcefully(stream)

    async with listener, anyio.create_task_group() as serving:
        serving.start_soon(listener.serve, serve)
        port = listener.extra(SocketAttribute.local_port)
        try:
            address = str(Address(where.host, port, where.tls))
            yield CallbackListener(address, CallbackIterator(queue))
        finally:
            queue.close()
            serving.cancel_scope.cancel()


def _default_context(address: str) -> ssl.SSLContext:
    from fastworker.config import client_defaults

    files = client_defaults().certificate_files
    if files.certificate is None:
        raise InvalidOption(
            f"to listen on {address} give tls=, a context with a certificate, or set "
            "FASTWORKER_TLS_CERT and FASTWORKER_TLS_KEY"
        )
    return listener_context(CertificateFiles(files.certificate, files.key))


async def _serve_safely(
    stream: SocketStream, tls: ssl.SSLContext | None, queue: CallbackQueue, token: str
) -> None:
    """One caller's connection; whatever it does wrong ends it and nothing else."""
    try:
        plain: ByteStream = stream
        if tls is not None:
            with anyio.fail_after(OPENING_SECONDS):
                plain = await TLSStream.wrap(stream, ssl_context=tls, standard_compatible=False)
        await _serve(plain, queue, token)
    except Exception as error:  # the barrier: one caller, whatever it sends
        logger.debug("a caller's connection ended: %s: %s", type(error).__name__, error)


async def _serve(stream: ByteStream, queue: CallbackQueue, token: str) -> None:
    protocol = ServerProtocol(
        subprotocols=[Subprotocol(CALLBACK_SUBPROTOCOL)],
        max_size=MAX_MESSAGE_BYTES,
        logger=QUIET,
    )
    transport = WebSocketTransport(stream, protocol, stranger=True)
    with anyio.fail_after(OPENING_SECONDS):
        request = await transport.next_event()
        if not isinstance(request, Request):
            raise ProtocolError("expected the opening of a WebSocket")
        protocol.send_response(protocol.accept(request))
        await transport.flush()
    if protocol.state is not State.OPEN:
        raise ProtocolError("its opening of a WebSocket was refused")
    taken = _Taken()
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_acknowledge, transport, taken)
            try:
                await _receive(transport, queue, token, taken)
            except (OSError, ProtocolError) as error:
                logger.debug("a caller's connection ended: %s", error)
            tasks.cancel_scope.cancel()
    finally:
        with contextlib.suppress(OSError):
            await _send_acknowledgements(transport, taken)
        await transport.aclose()


class _Taken:
    """Deliveries that the application has handled and that are not acknowledged yet."""

    def __init__(self) -> None:
        self.deliveries: list[bytes] = []
        self.added = anyio.Event()

    def add(self, delivery: bytes) -> None:
        self.deliveries.append(delivery)
        self.added.set()


async def _receive(
    transport: WebSocketTransport, queue: CallbackQueue, token: str, taken: _Taken
) -> None:
    assembler = Assembler()
    proved = False
    while True:
        # Until it has shown that it has the token, a caller may be anybody, and may not stay.
        with anyio.fail_after(None if proved else OPENING_SECONDS):
            messages: list[Message] = decode(await transport.receive())
        if messages and isinstance(messages[0], Piece):
            whole = assembler.feed(messages)
            if whole is None:
                continue
            messages = decode(whole)
        for message in messages:
            if isinstance(message, Callback):
                acknowledge = partial(taken.add, message.delivery)
                if not queue.put(
                    message, token=token, acknowledge=acknowledge, max_age=MAX_AGE_SECONDS
                ):
                    raise ProtocolError(
                        "it sent a callback that nobody with our token has sent now"
                    )
                proved = True
                transport.proved()


async def _acknowledge(transport: WebSocketTransport, taken: _Taken) -> None:
    while True:
        await taken.added.wait()
        taken.added = anyio.Event()
        try:
            await _send_acknowledgements(transport, taken)
        except OSError:
            return  # the reader says why; these are delivered again


async def _send_acknowledgements(transport: WebSocketTransport, taken: _Taken) -> None:
    deliveries, taken.deliveries = taken.deliveries, []
    if deliveries:
        # Shielded: the application has handled these, and may be leaving its block just now.
        with anyio.fail_after(ACKNOWLEDGE_SECONDS, shield=True):
            await transport.send(encode([CallbackAck(b"".join(deliveries))]))
