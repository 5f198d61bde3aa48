"""D01 to D04, D36, D43: what arrives before there is a WebSocket, and who may not have one."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator

import pytest
import trio

from fastworker.server import admission, http_head
from fastworker.wire.addresses import Address
from fastworker.wire.handshake import CERTIFICATE_TOKEN, DialerHandshake
from fastworker.wire.messages import Challenge, Proof
from tests.bad_input.raw import (
    TOKEN,
    Closed,
    address_of,
    answer_to,
    exchange,
    jobs_known,
    open_peer,
    open_raw,
    running_plane,
    status_of,
    upgrade,
)


@pytest.fixture
async def address() -> AsyncIterator[Address]:
    """A control plane that must be alive, and hold nothing, at the end of the test."""
    async with running_plane() as plane:
        yield address_of(plane)
        assert await jobs_known(plane) == 0


def _host(address: Address) -> bytes:
    return f"{address.host}:{address.port}".encode()


@pytest.mark.trio
@pytest.mark.parametrize(
    ("data", "status"),
    [
        pytest.param(os.urandom(64) + b"\0", 400, id="random bytes"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 99, 400, id="tls"),
        pytest.param(b"GET / HTTP/1.0\r\n\r\n", 400, id="HTTP/1.0"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi", 426, id="POST"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 426, id="no upgrade"),
        pytest.param(b"GET /\xc3\xa4 HTTP/1.1\r\nHost: x\r\n\r\n", 400, id="path not ASCII"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 10_000 + b"\r\n", 431, id="10k headers"),
        pytest.param(b"GET / HTTP/1.1\r\nA: " + b"b" * 1_000_000, 431, id="1 MB header"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, id="HTTP/2"),
    ],
)
async def test_what_is_no_upgrade_gets_a_status(address: Address, data: bytes, status: int) -> None:
    try:
        answer = await exchange(address, data)
    except OSError:
        return  # reset: it was closed while we were still sending
    assert not answer or status_of(answer) == status


@pytest.mark.trio
@pytest.mark.parametrize("missing", ["Host", "Sec-WebSocket-Key"])
async def test_upgrade_without_a_header_is_a_bad_request(address: Address, missing: str) -> None:
    assert status_of(await exchange(address, upgrade(address, without=[missing]))) == 400


@pytest.mark.trio
@pytest.mark.parametrize(
    "extra",
    [
        "Host: \xff",
        "Sec-WebSocket-Version: 8",
        "Sec-WebSocket-Version: x",
        "Sec-WebSocket-Key: short",
        "Connection: close",
        "Origin: http://[",
    ],
)
async def test_upgrade_with_a_bad_header_is_refused(address: Address, extra: str) -> None:
    name = extra.partition(":")[0]
    answer = await exchange(address, upgrade(address, extra, without=[name]))
    assert status_of(answer) in (400, 403, 426)


@pytest.mark.trio
async def test_reset_in_the_middle_of_the_head_harms_nobody(address: Address) -> None:
    for size in (0, 1, 20, 60):
        stream = await trio.open_tcp_stream(address.host, address.port)
        await stream.send_all(upgrade(address)[:size])
        stream.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER 0: closing sends RST
        await stream.aclose()


@pytest.mark.trio
async def test_slow_head_is_closed_in_time(
    address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_head, "HEAD_SECONDS", 0.05)
    assert status_of(await exchange(address, b"GET / HT")) == 408


@pytest.mark.trio
async def test_upgrade_and_then_silence_is_closed_with_4408(
    address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "HELLO_SECONDS", 0.2)
    async with open_raw(address) as peer:
        _, closed = await peer.receive_end()
    assert closed == Closed(4408, "no handshake in time")


@pytest.mark.trio
async def test_silence_after_the_handshake_is_closed_with_4408() -> None:
    async with (
        running_plane(heartbeat_seconds=0.02) as plane,
        open_peer(address_of(plane)) as peer,
    ):
        problem, closed = await peer.receive_end()
    assert closed.code == 4408
    assert problem is not None and "silent for 0.06 s" in problem.message


@pytest.mark.trio
@pytest.mark.parametrize("query", ["/?token=" + TOKEN, "/?", "/x?a=b"])
async def test_a_query_is_refused_before_the_upgrade(
    address: Address, query: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert status_of(await exchange(address, upgrade(address, path=query))) == 400
    assert TOKEN not in caplog.text


@pytest.mark.trio
@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("{}", "http://evil.example"),
        ("{}", "null"),
        ("{}", "https://evil.example@{}"),
        ("evil.example:{port}", "http://evil.example:{port}"),
        ("127.0.0.1.evil.example", "http://127.0.0.1.evil.example"),
    ],
)
async def test_foreign_pages_are_refused_before_the_upgrade(
    address: Address, host: str, origin: str
) -> None:
    here, port = _host(address).decode(), address.port
    head = upgrade(
        address,
        f"Host: {host.format(here, port=port)}",
        f"Origin: {origin.format(here, port=port)}",
        without=["Host"],
    )
    assert status_of(await exchange(address, head)) == 403


@pytest.mark.trio
async def test_wrong_proof_is_closed_with_4401_and_one_line(
    address: Address, caplog: pytest.LogCaptureFixture
) -> None:
    for token_id in ("default", "nobody"):
        async with open_raw(address) as peer:
            token = f"{token_id}.{TOKEN}" if token_id != "default" else TOKEN
            await peer.send_messages(DialerHandshake("client", token, os.urandom).hello())
            assert isinstance(await answer_to(peer), Challenge)
            await peer.send_messages(Proof(b"\0" * 32))
            problem, closed = await peer.receive_end()
        assert closed == Closed(4401, "authentication_failed")
        assert problem is not None
        assert problem.message == (
            f"the proof does not fit the token '{token_id}'; "
            "check that both sides are given the same token"
        )
    assert TOKEN not in caplog.text
    assert len([r for r in caplog.records if "ended" in r.message]) == 1


@pytest.mark.trio
async def test_peer_that_leaves_before_its_proof_leaves_a_line(
    address: Address, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="fastworker.server"):
        async with open_raw(address) as peer:
            await peer.send_messages(DialerHandshake("client", TOKEN, os.urandom).hello())
            assert isinstance(await answer_to(peer), Challenge)
        await trio.testing.wait_all_tasks_blocked(0.02)
    assert "left without proving that it has the token 'default'" in caplog.text


@pytest.mark.trio
@pytest.mark.parametrize(
    ("token", "says"),
    [
        ("gone." + "x" * 40, "has the token 'gone', which does not count here"),
        (CERTIFICATE_TOKEN, "no token stands for its certificate"),
    ],
)
async def test_peer_that_leaves_because_of_what_is_not_known_here_leaves_another(
    address: Address, caplog: pytest.LogCaptureFixture, token: str, says: str
) -> None:
    with caplog.at_level(logging.WARNING, logger="fastworker.server"):
        async with open_raw(address) as peer:
            await peer.send_messages(DialerHandshake("client", token, os.urandom).hello())
            assert isinstance(await answer_to(peer), Challenge)
        await trio.testing.wait_all_tasks_blocked(0.02)
    assert says in caplog.text and token not in caplog.text


@pytest.mark.trio
async def test_unknown_role_is_named_and_closed_with_4400(address: Address) -> None:
    hello = DialerHandshake("client", TOKEN, os.urandom).hello()
    hello.role = "control-plane"
    async with open_raw(address) as peer:
        await peer.send_messages(hello)
        problem, closed = await peer.receive_end()
    assert closed == Closed(4400, "protocol_error")
    assert problem is not None and problem.message == (
        "message Hello, field role: expected one of client, subworker, got 'control-plane'"
    )


@pytest.mark.trio
@pytest.mark.parametrize(("versions", "named"), [([0], "0"), ([999], "999"), ([], "none")])
async def test_other_versions_are_named_and_closed_with_4406(
    address: Address, versions: list[int], named: str
) -> None:
    hello = DialerHandshake("client", TOKEN, os.urandom).hello()
    hello.versions = versions
    async with open_raw(address) as peer:
        await peer.send_messages(hello)
        problem, closed = await peer.receive_end()
    assert closed == Closed(4406, "unsupported_version")
    assert problem is not None and problem.message == (
        f"the peer speaks protocol versions {named}, this control plane 1; "
        "upgrade the older of the two"
    )
