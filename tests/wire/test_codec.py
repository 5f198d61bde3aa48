"""Frames: what is left out, what is refused, and that nothing else can happen."""

from __future__ import annotations

import contextlib
import itertools
import math
from datetime import UTC
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastworker.errors import InternalError, ProtocolError
from fastworker.wire import codec
from fastworker.wire import messages as m
from fastworker.wire.codec import Assembler, UnknownMessage, decode, encode, pack, split
from tests.wire.examples import EXAMPLES, A, B

SPEC: list[list[object]] = [["t", "q", 1, {}]]


def fields_of(message: m.Message) -> dict[str, Any]:
    (kind, found), *_ = cbor2.loads(encode([message]))
    assert kind == message.KIND
    return dict(found)


def decode_one(kind: int, **fields: object) -> m.Message:
    (message,) = decode(cbor2.dumps([[kind, fields]]))
    return message


def test_none_and_defaults_are_left_out() -> None:
    assert fields_of(m.Submit(1, SPEC, A, [b"x"])) == {
        "request": 1,
        "specs": SPEC,
        "ids": A,
        "payloads": [b"x"],
    }
    assert fields_of(m.OutcomeAck([1], stale=[2])) == {"tokens": [1], "stale": [2]}


def test_value_that_equals_no_default_is_kept_even_if_false() -> None:
    assert fields_of(m.Submit(1, SPEC, A, [b""], first_try=False))["first_try"] is False


def test_unknown_fields_are_ignored() -> None:
    assert decode_one(6, number=1, colour=[{"deep": None}]) == m.Beat(1)


def test_unknown_kind_keeps_its_request() -> None:
    assert decode_one(9999, request=7, body="?") == UnknownMessage(9999, 7)
    assert decode_one(9999, request="seven") == UnknownMessage(9999, None)


@pytest.mark.parametrize(
    ("kind", "fields", "sentence"),
    [
        (
            17,
            {"request": 1, "specs": SPEC, "ids": 3, "payloads": []},
            "message Submit, field ids: expected packed 16-byte ids, got 3",
        ),
        (6, {}, "message Beat, field number: expected an integer from 0 to 2^63-1, got nothing"),
        (6, {"number": True}, "got bool"),
        (6, {"number": 1.0}, "got 1"),
        (6, {"number": None}, "got null"),
        (6, {"number": 2**63}, "got 9223372036854775808"),
        (16, {"client": A[:15]}, "field client: expected an id of 16 bytes, got bytes of length"),
        (19, {"ids": A[:15]}, "field ids: expected packed 16-byte ids"),
        (2, {"version": 2**32, "nonce": b"", "mac": b""}, "field version: expected an integer"),
        (5, {"code": "x" * 201, "message": ""}, "field code: expected text of at most 200"),
        (5, {"code": "x", "message": "x" * 65_537}, "field message: expected text of at most"),
        (52, {"tokens": [1, -1]}, "field tokens: .* got one that is negative or too large"),
        (52, {"tokens": [1, 1.5]}, "field tokens: .* got float in it"),
        (52, {"tokens": {"1": 1}}, "field tokens: .* got dict"),
        (53, {"ids": A, "tokens": [1], "started_at": ["x"]}, "field started_at: .* got str in it"),
        (27, {"request": 1, "what": "jobs", "options": {b"x": 1}}, "a key that is not text"),
        (28, {"request": 1, "body": {"x": [cbor2.undefined]}}, "field body: .* got "),
        (82, {b"x": 1}, "kind 82 are not a map of text keys"),
    ],
)
def test_refusal_names_message_and_field(kind: int, fields: Any, sentence: str) -> None:
    with pytest.raises(ProtocolError, match=sentence.replace("^", r"\^").replace("[", r"\[")):
        decode(cbor2.dumps([[kind, fields]]))


@pytest.mark.parametrize("moment", [math.nan, math.inf, -math.inf, 1e300, -1e12])
def test_moments_that_are_none_are_refused(moment: float) -> None:
    with pytest.raises(ProtocolError, match="retry_after"):
        decode_one(5, code="x", message="", retry_after=moment)
    with pytest.raises(ProtocolError, match="started_at"):
        decode_one(53, ids=A + B, tokens=[1, 2], started_at=[1.0, moment])
    with pytest.raises(ProtocolError, match="ready_at"):
        decode_one(
            17, request=1, specs=SPEC, ids=A + B, payloads=[b"", b""], ready_at=[None, moment]
        )


def test_integers_are_taken_for_seconds_and_become_floats() -> None:
    started = decode_one(53, ids=A + B, tokens=[1, 2], started_at=[1, 2.5])
    assert isinstance(started, m.Started)
    assert [type(moment) for moment in started.started_at] == [float, float]


def test_integers_in_rows_become_floats_too() -> None:
    row = [0, 60, True, 30]
    fields = {
        **{"ids": A, "tokens": [1], "statuses": b"\5", "values": [None]},
        **{"started_at": [None], "finished_at": [1], "retries": [row]},
    }
    (message,) = decode(cbor2.dumps([[m.Outcome.KIND, fields]]))
    assert isinstance(message, m.Outcome) and message.retries is not None
    assert list(map(type, message.retries[0])) == [int, float, bool, float]


def test_long_columns_of_good_moments_are_taken() -> None:
    count = 30_000
    moments = [2e9] * count
    message = m.Started(A * count, list(range(count)), moments)
    assert decode(encode([message])) == [message]


BAD_COLUMNS: list[tuple[str, dict[str, object], str]] = [
    ("submit", {"payloads": [b""]}, "payloads"),
    ("submit", {"which": [0]}, "which"),
    ("submit", {"which": [0, 2]}, "which"),
    ("submit", {"ready_at": [None]}, "ready_at"),
    ("submit", {"expires_at": []}, "expires_at"),
    ("submit", {"specs": []}, "which"),
    ("submit", {"specs": SPEC * 3}, "specs"),
    ("submit", {"specs": [["t", "q", 4, {}], SPEC[0]]}, "specs"),
    ("submit", {"specs": [["t", "q", 1, {"x": "y" * 25_000}], SPEC[0]]}, "specs"),
    ("submit", {"specs": [["t", "q", 1], SPEC[0]]}, "specs"),
    ("submit_least", {"specs": []}, "which"),
    ("finished", {"statuses": b"\x04"}, "statuses"),
    ("finished", {"statuses": b"\x04\xff"}, "statuses"),
    ("finished", {"values": []}, "values"),
    ("finished", {"attempts": [1]}, "attempts"),
    ("finished", {"failures": [[2, "", "", "", ""]]}, "failures"),
    ("finished", {"failures": [[1, "", "", "x" * 70_000, ""]]}, "failures"),
    ("assign", {"tokens": [1]}, "tokens"),
    ("assign", {"budget": [1.0]}, "budget"),
    ("outcome", {"tokens": [1]}, "tokens"),
    ("outcome", {"finished_at": [1.0]}, "finished_at"),
    ("started", {"started_at": []}, "started_at"),
    ("handback", {"started": b"\x02\x00"}, "started"),
    ("withdraw", {"tokens": []}, "tokens"),
    ("withdrawn", {"taken": b""}, "taken"),
    ("register", {"claim_tokens": []}, "claim_tokens"),
    ("register", {"prefetch": [1]}, "prefetch"),
    ("capacity", {"pools": [1]}, "prefetch"),
]


@pytest.mark.parametrize(("name", "change", "field"), BAD_COLUMNS)
def test_fields_that_do_not_fit_together_are_refused(
    name: str, change: dict[str, object], field: str
) -> None:
    example = EXAMPLES[name]
    with pytest.raises(ProtocolError, match=f"{type(example).__name__}, field {field}: "):
        decode_one(example.KIND, **(fields_of(example) | change))


GOOD = encode([m.Beat(1)])


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        GOOD + b"\x00",
        GOOD[:-1],
        b"\xff",
        b"\xf6",
        b"\xa0",
        b"\x81\x06",
        b"\x81\x81\x06",
        cbor2.dumps([{"number": 1}]),
        cbor2.dumps([[6.0, {"number": 1}]]),
        cbor2.dumps([[-6, {"number": 1}]]),
        bytes.fromhex("8182 06 a2 666e756d626572 01 666e756d626572 02"),  # a key twice
        bytes.fromhex("8182 06 bf 666e756d626572 01 ff"),  # a map of indefinite length
        bytes.fromhex("9f 8206 a1 666e756d626572 01 ff"),  # an array of indefinite length
        bytes.fromhex("8182 06 a1 666e756d626572 c24101"),  # a tag for large integers
        bytes.fromhex("8182 06 a2 666e756d626572 01 6178 d81c81d81d00"),  # a cycle
        bytes.fromhex("d9d9f7") + GOOD,  # a tag around the frame
        bytes.fromhex("da7fffffff") + GOOD,
        bytes.fromhex("8182 06 a2 666e756d626572 01 01 02"),  # a key that is a number
        b"\x81" * 100_000,
        b"\xc1" * 100_000,
        bytes.fromhex("9b7fffffffffffffff"),
        bytes.fromhex("5b7fffffffffffffff"),
        cbor2.dumps([[6, {"number": 1}]] * (codec.MAX_FRAME_MESSAGES + 1)),
    ],
)
def test_hostile_frames_are_refused(frame: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(frame)


def test_frame_over_its_limit_is_refused_before_it_is_read() -> None:
    with pytest.raises(ProtocolError, match="larger than 4"):
        decode(GOOD, limit_bytes=4)


@given(st.binary(max_size=300))
def test_any_bytes_give_messages_or_a_protocol_error(data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        assert all(isinstance(message, m.Message) for message in decode(data))


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.floats()
    | st.binary()
    | st.text()
    | st.datetimes(timezones=st.just(UTC)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.data())
def test_any_value_in_any_field_gives_a_message_or_a_protocol_error(data: st.DataObject) -> None:
    example = data.draw(st.sampled_from(sorted(EXAMPLES)))
    fields = fields_of(EXAMPLES[example])
    if fields:
        fields[data.draw(st.sampled_from(sorted(fields)))] = data.draw(PLAIN)
    try:
        decode(cbor2.dumps([[EXAMPLES[example].KIND, fields]]))
    except ProtocolError as error:
        assert type(EXAMPLES[example]).__name__ in str(error) or "CBOR" in str(error)


@given(st.sampled_from(sorted(EXAMPLES)), st.integers(min_value=0), st.integers(0, 255))
def test_any_changed_byte_gives_messages_or_a_protocol_error(
    name: str, at: int, value: int
) -> None:
    frame = bytearray(encode([EXAMPLES[name]]))
    frame[at % len(frame)] = value
    with contextlib.suppress(ProtocolError):
        decode(bytes(frame))


@pytest.mark.parametrize("message", [m.Bye("\ud800"), m.Report(1, {"x": object()}), m.Message()])
def test_what_cannot_be_encoded_is_our_own_fault(message: m.Message) -> None:
    with pytest.raises(InternalError, match=type(message).__name__):
        encode([message])


# --- pieces --------------------------------------------------------------------------------


def relay(size: int) -> m.Relay:
    return m.Relay(1, bytes(size))


def assemble(frames: list[bytes]) -> bytes | None:
    assembler = Assembler()
    results = [assembler.feed(decode(frame)) for frame in frames]
    assert results[:-1] == [None] * (len(frames) - 1)
    return results[-1]


@pytest.mark.parametrize("size", [250_000, 300_000, 480 * 1024, 1_000_000])
def test_large_frame_survives_its_pieces(size: int) -> None:
    frame = encode([relay(size)])
    frames = split(frame, transfer=1)
    if len(frame) <= codec.MAX_MESSAGE_BYTES:
        assert frames == [frame]
    else:
        assert max(map(len, frames)) <= codec.MAX_MESSAGE_BYTES
        assert assemble(frames) == frame


def test_frame_no_peer_would_take_is_not_split() -> None:
    with pytest.raises(InternalError, match="larger"):
        split(bytes(codec.MAX_FRAME_BYTES + 1), transfer=1)


def piece(index: int, *, transfer: int = 1, last: bool = False, size: int = 1) -> list[m.Message]:
    return [m.Piece(transfer, index, last, bytes(size))]


def test_transfers_may_alternate() -> None:
    assembler = Assembler()
    assert assembler.feed(piece(0, transfer=1, size=2)) is None
    assert assembler.feed(piece(0, transfer=2, size=3)) is None
    assert assembler.feed(piece(1, transfer=1, size=2, last=True)) == bytes(4)
    assert assembler.feed(piece(1, transfer=2, size=3, last=True)) == bytes(6)
    assert assembler.feed(piece(0, transfer=1, last=True)) == bytes(1)


@pytest.mark.parametrize(
    "fed",
    [
        [piece(1)],
        [piece(0), piece(0)],
        [piece(0), piece(2)],
        [piece(0, size=0)],
        [[m.Beat(1)]],
        [[]],
        [piece(0) + piece(1)],
        [piece(0, transfer=number) for number in range(codec.MAX_OPEN_TRANSFERS + 1)],
        [piece(index, size=1024 * 1024) for index in range(17)],
    ],
)
def test_assembler_refuses_disorder(fed: list[list[m.Message]]) -> None:
    assembler = Assembler()
    for messages in fed[:-1]:
        assert assembler.feed(messages) is None
    with pytest.raises(ProtocolError):
        assembler.feed(fed[-1])


def test_frames_that_arrive_together_are_no_larger_than_one() -> None:
    assembler = Assembler()
    half = codec.MAX_FRAME_BYTES // 2 // codec.PIECE_BYTES
    for index, transfer in itertools.product(range(half), (1, 2)):
        assert assembler.feed(piece(index, transfer=transfer, size=codec.PIECE_BYTES)) is None
    with pytest.raises(ProtocolError, match="in pieces are larger than"):
        for index, transfer in itertools.product(range(half, half + 2), (1, 2)):
            assembler.feed(piece(index, transfer=transfer, size=codec.PIECE_BYTES))


def test_pack_keeps_the_order_and_every_frame_small() -> None:
    messages: list[m.Message] = [m.Beat(1), relay(200_000), relay(600_000), m.Beat(2)]
    messages += [relay(100_000) for _ in range(5)]
    frames = pack(messages, transfers=itertools.count(1))
    assert max(map(len, frames)) <= codec.MAX_MESSAGE_BYTES
    assembler, arrived = Assembler(), list[m.Message]()
    for frame in frames:
        found = decode(frame)
        if isinstance(found[0], m.Piece):
            whole = assembler.feed(found)
            found = [] if whole is None else decode(whole)
        arrived += found
    assert arrived == messages


def test_pack_sends_no_frame_of_more_messages_than_a_peer_takes() -> None:
    messages: list[m.Message] = [m.Beat(n) for n in range(2 * codec.MAX_FRAME_MESSAGES + 1)]
    frames = pack(messages, transfers=itertools.count(1))
    assert [message for frame in frames for message in decode(frame)] == messages
