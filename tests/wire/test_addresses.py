"""Addresses as users write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastworker.errors import InvalidAddress
from fastworker.wire.addresses import Address, parse_address, parse_addresses


@pytest.mark.parametrize(
    ("text", "address", "url"),
    [
        ("tcp://127.0.0.1:5555", Address("127.0.0.1", 5555), "ws://127.0.0.1:5555"),
        ("ws://localhost:1/", Address("localhost", 1), "ws://localhost:1"),
        ("WSS://example.org:443", Address("example.org", 443, True), "wss://example.org:443"),
        ("tcp://[::1]:0", Address("::1", 0), "ws://[::1]:0"),
        ("tcp://my_service:65535", Address("my_service", 65535), "ws://my_service:65535"),
    ],
)
def test_address_is_read(text: str, address: Address, url: str) -> None:
    assert parse_address(text) == address
    assert address.url == url
    assert parse_address(str(address)) == parse_address(address.url) == address


def test_default_port_is_used_only_where_none_is_given() -> None:
    assert parse_address("tcp://[::1]", default_port=7).port == 7
    assert parse_address("tcp://a", default_port=7).port == 7
    assert parse_address("tcp://a:8", default_port=7).port == 8


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("localhost:5555", "has no scheme; write it as tcp://host:port"),
        ("http://a:1", "unknown scheme"),
        ("tcp://a", "has no port"),
        ("tcp://a:", "a port that is not a number"),
        ("tcp://a:65536", "a port that is not a number from 0 to 65535"),
        ("tcp://a:-1", "a port that is not a number"),
        ("tcp://a:\u0661", "a port that is not a number"),
        ("tcp://:5555", "has no host"),
        ("tcp://", "has no host"),
        ("tcp://a:1/path", "has a path"),
        ("tcp://a:1?x", "has a path or a query"),
        ("tcp://a:1#x", "has a path or a query"),
        ("tcp://*:5555", "use 0.0.0.0"),
        ("tcp://a b:1", "neither a name nor an IP address"),
        ("tcp://-a:1", "neither a name nor an IP address"),
        ("tcp://::1:5555", r"write IPv6 in brackets"),
        ("tcp://[::1:5555", "unfinished IPv6"),
        ("tcp://[::1]5555", "unfinished IPv6"),
        ("tcp://[a]:1", "no IPv6 address"),
        ("tcp://" + "a" * 400, "has 406 characters"),
    ],
)
def test_bad_address_gets_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(InvalidAddress, match=sentence):
        parse_address(text)


def test_password_is_refused_and_not_repeated() -> None:
    with pytest.raises(InvalidAddress, match="FASTWORKER_TOKEN") as caught:
        parse_address("tcp://me:hunter2@a:1")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "tcp://a:1?token=hunter2",
        "tcp://a:1/hunter2",
        "tcp://a:1#hunter2",
        "https://a:1?token=hunter2",
        "a:1?token=hunter2",
        "me:hunter2@a:1",
        "tcp://a?token=hunter2",
    ],
)
def test_d47_a_secret_in_an_address_is_refused_and_not_repeated(text: str) -> None:
    for read in (parse_address, parse_addresses):
        with pytest.raises(InvalidAddress) as caught:
            read(text)
        assert "hunter2" not in str(caught.value)


def test_list_keeps_the_order_and_each_once() -> None:
    found = parse_addresses("tcp://b:1, wss://a:2,ws://b:1")
    assert found == [Address("b", 1), Address("a", 2, True)]


@pytest.mark.parametrize("text", ["", "tcp://a:1,", ",tcp://a:1"])
def test_list_with_an_empty_place_is_refused(text: str) -> None:
    with pytest.raises(InvalidAddress, match="empty place"):
        parse_addresses(text)


@pytest.mark.parametrize(
    ("text", "loopback"),
    [("127.9.9.9:1", True), ("[::1]:1", True), ("LOCALHOST:1", True), ("10.0.0.1:1", False)],
)
def test_loopback(text: str, loopback: bool) -> None:
    assert parse_address(f"tcp://{text}").is_loopback is loopback


@given(st.text(), st.sampled_from(["", "tcp://", "wss://", "tcp://["]))
def test_any_text_gives_an_address_or_a_sentence(text: str, start: str) -> None:
    try:
        address = parse_address(start + text, default_port=1)
    except InvalidAddress:
        return
    assert parse_address(str(address)) == address
