"""Callbacks over the client's own connection, and at a listener."""

from __future__ import annotations

import time
from collections.abc import AsyncIterable

import anyio
import pytest
from websockets.client import ClientProtocol
from websockets.http11 import Response
from websockets.typing import Subprotocol
from websockets.uri import WebSocketURI

from fastworker.client.callbacks import JobCallback
from fastworker.client.client import Client
from fastworker.client.listener import open_callback_listener
from fastworker.client.transport import WebSocketTransport
from fastworker.core.ids import id_bytes
from fastworker.core.records import TaskStatus
from fastworker.errors import CannotCreate, ClientNotReady, InvalidAddress, InvalidOption
from fastworker.wire import messages as m
from fastworker.wire.addresses import parse_address
from fastworker.wire.callbacks import (
    CALLBACK_SUBPROTOCOL,
    CallbackBody,
    decode_callback,
    encode_callback,
    sign_callback,
)
from fastworker.wire.codec import decode, encode
from fastworker.wire.values import open_value, seal_value
from tests.client.fake_control_plane import TOKEN, FakeControlPlane

pytestmark = pytest.mark.anyio


def callback(
    number: int,
    *,
    token: str = TOKEN,
    task_id: bytes = bytes(16),
    sent_before: float | None = 0.0,
) -> m.Callback:
    body = encode_callback(
        CallbackBody(
            delivery=number.to_bytes(16, "big"),
            task_id=task_id,
            status=TaskStatus.SUCCESS,
            value=seal_value(number, what="the result"),
            failure=None,
            started_at=1.0,
            completed_at=2.0,
            attempts=1,
            data=seal_value({"order": number}, what="callback_data"),
            sent_at=None if sent_before is None else time.time() - sent_before,
        )
    )
    return m.Callback(number.to_bytes(16, "big"), body, sign_callback(token.encode(), body))


async def test_callbacks_over_the_connection(client: Client, plane: FakeControlPlane) -> None:
    task_id = await client.delay_with_callback(
        "add", client.callback_address, 1, callback_data={"order": 7}
    )
    options = plane.submits()[0].specs[0][3]
    assert isinstance(options, dict)
    assert options["callback"] == client.callback_address
    assert open_value(options["callback_data"]) == {"order": 7}

    callbacks = client.callbacks()
    await plane.until(lambda: m.Introduce in map(type, plane.received[1:]))
    introduced = [one for one in plane.received if isinstance(one, m.Introduce)]
    assert [one.callbacks for one in introduced] == [False, True]
    wrong = callback(1, token="another" * 6)
    await plane.peers[0].send(wrong, callback(2, task_id=id_bytes(task_id)), callback(3))
    with anyio.fail_after(5):
        first = await callbacks.__anext__()
        assert (first.task_id, first.result, first.callback_data) == (task_id, 2, {"order": 2})
        assert first.completed_at is not None
        assert m.CallbackAck not in map(type, plane.received)
        assert (await callbacks.__anext__()).result == 3
    await plane.until(lambda: m.CallbackAck(first_delivery(2)) in plane.received)

    await plane.peers[0].send(callback(2), callback(4))  # the first comes again: its ack was lost
    with anyio.fail_after(5):
        assert (await callbacks.__anext__()).result == 4


def first_delivery(number: int) -> bytes:
    return number.to_bytes(16, "big")


def acknowledged(plane: FakeControlPlane) -> list[bytes]:
    return [one.deliveries for one in plane.received if isinstance(one, m.CallbackAck)]


class BodyFailed(Exception):
    pass


async def fail_at_the_first(callbacks: AsyncIterable[JobCallback]) -> None:
    async for _ in callbacks:
        raise BodyFailed


async def test_a_callback_whose_loop_failed_is_not_acknowledged_by_the_next_loop(
    client: Client, plane: FakeControlPlane
) -> None:
    callbacks = client.callbacks()
    await client.wait_connected(5)
    await plane.peers[0].send(callback(1), callback(2), callback(3))
    with anyio.fail_after(5):
        with pytest.raises(BodyFailed):
            await fail_at_the_first(callbacks)
        again = aiter(callbacks)
        assert [(await anext(again)).result for _ in range(2)] == [2, 3]
        await plane.until(lambda: len(acknowledged(plane)) == 1)
        assert acknowledged(plane) == [first_delivery(2)]

        await plane.peers[0].send(callback(3), callback(1))  # 3 is being handled: it is not new
        await client.status()
        assert (await anext(again)).result == 1
        await plane.until(lambda: len(acknowledged(plane)) == 2)
    assert acknowledged(plane) == [first_delivery(2), first_delivery(3)]


async def test_a_callback_may_be_acknowledged_before_the_loop_is_left(
    client: Client, plane: FakeControlPlane
) -> None:
    callbacks = client.callbacks()
    await client.wait_connected(5)
    await plane.peers[0].send(callback(1))
    with anyio.fail_after(5):
        async for one in callbacks:
            one.acknowledge()
            one.acknowledge()
            break
        await client.stop()  # what was acknowledged is still said
        await plane.until(lambda: bool(acknowledged(plane)))
    assert acknowledged(plane) == [first_delivery(1)]


async def test_loops_at_the_same_time_share_what_arrives(
    client: Client, plane: FakeControlPlane
) -> None:
    results: list[object] = []

    async def take_one() -> None:
        results.append((await anext(client.callbacks())).result)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(take_one)
            group.start_soon(take_one)
            await anyio.wait_all_tasks_blocked()
            await client.wait_connected(5)
            await plane.peers[0].send(callback(1), callback(2))
    assert sorted(results, key=repr) == [1, 2]


async def test_callbacks_end_with_the_client(client: Client) -> None:
    callbacks = client.callbacks()
    client.stop()
    with anyio.fail_after(5), pytest.raises(ClientNotReady):
        await callbacks.__anext__()


async def test_a_callback_address_is_checked(client: Client, plane: FakeControlPlane) -> None:
    for wrong in (
        "ftp://localhost:80",
        "localhost",
        "client:abc",
        "https://a@b",
        "tcp://0x7f.1:80",
    ):
        with pytest.raises((InvalidAddress, InvalidOption)):
            await client.delay_with_callback("add", wrong)
    assert plane.submits() == []


async def call(address: str) -> WebSocketTransport:
    where = parse_address(address)
    stream = await anyio.connect_tcp(where.host, where.port)
    protocol = ClientProtocol(
        WebSocketURI(False, where.host, where.port, "/", ""),
        subprotocols=[Subprotocol(CALLBACK_SUBPROTOCOL)],
    )
    transport = WebSocketTransport(stream, protocol)
    protocol.send_request(protocol.connect())
    await transport.flush()
    assert isinstance(await transport.next_event(), Response)
    assert protocol.handshake_exc is None
    return transport


async def test_a_listener_checks_and_acknowledges(anyio_backend: object) -> None:
    with anyio.fail_after(5):
        async with open_callback_listener(token=TOKEN) as listener:
            stranger = await anyio.connect_tcp(
                "127.0.0.1", int(listener.address.rpartition(":")[2])
            )
            await stranger.send(b"GET / HTTP/1.0\r\n\r\n")
            liar = await call(listener.address)
            await liar.send(encode([callback(1, token="x" * 40)]))
            with pytest.raises(ConnectionError):
                await liar.receive()
            await liar.aclose()
            transport = await call(listener.address)
            await transport.send(encode([callback(2)]))
            assert (await listener.__anext__()).result == 2

            async def take_next() -> None:
                await listener.__anext__()

            async with anyio.create_task_group() as group:
                group.start_soon(take_next)
                assert decode(await transport.receive()) == [m.CallbackAck(first_delivery(2))]
                group.cancel_scope.cancel()
            await transport.aclose()
            await stranger.aclose()


@pytest.mark.parametrize("sent_before", [400.0, -400.0, None])
async def test_a_listener_refuses_what_was_not_sent_just_now(
    anyio_backend: object, sent_before: float | None
) -> None:
    with anyio.fail_after(5):
        async with open_callback_listener(token=TOKEN) as listener:
            player = await call(listener.address)
            await player.send(encode([callback(1, sent_before=sent_before)]))
            with pytest.raises(ConnectionError):
                await player.receive()
            await player.aclose()


async def test_a_listener_hands_out_once_what_is_played_back(anyio_backend: object) -> None:
    recorded = encode([callback(1)])
    with anyio.fail_after(5):
        async with open_callback_listener(token=TOKEN) as listener:
            transport = await call(listener.address)
            await transport.send(recorded)
            (await anext(listener)).acknowledge()
            assert decode(await transport.receive()) == [m.CallbackAck(first_delivery(1))]
            player = await call(listener.address)
            await player.send(recorded)
            assert decode(await player.receive()) == [m.CallbackAck(first_delivery(1))]
            await transport.send(encode([callback(2)]))
            assert (await anext(listener)).result == 2
            for each in (transport, player):
                await each.aclose()


async def test_a_callback_under_the_id_of_another_delivery_is_passed_over(
    client: Client, plane: FakeControlPlane
) -> None:
    callbacks = client.callbacks()
    await client.wait_connected(5)
    moved = callback(1)
    moved.delivery = first_delivery(2)
    await plane.peers[0].send(moved, callback(3))
    with anyio.fail_after(5):
        assert (await anext(callbacks)).result == 3


async def test_a_listener_acknowledges_what_was_handled_before_its_block_was_left(
    anyio_backend: object,
) -> None:
    with anyio.fail_after(5):
        async with open_callback_listener(token=TOKEN) as listener:
            transport = await call(listener.address)
            await transport.send(encode([callback(1), callback(2)]))
            with pytest.raises(BodyFailed):
                await fail_at_the_first(listener)
            async for one in listener:
                assert one.result == 2
                one.acknowledge()
                break
        assert decode(await transport.receive()) == [m.CallbackAck(first_delivery(2))]
        with pytest.raises(ConnectionError):
            await transport.receive()
        await transport.aclose()


async def test_a_listener_says_why_it_cannot_listen(anyio_backend: object) -> None:
    async with open_callback_listener(token=TOKEN) as listener:
        with pytest.raises(CannotCreate, match="cannot listen"):
            async with open_callback_listener(listener.address, token=TOKEN):
                pass
    with pytest.raises(InvalidOption, match="certificate"):
        async with open_callback_listener("wss://127.0.0.1:0", token=TOKEN):
            pass


async def test_a_body_survives_the_way(anyio_backend: object) -> None:
    sent = callback(5)
    body = decode_callback(sent.body)
    assert body.delivery == first_delivery(5)
    assert encode_callback(body) == sent.body
