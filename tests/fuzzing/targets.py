"""What is fuzzed, one function a target: it takes any bytes, and raises if something is wrong.

Any bytes give a value or an error of ours of the documented kind; nothing else, and at once. How
the bytes are found is not its business: a corpus, chance, or a fuzzer that looks at coverage.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple
from zlib import crc32

import cbor2

from fastworker.config import resolve
from fastworker.config.settings import OPTIONS, variable_name
from fastworker.errors import CallerError, InvalidAddress, InvalidOption, ProtocolError
from fastworker.server.callback_rules import CallbackRules, stored_target
from fastworker.server.http_head import BadHead, check_upgrade, parse_head
from fastworker.server.identities import Identities
from fastworker.server.token_file import read_tokens
from fastworker.server.webhooks import LONGEST_RETRY_AFTER_SECONDS, read_retry_after
from fastworker.wire.addresses import parse_address, parse_addresses
from fastworker.wire.callback_addresses import parse_callback_address
from fastworker.wire.callbacks import decode_callback
from fastworker.wire.codec import Assembler, UnknownMessage, decode, encode
from fastworker.wire.messages import Challenge, Fetched, Hello, Message, Piece, Proof, Submit
from fastworker.wire.options import map_to_options, options_to_map
from fastworker.wire.values import open_call, open_map, open_value, seal_value
from fastworker.wire.views import map_to_view
from fastworker.wire.webhooks import decode_webhook
from tests.fuzzing import clients, dispatching, streams, tenants
from tests.fuzzing.wrong import SCHEMA

LOOKED_AT_LATER: Final = (Hello, Challenge, Proof, Fetched)
"""By the handshake and by clients: the codec takes more than the schema has."""


class Target(NamedTuple):
    """One of them."""

    check: Callable[[bytes], None]
    alphabet: bytes
    """Bytes that mean something there: what a mutation by chance puts in."""


def check_frame(data: bytes) -> None:
    """A frame decodes or is refused; what decodes is what the schema allows, and stays the same."""
    try:
        messages = decode(data)
        if messages and isinstance(messages[0], Piece):
            Assembler().feed(messages)
    except ProtocolError:
        return
    known = [each for each in messages if not isinstance(each, UnknownMessage)]
    again = encode(known)
    assert encode(decode(again)) == again
    for message, item in zip(known, cbor2.loads(again), strict=True):
        if not isinstance(message, LOOKED_AT_LATER):
            assert SCHEMA.matches(SCHEMA.rules["message"], item), f"not the schema: {item!r:.500}"
        _look_into(message)


def _look_into(message: Message) -> None:
    """What the receiver of a message looks at later."""
    if isinstance(message, Submit):
        for _, _, _, options in message.specs:
            assert isinstance(options, dict)
            with suppress(CallerError):
                found = map_to_options(options)
                assert map_to_options(options_to_map(found)) == found
    elif isinstance(message, Fetched):
        for job in message.jobs:
            with suppress(ProtocolError):
                map_to_view(job)


def check_value(data: bytes) -> None:
    """Sealed bytes open or are refused, with and without a checksum that fits."""
    for sealed in (data, data + crc32(data).to_bytes(4, "big")):
        for opened in (open_value, open_call, open_map):
            with suppress(ProtocolError):
                opened(sealed)
        with suppress(ProtocolError, CallerError):
            seal_value(open_value(sealed), what="it")
    with suppress(ProtocolError):
        decode_callback(data)


def check_address(data: bytes) -> None:
    """Text is an address or is refused; what it is can be written and read again."""
    text = data.decode("utf-8", "surrogateescape")
    with suppress(InvalidAddress):
        found = parse_address(text, default_port=1)
        assert parse_address(str(found)) == found
        assert parse_address(found.url) == found
        assert found.is_loopback in (True, False)
    with suppress(InvalidAddress):
        parse_addresses(text)


def check_settings(data: bytes) -> None:
    """Bytes as a settings file, and as every variable and flag in turn, are settings or refused."""
    first, _, rest = data.partition(b"\n")
    with tempfile.TemporaryDirectory(prefix="fastworker-fuzz-") as folder:
        cwd = Path(folder)
        (cwd / "fastworker.toml").write_bytes(data)
        with suppress(InvalidOption):
            resolve({}, {}, cwd)
        (cwd / "fastworker.toml").unlink()
        # An environment has no zero bytes, and its text is what the system made of its bytes.
        text = first.replace(b"\0", b"").decode("utf-8", "surrogateescape")
        for name in _chosen(rest):
            with suppress(InvalidOption):
                resolve({}, {variable_name(name): text}, cwd)
            with suppress(InvalidOption):
                resolve({name: text}, {}, cwd)
        with suppress(InvalidOption):
            resolve({"config": text}, {}, cwd)


def _chosen(data: bytes) -> Iterable[str]:
    """The options that bytes stand for; all of them if there are no bytes."""
    names = list(OPTIONS)
    return [names[byte % len(names)] for byte in data[:4]] if data else names


def check_callback(data: bytes) -> None:
    """Addresses of callbacks, what is kept of them, bodies and headers of webhooks."""
    text = data.decode("utf-8", "surrogateescape")
    with suppress(InvalidAddress):
        found = parse_callback_address(text)
        assert parse_callback_address(found.url) == found
        assert "@" not in found.origin and found.authority in found.origin
    with suppress(InvalidAddress):
        stored_target(text)
    with suppress(InvalidOption):
        CallbackRules([text])
    with suppress(ProtocolError):
        decode_webhook(data)
    seconds = read_retry_after(text, 1e9)
    assert seconds is None or 0 <= seconds <= LONGEST_RETRY_AFTER_SECONDS


def check_tokens_file(data: bytes) -> None:
    """A tokens file is one, or is refused without showing what is in it."""
    with tempfile.TemporaryDirectory(prefix="fastworker-fuzz-") as folder:
        path = Path(folder) / "tokens.json"
        path.touch(mode=0o600)
        path.write_bytes(data)
        with suppress(InvalidOption):
            identities = Identities({}, read_tokens(path))
            assert identities.key("nobody") is not None


def check_http_head(data: bytes) -> None:
    """Bytes as the head of a request are one or are refused."""
    with suppress(BadHead):
        head = parse_head(data)
        for loopback in (True, False):
            with suppress(BadHead):
                check_upgrade(head, loopback=loopback)


TARGETS: Final = {
    "frames": Target(check_frame, bytes(range(0x60, 0xC0)) + b"\xf4\xf5\xf6\xf9\xfb\xff\x00"),
    "values": Target(check_value, bytes(range(0xC0, 0xDC)) + b"\x80\x81\xa0\xf9\xfb\xff\x00"),
    "addresses": Target(check_address, b"tcp://ws:[]:,0123456789.@%\xc3"),
    "settings": Target(check_settings, b'="\n[].0123456789eE+-,:/~\\ '),
    "http_heads": Target(check_http_head, b"\r\n: ?GET/HTTP1.\xff"),
    "callbacks": Target(check_callback, b'https://[]:%?@. {}":,0123456789-T'),
    "tokens_files": Target(check_tokens_file, b'{}[]",:0123456789eE.-+\\u*'),
    "dispatch": Target(dispatching.run, bytes(range(8)) + b"\x80\x81\xa0\xf6"),
    "tenants": Target(tenants.run, bytes(range(8)) + b"\x80\x81\xa0\xf6"),
    "clients": Target(clients.run, bytes(range(8)) + b"\x80\x81\xa0\xf6"),
    "streams": Target(streams.run, b"\x81\x82\x88\x89\x80\xfe\xff\x7e\x7f\r\n: "),
}
"""By name; each has a folder of that name in ``corpus``."""
