"""Webhooks and callbacks that are delivered, tried again, refused and given up.

The control plane, its client and the receivers talk over real sockets of the loopback.
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio

from fastworker import Client, open_callback_listener, verify_webhook
from fastworker.core.records import CallbackRow, Now
from fastworker.errors import CallbackRefused, Forbidden, InvalidOption
from fastworker.server import webhooks
from fastworker.server.callback_lines import AT_ONCE_PER_DESTINATION
from fastworker.server.callback_trouble import Trouble
from fastworker.server.callbacks import GIVE_UP_SECONDS
from fastworker.server.control_plane import run_control_plane
from fastworker.server.identities import IssuedToken
from fastworker.server.identity import Identity, Role
from fastworker.server.plane import Plane
from fastworker.store.contract import CallbackFilter
from fastworker.tls import CertificateFiles
from tests.bad_input.raw import SETTINGS, TOKEN, running_plane
from tests.support.certificates import Authority
from tests.support.receivers import (
    ACCEPTED,
    Behave,
    Receiver,
    answering,
    endless,
    open_receiver,
    silent,
)

pytestmark = pytest.mark.trio

PATIENCE_SECONDS = 20.0
LOOK_AGAIN_SECONDS = 0.02


@asynccontextmanager
async def client_of(plane: Plane) -> AsyncIterator[Client]:
    with trio.fail_after(PATIENCE_SECONDS):
        async with Client(control_plane_address=plane.addresses[0], token=TOKEN) as client:
            yield client


@asynccontextmanager
async def called(
    behave: Behave, *, tls: ssl.SSLContext | None = None, **changes: object
) -> AsyncIterator[tuple[Plane, Client, Receiver]]:
    """A control plane, a client of it, and somebody to be called."""
    async with (
        running_plane(**changes) as plane,
        client_of(plane) as client,
        open_receiver(behave, tls=tls) as receiver,
    ):
        yield plane, client, receiver


async def end_one(client: Client, address: str, data: object = None) -> str:
    """A job that has ended, and so a callback that is to be delivered."""
    job = await client.delay_with_callback("nobody.has.it", address, callback_data=data)
    await client.cancel(job)
    return job


async def kept(plane: Plane, ready: int = 1) -> list[CallbackRow]:
    """The callbacks that wait or are given up, once each of them has been tried so often."""
    rows = await plane.store.callbacks(CallbackFilter())
    while rows and min(row.attempts for row in rows) < ready:
        await trio.sleep(LOOK_AGAIN_SECONDS)
        rows = await plane.store.callbacks(CallbackFilter())
    return rows


def server_context(files: CertificateFiles) -> ssl.SSLContext:
    assert files.certificate is not None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.certificate, files.key)
    return context


async def test_a_webhook_is_delivered_signed_and_acknowledged() -> None:
    async with called(answering(ACCEPTED)) as (plane, client, receiver):
        job = await end_one(client, f"{receiver.url}/jobs/%C3%BC?shop=7", data={"order": 7})
        (request,) = await receiver.until(1)
        callback = verify_webhook(request.body, request.headers, token=TOKEN)
        assert (callback.task_id, callback.callback_data) == (job, {"order": 7})
        assert callback.status.value == json.loads(request.body)["status"] == "cancelled"
        assert request.line == "POST /jobs/%C3%BC?shop=7 HTTP/1.1"
        assert request.headers["host"] == receiver.url.removeprefix("http://")
        assert request.headers["content-type"] == "application/json"
        with pytest.raises(CallbackRefused):
            verify_webhook(request.body + b" ", request.headers, token=TOKEN)
        assert await kept(plane, ready=999) == []


async def test_what_is_not_acknowledged_comes_again_under_the_same_id() -> None:
    answers = answering(
        b"HTTP/1.1 500 Oops\r\nContent-Length: 6\r\n\r\nsecret", b"HTTP/1.1 200 OK\r\n\r\n"
    )
    async with called(answers) as (plane, client, receiver):
        await end_one(client, receiver.url)
        (row,) = await kept(plane)
        assert (row.problem, row.given_up_at) == ("status 5xx", None)
        first, second = await receiver.until(2)
        assert first.body == second.body
        assert first.headers["webhook-id"] == second.headers["webhook-id"]
        assert verify_webhook(second.body, second.headers, token=TOKEN)


async def test_a_receiver_that_says_gone_is_never_called_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with called(answering(b"HTTP/1.1 410 Gone\r\n\r\n")) as (plane, client, receiver):
        job = await end_one(client, f"{receiver.url}/a-secret-path")
        (row,) = await kept(plane)
        assert (row.problem, row.attempts, row.data) == ("status 410", 1, None)
        assert row.given_up_at is not None
        (line,) = (each for each in caplog.messages if "given up" in each)
        assert job in line
        assert receiver.url in line
        assert "secret" not in line


async def test_retry_after_is_honoured_within_bounds() -> None:
    late = b"HTTP/1.1 503 Busy\r\nRetry-After: 999999999\r\n\r\n"
    async with called(answering(late)) as (plane, client, receiver):
        await end_one(client, receiver.url)
        (row,) = await kept(plane)
        assert 3590 < row.next_attempt_at - time.time() <= 3600


async def test_nothing_is_redirected() -> None:
    places = ["http://169.254.169.254/latest/meta-data"]

    async def move(stream: trio.abc.Stream, receiver: Receiver) -> None:
        head = f"HTTP/1.1 307 Moved\r\nLocation: {places[-1]}\r\nContent-Length: 0\r\n\r\n"
        await answering(head.encode())(stream, receiver)

    async with (
        called(move) as (plane, client, receiver),
        open_receiver(answering(ACCEPTED)) as inner,
    ):
        await end_one(client, receiver.url)
        assert [row.problem for row in await kept(plane)] == ["status 3xx"]
        places.append(inner.url)
        await receiver.until(2)
        await kept(plane, ready=2)
        assert inner.connections == 0


SLOW = {
    "silent": silent,
    "slow head": endless(b"HTTP/1.1 200 OK\r\n", b"x", pause=0.1),
    "endless continues": endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n", pause=0.01),
}
HOSTILE = {
    **SLOW,
    "endless body": endless(b"HTTP/1.1 500 Oops\r\n\r\n", b"x" * 65536),
    "endless head": endless(b"HTTP/1.1 200 OK\r\n", b"x: " + b"y" * 65536 + b"\r\n"),
    "no http": answering(b"\x16\x03\x01 what?\r\n\r\n"),
    "two lengths": answering(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
}


async def test_hostile_receivers_hold_up_nobody_else() -> None:
    async with AsyncExitStack() as opened:
        _, client, receiver = await opened.enter_async_context(called(answering(ACCEPTED)))
        hostile = [
            await opened.enter_async_context(open_receiver(behave)) for behave in HOSTILE.values()
        ]
        for _ in range(20):
            for place in hostile:
                await end_one(client, place.url)
        begun = trio.current_time()
        await end_one(client, receiver.url)
        await receiver.until(1)
        assert trio.current_time() - begun < 5.0
        # Few at once, whoever waits for them.
        slow = hostile[: len(SLOW)]
        assert [place.connections for place in slow] == [AT_ONCE_PER_DESTINATION] * len(slow)


@pytest.mark.parametrize("behaviour", ["endless head", "endless body", "no http", "refused"])
async def test_what_listens_but_is_no_listener_is_told_in_a_word(behaviour: str) -> None:
    """Whatever it answers to the opening of a WebSocket."""
    refused = answering(b"HTTP/1.1 403 secret\r\nContent-Length: 6\r\n\r\nsecret")
    async with called(HOSTILE.get(behaviour, refused)) as (plane, client, receiver):
        await end_one(client, receiver.url.replace("http://", "tcp://"))
        (row,) = await kept(plane)
        assert row.problem in (Trouble.NOT_UNDERSTOOD, Trouble.UNREACHABLE)


@pytest.mark.parametrize(
    "address",
    [
        *("http://169.254.169.254/latest/meta-data", "http://[::ffff:169.254.169.254]/"),
        *("http://10.255.255.1/", "tcp://0.0.0.0:80", "http://[fe80::1]/", "tcp://224.0.0.1:80"),
    ],
)
async def test_a_submission_that_would_call_elsewhere_is_refused(address: str) -> None:
    async with running_plane() as plane, client_of(plane) as client:
        with pytest.raises(Forbidden, match="--callback-allow"):
            await client.delay_with_callback("nobody.has.it", address)


async def test_a_control_plane_without_the_extra_says_so_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with called(answering(ACCEPTED)) as (plane, client, receiver):
        waiting = await client.delay_with_callback("nobody.has.it", receiver.url)
        monkeypatch.setattr(webhooks.importlib.util, "find_spec", lambda name: None)
        with pytest.raises(InvalidOption, match="extra `webhooks`"):
            await client.delay_with_callback("nobody.has.it", receiver.url)
        await client.cancel(waiting)
        assert [row.problem for row in await kept(plane)] == ["extra webhooks not installed"]


@pytest.mark.parametrize(
    ("names", "host", "problem"),
    [
        (("localhost",), "localhost", None),
        (("127.0.0.1",), "127.0.0.1", None),
        (("other.example",), "localhost", "TLS failed"),
        (("127.0.0.1",), "localhost", "TLS failed"),
    ],
)
async def test_the_certificate_is_that_of_the_name_whatever_address_is_dialled(
    tmp_path: Path, names: tuple[str, ...], host: str, problem: str | None
) -> None:
    authority = Authority(tmp_path)
    files = authority.issue(*names)
    tls = server_context(files)
    async with called(answering(ACCEPTED), tls=tls, tls_ca=authority.file) as (
        plane,
        client,
        receiver,
    ):
        await end_one(client, receiver.url.replace("127.0.0.1", host))
        if problem is None:
            (request,) = await receiver.until(1)
            assert request.headers["host"].startswith(host)
        else:
            assert [row.problem for row in await kept(plane)] == [problem]
            assert receiver.requests == []


async def test_a_listener_with_tls_shows_the_certificate_of_its_name(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    tls = server_context(authority.issue("localhost"))
    async with (
        running_plane(tls_ca=authority.file) as plane,
        client_of(plane) as client,
        open_callback_listener("wss://127.0.0.1:0", token=TOKEN, tls=tls) as listener,
    ):
        await end_one(client, listener.address)
        assert [row.problem for row in await kept(plane)] == ["TLS failed"]
        job = await end_one(client, listener.address.replace("127.0.0.1", "localhost"))
        callback = await anext(aiter(listener))
        assert callback.task_id == job
        callback.acknowledge()


async def test_a_certificate_of_another_authority_is_not_trusted(tmp_path: Path) -> None:
    files = Authority(tmp_path).issue("127.0.0.1")
    tls = server_context(files)
    async with called(answering(ACCEPTED), tls=tls) as (plane, client, receiver):
        await end_one(client, receiver.url)
        assert [row.problem for row in await kept(plane)] == ["TLS failed"]
        assert receiver.requests == []


@pytest.mark.slow
async def test_a_tls_handshake_that_does_not_end_leaves_no_socket_open() -> None:
    """Ended from inside: what is left open there would be closed by chance only."""
    async with called(silent) as (plane, client, receiver):
        await end_one(client, receiver.url.replace("http://", "https://"))
        assert [row.problem for row in await kept(plane)] == ["no answer"]
        gone = receiver.closed_by_caller
        with trio.fail_after(PATIENCE_SECONDS):
            await gone.wait()


async def test_a_callback_is_given_up_after_a_day(caplog: pytest.LogCaptureFixture) -> None:
    ahead = 0.0

    def clock() -> Now:
        return Now(time.time() + ahead, trio.current_time())

    async with trio.open_nursery() as nursery:

        async def run(*, task_status: trio.TaskStatus[Plane]) -> None:
            await run_control_plane(
                SETTINGS, clock=clock, handle_signals=False, task_status=task_status
            )

        plane: Plane = await nursery.start(run)
        async with (
            client_of(plane) as client,
            open_receiver(answering(b"HTTP/1.1 404 No\r\n\r\n")) as receiver,
        ):
            await end_one(client, receiver.url)
            (row,) = await kept(plane)
            assert (row.problem, row.given_up_at) == ("status 4xx", None)
            ahead = GIVE_UP_SECONDS + 1.0
            (row,) = await kept(plane, ready=2)
            assert row.given_up_at is not None
        assert any("given up after 2 attempts: status 4xx" in each for each in caplog.messages)
        nursery.cancel_scope.cancel()


async def test_each_tenant_is_shown_its_own_callbacks() -> None:
    tokens = {name: f"{name}.0123456789abcdef0123456789abcdef" for name in ("shop", "bank")}
    issued = tuple(
        IssuedToken(token, Identity(name, name, frozenset({Role.SUBMIT})))
        for name, token in tokens.items()
    )
    found = {}
    gone = answering(b"HTTP/1.1 410 Gone\r\n\r\n")
    async with called(gone, issued_tokens=issued) as (plane, client, receiver):
        for name, token in tokens.items():
            async with Client(control_plane_address=plane.addresses[0], token=token) as holder:
                job = await end_one(holder, f"{receiver.url}/{name}?a=secret")
                await kept(plane)
                rows = await holder.callback_deliveries(given_up=True)
                assert [(row.task_id, row.tenant) for row in rows] == [(job, name)]
                assert rows[0].address == receiver.url
                found[name] = job
        everything = await client.callback_deliveries()
        assert {row.tenant: row.task_id for row in everything} == found
        assert await client.callback_deliveries(given_up=False) == []


async def test_who_has_no_token_to_sign_with_is_told_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with called(answering(ACCEPTED)) as (plane, client, receiver):
        monkeypatch.setattr(plane.identities, "signing_key", lambda token_id, **_: None)
        with pytest.raises(Forbidden, match="certificate"):
            await client.delay_with_callback("nobody.has.it", receiver.url)


async def test_a_revoked_token_signs_nothing() -> None:
    token = "shop.0123456789abcdef0123456789abcdef"
    issued = IssuedToken(token, Identity("shop", "shop", frozenset({Role.SUBMIT})))
    async with called(answering(ACCEPTED), issued_tokens=(issued,)) as (plane, client, receiver):
        address = plane.addresses[0]
        async with Client(control_plane_address=address, token=token) as holder:
            job = await holder.delay_with_callback("nobody.has.it", receiver.url)
        plane.identities.replace(())
        await client.cancel(job)
        (row,) = await kept(plane)
        assert (row.problem, row.tenant, row.given_up_at) == ("token not valid", "shop", None)
        assert receiver.connections == 0
