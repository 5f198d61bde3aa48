"""C32, D01, D46: what comes to a port with TLS and is none, or is none any more."""

from __future__ import annotations

import logging
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
import trio

from fastworker.server import tls
from fastworker.server.plane import Plane
from fastworker.transport.dial import open_link
from fastworker.wire.addresses import Address
from fastworker.wire.messages import Introduce, Query, Report
from tests.bad_input.raw import TOKEN, address_of, running_plane, status_of
from tests.support.certificates import Authority

pytestmark = pytest.mark.trio

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: closing sends RST."""

ANSWER_SECONDS = 10.0


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


async def is_served(address: Address, context: ssl.SSLContext) -> None:
    """The canary: a client comes in and is answered."""
    with trio.fail_after(ANSWER_SECONDS):
        link_to = open_link(address, role="client", token=TOKEN, agent="canary", tls=context)
        async with link_to as (link, _):
            link.send(Introduce(os.urandom(16)))
            link.send(Query(1, "status"))
            (report,) = await link.receive()
    assert isinstance(report, Report)


@pytest.fixture
async def plane(authority: Authority) -> AsyncIterator[Plane]:
    """A control plane with TLS that must serve at the end of the test, and hold no connection."""
    files = authority.issue("127.0.0.1")
    async with running_plane(tls_cert=files.certificate, tls_key=files.key) as plane:
        yield plane
        await is_served(address_of(plane), authority.trusting())
        with trio.fail_after(ANSWER_SECONDS):
            while plane.gate.waiting.total:
                await plane.gate.left.wait()


async def pour(address: Address, data: bytes) -> bytes:
    """Send bytes; everything that is answered until the other side closes."""
    answer = b""
    with trio.fail_after(ANSWER_SECONDS):
        async with await trio.open_tcp_stream(address.host, address.port) as stream:
            with suppress(trio.BrokenResourceError):
                await stream.send_all(data)
                await stream.send_eof()
                while chunk := await stream.receive_some():
                    answer += chunk
    return answer


def client_hello(context: ssl.SSLContext) -> bytes:
    """The first bytes of a handshake."""
    outgoing = ssl.MemoryBIO()
    peer = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="127.0.0.1")
    with suppress(ssl.SSLWantReadError):
        peer.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\0" * 500, id="zeros"),
        pytest.param(bytes(range(256)) * 40, id="bytes"),
        pytest.param(b"\x16\x03\x01\xff\xff" + b"a" * 70_000, id="record too long"),
        pytest.param(b"\x16\x03\x01\x00\x04\x01\xff\xff\xff", id="hello too long"),
        pytest.param(b"\x15\x03\x03\x00\x02\x02\x28", id="alert"),
        pytest.param(b"\x80\x2e\x01\x00\x02" + b"a" * 60, id="SSL 2"),
        pytest.param(b"\x82\xa4fastworker", id="a frame of ours"),
        pytest.param(b"", id="nothing"),
    ],
)
async def test_d01_what_is_no_tls_is_closed(plane: Plane, data: bytes) -> None:
    assert not (await pour(address_of(plane), data)).startswith(b"HTTP")


async def test_d01_http_on_a_tls_port_is_told_so(plane: Plane) -> None:
    answer = await pour(address_of(plane), b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert status_of(answer) == 426
    assert b"wss://" in answer and b"\r\nUpgrade: TLS/1.2\r\n" in answer


async def test_c32_reset_after_any_byte_of_the_tls_handshake(
    plane: Plane, authority: Authority
) -> None:
    hello = client_hello(authority.trusting())
    for size in (0, 1, 3, 5, 6, 40, len(hello) - 1, len(hello)):
        stream = await trio.open_tcp_stream(*_place(plane))
        await stream.send_all(hello[:size])
        if size == len(hello):
            await stream.receive_some(100)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        await stream.aclose()


async def test_c32_reset_inside_tls(plane: Plane, authority: Authority) -> None:
    request = b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
    for size in (0, 1, 20, len(request)):
        plain = await trio.open_tcp_stream(*_place(plane))
        stream = trio.SSLStream(plain, authority.trusting(), server_hostname="127.0.0.1")
        await stream.do_handshake()
        if size:
            await stream.send_all(request[:size])
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        await plain.aclose()


async def test_a_handshake_byte_by_byte_is_served(plane: Plane, authority: Authority) -> None:
    plain = await trio.open_tcp_stream(*_place(plane))
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    class Dripping(trio.abc.HalfCloseableStream):
        """One byte a segment."""

        async def send_all(self, data: bytes | bytearray | memoryview) -> None:
            for byte in bytes(data):
                await plain.send_all(bytes([byte]))

        async def send_eof(self) -> None:
            await plain.send_eof()

        async def wait_send_all_might_not_block(self) -> None:
            await plain.wait_send_all_might_not_block()

        async def receive_some(self, max_bytes: int | None = None) -> bytes:
            return bytes(await plain.receive_some(1))

        async def aclose(self) -> None:
            await plain.aclose()

    with trio.fail_after(ANSWER_SECONDS):
        stream = trio.SSLStream(
            Dripping(), authority.trusting(), server_hostname="127.0.0.1", https_compatible=True
        )
        await stream.send_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
        await trio.aclose_forcefully(stream)


async def test_a_handshake_that_takes_too_long_is_closed(
    plane: Plane, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "HANDSHAKE_SECONDS", 0.1)
    hello = client_hello(authority.trusting())
    for data in (b"", hello[:40], hello):
        with trio.fail_after(ANSWER_SECONDS):
            async with await trio.open_tcp_stream(*_place(plane)) as stream:
                await stream.send_all(data)
                with suppress(trio.BrokenResourceError):
                    while await stream.receive_some():
                        pass


async def test_many_failures_are_one_line_in_the_log(
    plane: Plane, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "fastworker"):
        for _ in range(20):
            await pour(address_of(plane), b"GET / HTTP/1.1\r\n\r\n")
    (line,) = [record for record in caplog.records if "ended" in record.getMessage()]
    assert line.levelno == logging.WARNING
    assert "without TLS" in line.getMessage()


async def test_d01_a_tls_hello_to_a_plain_port_is_logged_as_that(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_plane() as plane:
        answer = await pour(address_of(plane), client_hello(authority.trusting()))
    assert status_of(answer) == 400
    (line,) = [record for record in caplog.records if "ended" in record.getMessage()]
    assert "it began TLS" in line.getMessage() and "--tls-cert" in line.getMessage()


def _place(plane: Plane) -> tuple[str, int]:
    address = address_of(plane)
    return address.host, address.port
