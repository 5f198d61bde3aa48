"""Callback addresses: one spelling for each, and no other way to say loopback."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastworker.errors import InvalidAddress
from fastworker.wire.callback_addresses import CallbackAddress, parse_callback_address


@pytest.mark.parametrize(
    ("text", "expected", "origin"),
    [
        ("tcp://Web.Internal.:70", ("web.internal", 70, False, None), "tcp://web.internal:70"),
        ("wss://10.0.0.7:7000", ("10.0.0.7", 7000, True, None), "wss://10.0.0.7:7000"),
        ("tcp://[0:0:0:0:0:0:0:1]:7", ("::1", 7, False, None), "tcp://[::1]:7"),
        ("http://a", ("a", 80, False, "/"), "http://a"),
        ("HTTPS://A.b:8443/x%2Fy?z=1", ("a.b", 8443, True, "/x%2Fy?z=1"), "https://a.b:8443"),
        ("https://xn--bcher-kva.example?q", ("xn--bcher-kva.example", 443, True, "/?q"), None),
        ("https://[::1]/p", ("::1", 443, True, "/p"), "https://[::1]"),
    ],
)
def test_an_address_is_read_and_written(
    text: str, expected: tuple[str, int, bool, str | None], origin: str | None
) -> None:
    found = parse_callback_address(text)
    assert found == CallbackAddress(*expected)
    assert parse_callback_address(found.url) == found
    assert origin in (None, found.origin)


@pytest.mark.parametrize(
    "text",
    [
        *("tcp://2130706433:80", "tcp://0x7f000001:80", "tcp://0177.0.0.1:80", "tcp://127.1:80"),
        *("tcp://0:80", "http://0/", "http://0x7f.1/", "http://127.0.0.01", "http://1.2.3.4.5/"),
        *("http://0X7F.0.0.1", "http://example.0x", "tcp://..:80", "http://./"),
        *("http://user@a/", "http://user:pass@127.0.0.1/", "http://a@b@c/", "tcp://a@b:1"),
        *("http://bücher.example/", "http://①②⑦.0.0.1/", "http://127。0。0。1/"),
        *("http://[fe80::1%25eth0]/", "http://[::1%lo]/", "http://[::1", "http://[1.2.3.4]/"),
        *("http://a:0/", "http://a:65536/", "http://a:x/", "http://", "http:///x", "tcp://a:0"),
        *("http://a/#f", "http://a/x y", "http://a/\r\nHost: b", "http://a/\\b", "http://a\\@b/"),
        *("http://a/\x00", "http://a/ü", "http://a\t.b/", "http://" + "a" * 2000, "ftp://a/"),
        *("ws://1...:1", "http://a../", "tcp://a..b:1", "http://.a/"),
        *("file:///etc/passwd", "gopher://a:70/", "//a", "", "http:/a", "unix:///run/x"),
    ],
)
def test_odd_spellings_are_refused(text: str) -> None:
    with pytest.raises(InvalidAddress) as refused:
        parse_callback_address(text)
    assert "pass@" not in str(refused.value)


@given(st.text(max_size=40), st.sampled_from(["", "http://", "https://", "tcp://"]))
def test_any_text_is_an_address_or_refused(text: str, scheme: str) -> None:
    try:
        found = parse_callback_address(scheme + text)
    except InvalidAddress:
        return
    assert found.url.isascii()
    assert " " not in found.url
    assert parse_callback_address(found.url) == found
