"""D01 to D25 against a live control plane: each row with all that the header of the matrix asks.

What exactly is answered to each variant is tested in `test_listeners`, `test_websocket_frames`,
`test_cbor_frames` and `test_envelope_fields`, without a process around it.
"""

from __future__ import annotations

import os
import struct
import time
import zlib
from typing import Any

import cbor2
import pytest
import trio

from fastworker.core.ids import id_text
from fastworker.server.frame_guard import CONTROL_FRAMES_AT_ONCE
from fastworker.wire import messages as m
from fastworker.wire.codec import encode, split
from fastworker.wire.handshake import DialerHandshake
from fastworker.wire.values import seal_call
from tests.bad_input.bombard import rss_bytes
from tests.bad_input.live import HOSTILE_TASK, MARK, Live, run
from tests.bad_input.mutations import fields_of, raw_example
from tests.bad_input.raw import (
    PING,
    TEXT,
    Closed,
    RawPeer,
    answer_to,
    dialled,
    exchange,
    frame,
    open_peer,
    open_raw,
    some_id,
    status_of,
    upgrade,
)
from tests.bad_input.test_cbor_frames import FRAMES

pytestmark = [pytest.mark.process, pytest.mark.slow]

RSS_BYTES = 8 * 2**20
"""What a row may add: the promise is 2 MiB, and the canary's jobs are kept meanwhile."""


def _answered(live: Live, data: bytes, statuses: set[int], says: str) -> None:
    async def attack(source: str) -> bytes:
        try:
            return await exchange(live.address, data, source=source)
        except OSError:
            return b""  # reset: closed while we were still sending

    with live.row(says=says) as source:
        answer = run(attack, source)
        assert not answer or status_of(answer) in statuses, answer[:100]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(os.urandom(64) + b"\0" + MARK.encode(), id="random"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"a" * 99, id="tls"),
        pytest.param(f"GET /{MARK} HTTP/1.0\r\n\r\n".encode(), id="HTTP/1.0"),
        pytest.param(f"POST / HTTP/1.1\r\nHost: x\r\n\r\n{MARK}".encode(), id="POST"),
    ],
)
def test_d01_bytes_of_other_protocols(live: Live, data: bytes) -> None:
    _answered(live, data, {400, 426}, "ended: 4")


def test_d01_reset_in_the_middle(live: Live) -> None:
    async def attack(source: str) -> None:
        stream = await dialled(live.address, source)
        await stream.send_all(upgrade(live.address)[:30])
        stream.setsockopt(1, 13, struct.pack("ii", 1, 0))  # SO_LINGER 0: closing sends RST
        await trio.aclose_forcefully(stream)

    with live.row(says="ended: ") as source:
        run(attack, source)


@pytest.mark.parametrize(
    ("extra", "without"),
    [
        ("Host: \xff", "Host"),
        (f"X: {MARK}", "Host"),
        ("Sec-WebSocket-Key: short", "Sec-WebSocket-Key"),
        ("Sec-WebSocket-Version: 8", "Sec-WebSocket-Version"),
    ],
)
def test_d02_bad_upgrade(live: Live, extra: str, without: str) -> None:
    data = upgrade(live.address, extra, without=[without])
    _answered(live, data, {400, 426}, "ended: 4")


@pytest.mark.parametrize(
    "header", [b"A: b\r\n" * 10_000, b"A: " + b"b" * 1_000_000], ids=["many", "long"]
)
def test_d03_headers_beyond_all_bounds(live: Live, header: bytes) -> None:
    before = rss_bytes(live.plane)
    _answered(live, b"GET / HTTP/1.1\r\n" + header, {431}, "ended: 431")
    assert rss_bytes(live.plane) - before <= RSS_BYTES


def test_d04_slow_head_and_silence_are_closed_after_five_seconds(live: Live) -> None:
    async def trickle(source: str) -> None:
        async with await dialled(live.address, source) as stream:
            for byte in upgrade(live.address):
                await stream.send_all(bytes([byte]))
                with trio.move_on_after(0.5):
                    assert (await stream.receive_some(1000)).startswith(b"HTTP/1.1 408")
                    return

    async def silence(source: str) -> None:
        async with open_raw(live.address, source=source) as peer:
            await trio.sleep(4)
            _, closed = await peer.receive_end()
            assert closed.code == 4408

    async def both(source: str) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trickle, source)
            nursery.start_soon(silence, source)

    with live.row(ending=2) as source:
        began = time.monotonic()
        run(both, source)
        assert 4.5 <= time.monotonic() - began < 9


async def _closed_by(live: Live, data: bytes, source: str, proved: bool = True) -> Closed:
    opened = (
        open_peer(live.address, token=live.token, source=source)
        if proved
        else open_raw(live.address, source=source)
    )
    async with opened as peer:
        await peer.send(data)
        _, closed = await peer.receive_end()
    return closed


def _closes(live: Live, data: bytes, code: int, says: str, *, proved: bool = True) -> None:
    with live.row(says=says) as source:
        closed = run(_closed_by, live, data, source, proved)
        # Reset is as good: the close frame may be lost while we still send.
        assert closed.code == code or (len(data) > 10_000 and closed.code == 1006), closed


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(frame(MARK.encode(), mask=False), id="not masked"),
        pytest.param(b"\xf2\x85\0\0\0\0hello", id="reserved bits"),
        pytest.param(b"\x8b\x80\0\0\0\0", id="reserved opcode"),
        pytest.param(frame(struct.pack("!H", 999), opcode=8), id="bad close code"),
        pytest.param(b"\x09\x80\0\0\0\0", id="fragmented ping"),
    ],
)
@pytest.mark.parametrize("proved", [True, False])
def test_d05_broken_frames(live: Live, data: bytes, proved: bool) -> None:
    _closes(live, data, 1002, "rules of WebSockets", proved=proved)


def test_d06_text_and_text_that_is_none(live: Live) -> None:
    _closes(live, frame(MARK.encode(), opcode=TEXT), 1003, "a text message")
    _closes(live, frame(b"\xff\xfe", opcode=TEXT), 1007, "not UTF-8")


def test_d07_announced_gigabytes_take_no_memory(live: Live) -> None:
    before = rss_bytes(live.plane)
    _closes(live, b"\x82\xff\x7f" + b"\xff" * 7 + b"\0" * 4 + b"x", 1009, "announced")
    _closes(live, struct.pack("!BBQ", 0x82, 0xFF, 10 * 2**30) + b"\0" * 100_004, 1009, "announced")
    assert rss_bytes(live.plane) - before <= RSS_BYTES


def test_d08_endless_empty_fragments(live: Live) -> None:
    data = frame(b"", final=False) + frame(b"", opcode=0, final=False) * 1_000_000
    _closes(live, data, 1008, "more than 1024 fragments")


def test_d09_pings_without_end_and_nothing_read(live: Live) -> None:
    async def attack(source: str) -> None:
        async with open_peer(live.address, token=live.token, source=source) as peer:
            for _ in range(100):
                await peer.send(frame(b"x" * 100, opcode=PING) * CONTROL_FRAMES_AT_ONCE)

    with live.row(says="control frames") as source:
        run(attack, source)


def test_d10_compression_that_nobody_agreed_to(live: Live) -> None:
    bomb = zlib.compress(b"\0" * 10_000_000, 9)[2:-4]
    _closes(live, b"\xc2" + frame(bomb)[1:], 1002, "rules of WebSockets")


@pytest.mark.parametrize("number", range(11, 20), ids=lambda number: f"d{number}")
def test_d11_to_d19_frames_that_are_no_messages(live: Live, number: int) -> None:
    frames = [data for name, data in FRAMES.items() if name.startswith(f"D{number}")]
    assert frames

    async def attack(source: str) -> None:
        for data in frames:
            assert await _closed_by(live, frame(data), source) == Closed(4400, "protocol_error")

    with live.row(ending=len(frames), says="frame") as source:
        run(attack, source)


def _submit(number: int = 1, task: str = HOSTILE_TASK, **changes: Any) -> m.Submit:
    call = seal_call((MARK,), {}, task=task)
    submit = m.Submit(number, [[task, "default", 1, {}]], some_id(), [call])
    for name, value in changes.items():
        setattr(submit, name, value)
    return submit


@pytest.mark.parametrize("name", ["submit", "watch", "fetch", "query", "cancel", "introduce"])
def test_d20_wrong_type_of_a_field(live: Live, name: str) -> None:
    fields = list(fields_of(raw_example(name)))

    async def attack(source: str) -> None:
        for field in fields:
            item = raw_example(name)
            fields_of(item)[field] = [[MARK], {"a": 1}]
            async with open_peer(live.address, token=live.token, source=source) as peer:
                await peer.send_item([item])
                problem, closed = await peer.receive_end()
            assert closed == Closed(4400, "protocol_error")
            assert problem is not None and f"field {field}: expected" in problem.message

    with live.row(ending=len(fields), says="field .*: expected") as source:
        run(attack, source)


def test_d21_unknown_kind_and_d22_unknown_field_leave_the_connection(live: Live) -> None:
    async def attack(source: str) -> None:
        async with open_peer(live.address, token=live.token, source=source) as peer:
            await peer.send_item([[999, {"request": 7, "what": MARK}]])
            problem = await answer_to(peer)
            assert isinstance(problem, m.Problem)
            assert (problem.code, problem.request) == ("unknown_kind", 7)
            await peer.send_item([[23, {"request": 8, "ids": b"", "later": MARK}]])
            assert await answer_to(peer) == m.Fetched(8, [])

    with live.row(ending=0) as source:
        run(attack, source)


@pytest.mark.parametrize("versions", [[0], [999], []])
def test_d23_other_versions(live: Live, versions: list[int]) -> None:
    async def attack(source: str) -> Closed:
        hello = DialerHandshake("client", live.token, os.urandom).hello()
        hello.versions = versions
        async with open_raw(live.address, source=source) as peer:
            await peer.send_messages(hello)
            _, closed = await peer.receive_end()
        return closed

    with live.row(says="protocol versions") as source:
        assert run(attack, source) == Closed(4406, "unsupported_version")


def test_d24_messages_out_of_their_place(live: Live) -> None:
    async def attack(source: str) -> None:
        for role, message in (("client", "outcome"), ("subworker", "outcome")):
            async with open_peer(live.address, role, token=live.token, source=source) as peer:
                await peer.send_item([raw_example(message)])
                _, closed = await peer.receive_end()
            assert closed.code == 4400
        async with open_raw(live.address, source=source) as peer:
            await peer.send_item([raw_example("submit")])
            _, closed = await peer.receive_end()
        assert closed.code == 4400

    with live.row(ending=3, says="no place|Register first|Hello first") as source:
        run(attack, source)


@pytest.mark.parametrize("number", [-1, 2**64 - 1, 1.5, "1"])
def test_d25_request_number_that_is_none(live: Live, number: object) -> None:
    data = frame(cbor2.dumps([[23, {"request": number, "ids": b""}]]))
    _closes(live, data, 4400, "field request: expected")


def test_d25_request_number_of_an_open_request(live: Live) -> None:
    async def attack(source: str) -> Closed:
        async with open_peer(live.address, token=live.token, source=source) as peer:
            await peer.send_messages(m.Fetch(3, b"x" * 16), m.Fetch(3, b"y" * 16))
            _, closed = await peer.receive_end()
        return closed

    with live.row(says="got 3 again") as source:
        assert run(attack, source).code == 4400


def test_jobs_in_flight_of_a_client_that_is_closed_are_not_lost(live: Live) -> None:
    release = live.folder / "release"
    job_id = some_id()

    async def attack(source: str) -> None:
        call = seal_call((str(release),), {}, task="hold")
        async with open_peer(live.address, token=live.token, source=source) as peer:
            submit = m.Submit(1, [["hold", "default", 1, {}]], job_id, [call])
            await peer.send_messages(submit)
            assert await answer_to(peer) == m.Submitted(1)
            await peer.send(frame(b"\xff"))
            _, closed = await peer.receive_end()
        assert closed.code == 4400

    with live.row(says="frame") as source:
        run(attack, source)
    release.touch()
    assert live.client.handle(id_text(job_id)).wait(timeout=20).result == str(release)


def test_jobs_in_flight_of_a_subworker_that_is_closed_run_elsewhere(live: Live) -> None:
    # It was closed before all rows: by now, or soon, the lease of what it held has ended.
    assert live.held
    for job_id in live.held:
        found = live.client.handle(id_text(job_id)).wait(timeout=40)
        assert found.status.value == "success" and found.attempts == 2, found


def test_requests_about_ten_thousand_jobs_each_hold_up_nobody(live: Live) -> None:
    ids = os.urandom(16 * 10_000)

    async def attack(source: str) -> None:
        async with open_peer(live.address, token=live.token, source=source) as peer:
            for number in range(60):
                await _in_pieces(peer, m.Cancel(number, ids))
                await _in_pieces(peer, m.Watch(ids))
                await _in_pieces(peer, m.Fetch(1_000 + number, ids))

    with live.row(ending=0) as source:
        run(attack, source)


def test_a_flood_of_the_smallest_frames_holds_up_nobody(live: Live) -> None:
    beats = frame(encode([m.Beat(1)])) * 20_000

    async def attack(source: str) -> None:
        async with open_peer(live.address, token=live.token, source=source) as peer:
            with trio.move_on_after(2):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_read_forever, peer)
                    while True:
                        await peer.send(beats)

    with live.row(ending=0) as source:
        run(attack, source)


async def _read_forever(peer: RawPeer) -> None:
    while await peer.stream.receive_some(1_000_000):
        pass


async def _in_pieces(peer: RawPeer, message: m.Message) -> None:
    for piece in split(encode([message]), transfer=1):
        await peer.send(frame(piece))
