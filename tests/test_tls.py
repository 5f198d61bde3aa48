"""Contexts from files, and what a failed handshake means, without any network."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from fastworker.errors import AuthenticationFailed, ControlPlaneUnavailable, InvalidOption
from fastworker.tls import (
    CertificateFiles,
    Contexts,
    certificate_names,
    dialler_context,
    explain_tls,
    listener_context,
)
from tests.support.certificates import Authority

HOST = "127.0.0.1"
PLACE = "wss://queue.example:5555"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def failure(dialler: ssl.SSLContext, listener: ssl.SSLContext) -> ssl.SSLError:
    """What the dialler sees of a handshake that fails."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = dialler.wrap_bio(down, up, server_hostname=HOST)
    theirs = listener.wrap_bio(up, down, server_side=True)
    for _ in range(5):
        for side in (ours, theirs):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError as error:
                if side is ours:
                    return error
    raise AssertionError("the handshake did not fail")


def test_a_listener_that_speaks_only_old_tls(authority: Authority) -> None:
    old = listener_context(authority.issue(HOST))
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        old.minimum_version = ssl.TLSVersion.TLSv1
        old.maximum_version = ssl.TLSVersion.TLSv1_1
    said = explain_tls(failure(authority.trusting(), old), PLACE)
    assert isinstance(said, ControlPlaneUnavailable)
    assert "TLS 1.2 or later" in str(said)


def test_a_missing_certificate_in_tls_1_2(authority: Authority) -> None:
    """TLS 1.2 has no alert for it: the sentence names both that it may mean."""
    asking = listener_context(authority.issue(HOST))
    asking.verify_mode = ssl.CERT_REQUIRED
    asking.load_verify_locations(authority.file)
    asking.maximum_version = ssl.TLSVersion.TLSv1_2
    said = explain_tls(failure(authority.trusting(), asking), PLACE)
    assert isinstance(said, AuthenticationFailed)
    assert "--tls-cert" in str(said) and PLACE in str(said)


@pytest.mark.parametrize("wrap", ["cause", "context", "group"])
def test_the_cause_is_found_wherever_it_is(wrap: str) -> None:
    inner = ssl.SSLError(1, "[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca")
    inner.reason = "TLSV1_ALERT_UNKNOWN_CA"
    outer: BaseException = ConnectionError("the connection broke")
    if wrap == "cause":
        outer.__cause__ = inner
    elif wrap == "context":
        outer.__context__ = inner
    else:
        outer = ExceptionGroup("several", [OSError("other"), inner])
    assert isinstance(explain_tls(outer, PLACE), AuthenticationFailed)


def test_what_is_not_of_tls_is_not_explained() -> None:
    assert explain_tls(ConnectionRefusedError("nobody there"), PLACE) is None


def test_names_are_dns_names_and_uris_or_else_the_common_name() -> None:
    subject = ((("organizationName", "us"),), (("commonName", "common"),))
    other = (("DNS", "a.example"), ("IP Address", "10.0.0.1"), ("URI", "spiffe://b/c"))
    assert certificate_names({"subject": subject, "subjectAltName": other}) == (
        "a.example",
        "spiffe://b/c",
    )
    assert certificate_names({"subject": subject}) == ("common",)
    assert certificate_names({"subjectAltName": (("IP Address", "10.0.0.1"),)}) == ()
    assert certificate_names(None) == certificate_names({}) == ()


def test_a_half_replaced_certificate_leaves_the_old_one_in_force(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    files = authority.issue(HOST, stem="half")
    assert files.key is not None
    contexts = Contexts(files, listener_context)
    first = contexts.current()
    whole = files.key.read_bytes()
    files.key.write_bytes(whole[:100])
    assert contexts.current() is first
    assert contexts.current() is first
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    files.key.write_bytes(whole)
    assert contexts.current() is not first


@pytest.mark.parametrize("content", [b"", b"no certificate\n"])
def test_files_that_cannot_be_used_are_named(tmp_path: Path, content: bytes) -> None:
    cert, key, ca = tmp_path / "c.pem", tmp_path / "k.pem", tmp_path / "a.pem"
    for path in (cert, key, ca):
        path.write_bytes(content)
    with pytest.raises(InvalidOption, match=r"c\.pem and --tls-key .*PEM"):
        listener_context(CertificateFiles(cert, key))
    with pytest.raises(InvalidOption, match=r"--tls-ca .*a\.pem .*PEM"):
        dialler_context(CertificateFiles(None, None, ca))


def test_a_listener_never_goes_below_tls_1_2(authority: Authority) -> None:
    assert listener_context(authority.issue(HOST)).minimum_version is ssl.TLSVersion.TLSv1_2
    assert dialler_context(CertificateFiles()).minimum_version is ssl.TLSVersion.TLSv1_2


def test_an_encrypted_key_is_refused_instead_of_asked_for(authority: Authority) -> None:
    files = authority.issue(HOST)
    assert files.key is not None
    key = load_pem_private_key(files.key.read_bytes(), None)
    secret = BestAvailableEncryption(b"nobody knows")
    files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, secret))
    with pytest.raises(InvalidOption, match="is encrypted"):
        listener_context(files)
