"""Real sockets, and a listener that does what the test wants."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketRequest, open_websocket_url, serve_websocket

from fastworker.errors import (
    AuthenticationFailed,
    ControlPlaneUnavailable,
    ProtocolError,
    UnsupportedVersion,
)
from fastworker.transport.dial import CONNECT_SECONDS, open_frames, open_link
from fastworker.transport.link import Link, LinkClosed
from fastworker.transport.websocket import WebSocketFrames
from fastworker.wire.addresses import Address
from fastworker.wire.codec import encode
from fastworker.wire.handshake import ListenerHandshake
from fastworker.wire.messages import (
    SUBPROTOCOL,
    Beat,
    BeatAck,
    Hello,
    Message,
    Problem,
    Proof,
    Welcome,
)

pytestmark = pytest.mark.trio

TOKEN = "worker.0123456789abcdef0123456789abcdef"
PATIENCE_SECONDS = 20.0

Serve = Callable[[WebSocketFrames], Awaitable[None]]
open_test_link = partial(open_link, role="subworker", token=TOKEN, agent="test")


@asynccontextmanager
async def listening(
    serve: Serve, *, subprotocol: str | None = SUBPROTOCOL
) -> AsyncIterator[Address]:
    async def handle(request: WebSocketRequest) -> None:
        websocket = await request.accept(subprotocol=subprotocol)
        with suppress(LinkClosed, ConnectionClosed):
            await serve(WebSocketFrames(websocket))

    with trio.fail_after(PATIENCE_SECONDS):
        async with trio.open_nursery() as nursery:
            server = await nursery.start(serve_websocket, handle, "127.0.0.1", 0, None)
            yield Address("127.0.0.1", server.port)
            nursery.cancel_scope.cancel()


async def send(frames: WebSocketFrames, *messages: Message) -> None:
    await frames.send_frame(encode(messages))


async def let_in(frames: WebSocketFrames) -> Link:
    """The listener's part of the handshake."""
    link = Link(frames)
    handshake = ListenerHandshake({"worker": TOKEN.encode()}.get, os.urandom)
    [hello] = await link.receive()
    assert isinstance(hello, Hello)
    await send(frames, handshake.receive_hello(hello))
    [proof] = await link.receive()
    assert isinstance(proof, Proof)
    handshake.receive_proof(proof)
    await send(frames, Welcome(bytes(16), "test", 5.0, 15.0, 1000, 0.0))
    return link


async def echo_beats(frames: WebSocketFrames) -> None:
    link = await let_in(frames)
    while True:
        for message in await link.receive():
            if isinstance(message, Beat):
                await send(frames, BeatAck(number=message.number))


async def test_both_sides_prove_themselves_and_talk() -> None:
    async with listening(echo_beats) as address, open_test_link(address) as (link, welcome):
        assert welcome.heartbeat_seconds == 5.0
        link.send(Beat(number=7))
        assert await link.receive() == [BeatAck(number=7)]


async def test_leaving_the_block_closes_the_connection() -> None:
    ended = trio.Event()

    async def serve(frames: WebSocketFrames) -> None:
        try:
            await echo_beats(frames)
        finally:
            ended.set()

    async with listening(serve) as address:
        async with open_test_link(address) as (link, _):
            pass
        await ended.wait()
        assert link.closed


async def test_an_error_in_the_block_arrives_as_it_is() -> None:
    async with listening(echo_beats) as address:
        with pytest.raises(KeyError, match="mine"):
            async with open_test_link(address):
                raise KeyError("mine")


async def test_the_end_of_the_connection_is_link_closed() -> None:
    async def serve(frames: WebSocketFrames) -> None:
        await let_in(frames)
        await frames.aclose(1008, "enough")

    async with listening(serve) as address, open_test_link(address) as (link, _):
        with pytest.raises(LinkClosed, match="enough"):
            await link.receive()


async def test_nobody_there() -> None:
    with trio.socket.socket() as free:
        await free.bind(("127.0.0.1", 0))
        address = Address("127.0.0.1", free.getsockname()[1])
    with pytest.raises(ControlPlaneUnavailable, match="fastworker run control-plane") as caught:
        async with open_test_link(address):
            pass
    assert str(address) in str(caught.value)


async def test_another_websocket_server_is_no_control_plane() -> None:
    async with listening(echo_beats, subprotocol=None) as address:
        with pytest.raises(ControlPlaneUnavailable, match=r"fastworker\.v1"):
            async with open_test_link(address):
                pass


async def test_a_plain_http_server_is_no_control_plane() -> None:
    async def answer(stream: trio.SocketStream) -> None:
        await stream.receive_some(65536)
        await stream.send_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n")
        await stream.aclose()

    with trio.fail_after(PATIENCE_SECONDS):
        async with trio.open_nursery() as nursery:
            serve = partial(trio.serve_tcp, answer, 0, host="127.0.0.1")
            [listener] = await nursery.start(serve)
            address = Address("127.0.0.1", listener.socket.getsockname()[1])
            with pytest.raises(ControlPlaneUnavailable, match="404"):
                async with open_test_link(address):
                    pass
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("authentication_failed", AuthenticationFailed),
        ("unsupported_version", UnsupportedVersion),
        ("overloaded", ControlPlaneUnavailable),
    ],
)
async def test_a_refusal_keeps_its_kind(code: str, error: type[Exception]) -> None:
    async def serve(frames: WebSocketFrames) -> None:
        await frames.receive_frame()
        await send(frames, Problem(code=code, message="go away"))
        await frames.receive_frame()

    async with listening(serve) as address:
        with pytest.raises(error, match="go away"):
            async with open_test_link(address):
                pass


async def test_a_listener_without_the_token_is_refused() -> None:
    async def serve(frames: WebSocketFrames) -> None:
        [hello] = await Link(frames).receive()
        assert isinstance(hello, Hello)
        stranger = ListenerHandshake({"worker": b"y" * 40}.get, os.urandom)
        await send(frames, stranger.receive_hello(hello))
        await frames.receive_frame()

    async with listening(serve) as address:
        with pytest.raises(AuthenticationFailed):
            async with open_test_link(address):
                pass


async def test_a_listener_that_hangs_up_in_the_handshake() -> None:
    async def serve(frames: WebSocketFrames) -> None:
        await frames.aclose()

    async with listening(serve) as address:
        with pytest.raises(ControlPlaneUnavailable, match="during the handshake"):
            async with open_test_link(address):
                pass


async def test_text_messages_are_refused() -> None:
    refused = trio.Event()

    async def serve(frames: WebSocketFrames) -> None:
        with pytest.raises(ProtocolError, match="text"):
            await frames.receive_frame()
        refused.set()

    async with (
        listening(serve) as address,
        open_websocket_url(address.url, subprotocols=[SUBPROTOCOL]) as websocket,
    ):
        await websocket.send_message("hello")
        await refused.wait()


async def test_no_socket_is_left_when_the_listener_closes_first() -> None:
    async def close_at_once(frames: WebSocketFrames) -> None:
        await frames.aclose()

    async with listening(close_at_once) as address:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            async with open_frames(address) as frames:
                with pytest.raises(LinkClosed), trio.fail_after(PATIENCE_SECONDS):
                    await frames.receive_frame()
        with trio.fail_after(PATIENCE_SECONDS):
            while len(os.listdir("/proc/self/fd")) > before:
                # The listener's side of the last connection ends when it has seen our close.
                await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("reset", [False, True])
async def test_a_listener_that_hangs_up_during_the_upgrade_is_noticed_at_once(reset: bool) -> None:
    async def hang_up(stream: trio.SocketStream) -> None:
        if reset:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            await stream.receive_some()
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, hang_up, 0, host="127.0.0.1"))
        address = Address("127.0.0.1", listener.socket.getsockname()[1])
        with trio.fail_after(CONNECT_SECONDS / 2), pytest.raises(ControlPlaneUnavailable):
            async with open_test_link(address):
                pass
        nursery.cancel_scope.cancel()
