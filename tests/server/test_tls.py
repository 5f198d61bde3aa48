"""D46: what TLS lets in and what it refuses, and how both sides say so."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
import trio
from fastapi import FastAPI

from fastworker.client.client import Client
from fastworker.client.listener import open_callback_listener
from fastworker.errors import AuthenticationFailed, FastWorkerError, Forbidden, InvalidOption
from fastworker.integrations.fastapi import FastWorker
from fastworker.server.identities import IssuedToken
from fastworker.server.identity import Identity, Role
from fastworker.server.settings import ControlPlaneSettings
from fastworker.server.token_file import change_tokens
from fastworker.tls import CertificateFiles, dialler_context
from fastworker.transport.dial import open_link
from fastworker.transport.link import LinkClosed
from fastworker.wire.addresses import Address, parse_address
from fastworker.wire.handshake import CERTIFICATE_TOKEN
from tests.bad_input.raw import SETTINGS, TOKEN
from tests.support.certificates import Authority
from tests.support.planes import plane_in_a_thread

HOST = "127.0.0.1"
PATIENCE_SECONDS = 15.0

REVOKED_SECONDS = 5.0
"""From `token revoke` to the end of its connections, and from `create` to the first one."""

Dial = Callable[[Address, ssl.SSLContext | None, str], None]


def dial_as_client(backend: str, **options: object) -> Dial:
    """Connect a client under an event loop; raises why it could not."""

    def dial(address: Address, tls: ssl.SSLContext | None, token: str) -> None:
        async def connect() -> None:
            async with Client(control_plane_address=str(address), token=token, tls=tls) as client:
                await client.wait_connected(PATIENCE_SECONDS, retry=False)
                assert await client.workers() == []

        anyio.run(connect, backend=backend, backend_options=options)

    return dial


def dial_as_subworker(address: Address, tls: ssl.SSLContext | None, token: str) -> None:
    """Connect as subworkers do; raises why it could not."""

    async def connect() -> None:
        async with open_link(address, role="subworker", token=token, agent="test", tls=tls):
            pass

    trio.run(connect)


DIALLERS = {
    "asyncio": dial_as_client("asyncio"),
    "uvloop": dial_as_client("asyncio", use_uvloop=True),
    "trio": dial_as_client("trio"),
    "subworker": dial_as_subworker,
}


@pytest.fixture(params=DIALLERS)
def dial(request: pytest.FixtureRequest) -> Dial:
    return DIALLERS[request.param]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    return Authority(folder)


@pytest.fixture(scope="module")
def stranger(folder: Path) -> Authority:
    return Authority(folder, "stranger")


def with_tls(files: CertificateFiles, *, mutual: bool = False) -> ControlPlaneSettings:
    return replace(
        SETTINGS,
        tls_cert=files.certificate,
        tls_key=files.key,
        tls_ca=files.authorities if mutual else None,
    )


@pytest.fixture(scope="module")
def plain() -> Iterator[Address]:
    with plane_in_a_thread(SETTINGS) as plane:
        yield parse_address(plane.addresses[0])


@pytest.fixture(scope="module")
def secured(authority: Authority) -> Iterator[Address]:
    with plane_in_a_thread(with_tls(authority.issue(HOST))) as plane:
        yield parse_address(plane.addresses[0])


@pytest.fixture(scope="module")
def mutual(authority: Authority) -> Iterator[Address]:
    """It asks for certificates, and knows one of them as everything that there is to be."""
    known = Identity("by-certificate", "*", frozenset({Role.ADMIN}))
    issued = (IssuedToken(None, known, certificate="app.example"),)
    files = authority.issue(HOST, stem="mutual")
    settings = replace(with_tls(files, mutual=True), issued_tokens=issued)
    with plane_in_a_thread(settings) as plane:
        yield parse_address(plane.addresses[0])


def refusal(dial: Dial, address: Address, tls: ssl.SSLContext | None, token: str = TOKEN) -> str:
    """Why it is refused, as whoever has to change something; one sentence or two."""
    with pytest.raises(FastWorkerError) as caught:
        dial(address, tls, token)
    return f"{type(caught.value).__name__}: {caught.value}"


def test_a_listener_with_the_right_certificate_is_talked_to(
    dial: Dial, secured: Address, authority: Authority
) -> None:
    assert secured.tls
    dial(secured, authority.trusting(), TOKEN)


def test_d46_wrong_authority(dial: Dial, secured: Address, stranger: Authority) -> None:
    said = refusal(dial, secured, stranger.trusting())
    assert said.startswith("AuthenticationFailed: ")
    assert "--tls-ca" in said and str(secured) in said


def test_d46_the_systems_authorities_do_not_know_a_private_one(
    dial: Dial, secured: Address
) -> None:
    assert "--tls-ca" in refusal(dial, secured, None)


def test_d46_expired(dial: Dial, authority: Authority) -> None:
    files = authority.issue(HOST, stem="old", valid=False)
    with plane_in_a_thread(with_tls(files)) as plane:
        said = refusal(dial, parse_address(plane.addresses[0]), authority.trusting())
    assert said.startswith("AuthenticationFailed: ")
    assert "has expired; renew" in said


def test_d46_wrong_name(dial: Dial, authority: Authority) -> None:
    files = authority.issue("queue.example", stem="named")
    with plane_in_a_thread(with_tls(files)) as plane:
        said = refusal(dial, parse_address(plane.addresses[0]), authority.trusting())
    assert said.startswith("AuthenticationFailed: ")
    assert "is for another name" in said


def test_d46_no_certificate_where_one_is_asked_for(
    dial: Dial, mutual: Address, authority: Authority
) -> None:
    said = refusal(dial, mutual, authority.trusting())
    assert said.startswith("AuthenticationFailed: ")
    assert "shows a certificate" in said and "--tls-cert" in said


def test_d46_a_certificate_of_another_authority(
    dial: Dial, mutual: Address, authority: Authority, stranger: Authority
) -> None:
    files = replace(stranger.issue("app.example", stem="forged"), authorities=authority.file)
    said = refusal(dial, mutual, dialler_context(files))
    assert said.startswith("AuthenticationFailed: ")
    assert "--tls-ca of the control plane" in said


def test_d46_a_certificate_that_has_expired(
    dial: Dial, mutual: Address, authority: Authority
) -> None:
    files = authority.issue("app.example", stem="late", valid=False)
    assert "(--tls-cert) has expired" in refusal(dial, mutual, dialler_context(files))


def test_d46_tls_1_0(dial: Dial, secured: Address, authority: Authority) -> None:
    old = authority.trusting()
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1
    said = refusal(dial, secured, old)
    assert said.startswith("ControlPlaneUnavailable: ")
    assert "TLS 1.2" in said


def test_tls_to_a_plain_port(dial: Dial, plain: Address, authority: Authority) -> None:
    said = refusal(dial, replace(plain, tls=True), authority.trusting())
    assert said.startswith("ControlPlaneUnavailable: ")
    assert "tcp://" in said and "does not speak TLS" in said


def test_plain_to_a_tls_port(dial: Dial, secured: Address) -> None:
    said = refusal(dial, replace(secured, tls=False), None)
    assert said.startswith("ControlPlaneUnavailable: ")
    assert "wss://" in said and "speaks TLS" in said


def test_a_token_is_good_inside_mutual_tls(
    dial: Dial, mutual: Address, authority: Authority
) -> None:
    files = authority.issue("nobody.example", stem="nobody")
    dial(mutual, dialler_context(files), TOKEN)


@pytest.mark.parametrize(
    ("names", "common_name"),
    [
        (("app.example",), None),
        (("other.example", "app.example"), None),
        # Without any other name it would be refused by the stricter checks of Python 3.13.
        (("operator@other.example",), "app.example"),
    ],
)
def test_a_known_certificate_needs_no_token(
    dial: Dial,
    mutual: Address,
    authority: Authority,
    names: tuple[str, ...],
    common_name: str | None,
) -> None:
    files = authority.issue(*names, stem="app", common_name=common_name)
    dial(mutual, dialler_context(files), CERTIFICATE_TOKEN)


def test_a_common_name_does_not_count_beside_other_names(
    mutual: Address, authority: Authority
) -> None:
    files = authority.issue("other.example", stem="both", common_name="app.example")
    said = refusal(dial_as_subworker, mutual, dialler_context(files), CERTIFICATE_TOKEN)
    assert said.startswith("AuthenticationFailed: ")
    assert "fastworker token create --certificate" in said


def test_a_certificate_that_nobody_made_known_needs_a_token(
    dial: Dial, mutual: Address, authority: Authority
) -> None:
    files = authority.issue("nobody.example", stem="nobody")
    said = refusal(dial, mutual, dialler_context(files), CERTIFICATE_TOKEN)
    assert said.startswith("AuthenticationFailed: ")
    assert "fastworker token create --certificate" in said


def test_what_stands_for_a_certificate_is_worth_nothing_without_one(
    dial: Dial, secured: Address, plain: Address, authority: Authority
) -> None:
    for address in (secured, plain):
        tls = authority.trusting() if address.tls else None
        said = refusal(dial, address, tls, CERTIFICATE_TOKEN)
        assert said.startswith("AuthenticationFailed: ")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_callback_is_delivered_to_a_wss_address(
    backend: str, mutual: Address, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its own certificate and authority the settings are all that a process needs."""
    files = authority.issue(HOST, stem="own")
    for name, path in (("CERT", files.certificate), ("KEY", files.key), ("CA", files.authorities)):
        monkeypatch.setenv(f"FASTWORKER_TLS_{name}", str(path))
    monkeypatch.setenv("FASTWORKER_CONTROL_PLANE_ADDRESS", str(mutual))
    monkeypatch.setenv("FASTWORKER_TOKEN", TOKEN)

    async def main() -> None:
        listening = open_callback_listener(f"wss://{HOST}:0")
        async with Client() as client, listening as listener:
            assert listener.address.startswith("wss://")
            job = await client.delay_with_callback("nobody.has.it", listener.address)
            await client.cancel(job)
            with anyio.fail_after(PATIENCE_SECONDS):
                async for callback in listener:
                    assert callback.task_id == job
                    callback.acknowledge()
                    break

    anyio.run(main, backend=backend)


def test_who_has_a_certificate_alone_is_called_over_its_connection(
    mutual: Address, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = authority.issue("app.example", stem="called")
    for name, path in (("CERT", files.certificate), ("KEY", files.key), ("CA", files.authorities)):
        monkeypatch.setenv(f"FASTWORKER_TLS_{name}", str(path))
    monkeypatch.setenv("FASTWORKER_CONTROL_PLANE_ADDRESS", str(mutual))

    async def main() -> None:
        async with Client() as client:
            callbacks = client.callbacks()
            job = await client.delay_with_callback("nobody.has.it", client.callback_address)
            await client.cancel(job)
            with anyio.fail_after(PATIENCE_SECONDS):
                assert (await anext(callbacks)).task_id == job
            with pytest.raises(Forbidden, match="signed with a token"):
                await client.delay_with_callback("nobody.has.it", f"wss://{HOST}:1")
        with pytest.raises(InvalidOption, match="certificate only"):
            async with open_callback_listener(f"wss://{HOST}:0"):
                pass

    anyio.run(main)


def test_a_callback_listener_with_tls_needs_a_certificate() -> None:
    async def main() -> None:
        async with open_callback_listener(f"wss://{HOST}:0", token=TOKEN):
            pass

    with pytest.raises(InvalidOption, match="FASTWORKER_TLS_CERT"):
        anyio.run(main)


def test_an_app_with_fastapi_reaches_a_control_plane_with_tls(
    secured: Address, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTWORKER_TLS_CA", str(authority.file))
    app = FastAPI()
    FastWorker(app, control_plane_address=str(secured), token=TOKEN)

    async def main() -> None:
        async with app.router.lifespan_context(app):
            assert await app.state.fastworker.client.workers() == []

    anyio.run(main)


def test_a_certificate_is_made_known_and_revoked_while_the_control_plane_runs(
    authority: Authority, tmp_path: Path
) -> None:
    file = tmp_path / "tokens.json"
    settings = replace(with_tls(authority.issue(HOST), mutual=True), tokens_file=file)
    files = dialler_context(authority.issue("gpu.example", stem="gpu"))
    known = IssuedToken(None, Identity("gpu", "*", frozenset({Role.WORKER})), "gpu.example")

    async def work(address: Address) -> None:
        while True:
            try:
                async with open_link(
                    address, role="subworker", token=CERTIFICATE_TOKEN, agent="test", tls=files
                ) as (link, _):
                    change_tokens(file, lambda tokens: [])
                    with pytest.raises(LinkClosed, match="4401"):
                        while True:
                            await link.receive()
                return
            except AuthenticationFailed:
                await trio.sleep(0.1)

    async def work_in_time(address: Address) -> None:
        with trio.fail_after(2 * REVOKED_SECONDS):
            await work(address)

    with plane_in_a_thread(settings) as plane:
        address = parse_address(plane.addresses[0])
        assert "token create" in refusal(dial_as_subworker, address, files, CERTIFICATE_TOKEN)
        change_tokens(file, lambda tokens: [known])
        trio.run(work_in_time, address)
        assert "token create" in refusal(dial_as_subworker, address, files, CERTIFICATE_TOKEN)


def test_a_context_that_checks_no_names_is_refused() -> None:
    careless = ssl.create_default_context()
    careless.check_hostname = False
    with pytest.raises(InvalidOption, match="its name"):
        Client(control_plane_address="wss://queue.example:443", token=TOKEN, tls=careless)


def test_a_replaced_certificate_is_used_without_a_restart(
    folder: Path, authority: Authority
) -> None:
    files = authority.issue(HOST, stem="turning", valid=False)
    with plane_in_a_thread(with_tls(files)) as plane:
        address = parse_address(plane.addresses[0])
        assert "has expired" in refusal(dial_as_subworker, address, authority.trusting())
        authority.issue(HOST, stem="turning")
        dial_as_subworker(address, authority.trusting(), TOKEN)
