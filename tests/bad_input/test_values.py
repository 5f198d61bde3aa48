"""D26 to D29, D45: values that cannot travel, and values that are odd but can."""

from __future__ import annotations

import io
import math
import socket
from collections.abc import AsyncIterator
from contextlib import redirect_stdout
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from fastworker import Client
from fastworker.cli.output import show_fields, show_json, show_table
from fastworker.core.records import MAX_PAYLOAD_BYTES
from fastworker.errors import NotSerializable, ProtocolError
from fastworker.server.plane import Plane
from fastworker.wire import messages as m
from fastworker.wire.values import open_call, open_value, seal_call, seal_value
from tests.bad_input.raw import (
    TOKEN,
    Closed,
    address_of,
    answer_to,
    jobs_known,
    open_peer,
    running_plane,
    some_id,
)

SURVIVES = {
    "NaN": math.nan,
    "infinity": math.inf,
    "minus infinity": -math.inf,
    "minus zero": -0.0,
    "2^63": 2**63,
    "2^64": 2**64,
    "-2^64-1": -(2**64) - 1,
    "big integer": 10**400,
    "bytes": b"\x00\xff",
    "aware": datetime(2024, 2, 29, 12, tzinfo=UTC),
    "Decimal": Decimal("1.10"),
    "set": {1, 2},
    "tuple": (1, (2, 3)),
    "None key": {None: 1},
    "length": timedelta(days=-1, microseconds=1),
    "control characters": "\x1b[31m\0\r\n\u202e",
}


@pytest.fixture
async def plane() -> AsyncIterator[Plane]:
    async with running_plane() as plane:
        yield plane


@pytest.fixture
async def client(plane: Plane) -> AsyncIterator[Client]:
    async with Client(control_plane_address=plane.addresses[0], token=TOKEN) as client:
        yield client


@pytest.mark.parametrize("name", SURVIVES)
def test_odd_value_comes_back_and_can_be_printed(name: str) -> None:
    value = SURVIVES[name]
    back = open_value(seal_value(value, what="result"))
    (argument,), _ = open_call(seal_call((value,), {}, task="add"))
    for found in (back, argument):
        if isinstance(value, tuple):
            assert next(iter(found)) == 1
        else:
            assert repr(found) == repr(value)
    with redirect_stdout(io.StringIO()) as printed:
        show_json({"result": back})
        show_fields({"result": str(back), "more": [back]})
        show_table(["result"], [[back]])
    text = printed.getvalue().replace("\n", "")
    assert text.isprintable()


class Hostile:
    """Raises whatever anybody asks of it."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    def __str__(self) -> str:
        raise RuntimeError("no str")


def _generator() -> Any:
    yield 1


CANNOT = {
    "lambda": (lambda: 1, "function"),
    "generator": (_generator(), "generator"),
    "object": (Hostile(), "Hostile"),
    "class": (Hostile, "type"),
    "module": (math, "module"),
    "surrogate": ("\ud800", "surrogate"),
    "naive": (datetime(2024, 1, 1), "without a time zone"),
    "file": (io.BytesIO(), "BytesIO"),
}


@pytest.mark.trio
@pytest.mark.parametrize("name", CANNOT)
async def test_what_cannot_travel_is_named_with_its_path_and_nothing_is_sent(
    client: Client, plane: Plane, name: str
) -> None:
    value, named = CANNOT[name]
    with pytest.raises(NotSerializable) as caught:
        await client.delay("mail.send", 1, {"to": [0, value]})
    text = str(caught.value)
    assert text.startswith("argument 'args[1].to[1]' of task 'mail.send' is "), text
    assert named in text, text
    with pytest.raises(NotSerializable):
        await client.delay("mail.send", named=value)
    # The connection is as good as before.
    assert await jobs_known(plane) == 0
    assert (await client.status())["version"]


@pytest.mark.trio
async def test_a_socket_as_argument_stays_open(client: Client) -> None:
    with socket.socket() as open_socket:
        with pytest.raises(NotSerializable, match="socket"):
            await client.delay("mail.send", open_socket)
        assert open_socket.fileno() >= 0


@pytest.mark.trio
async def test_cyclic_and_bottomless_arguments_are_refused(client: Client) -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    deep: Any = None
    for _ in range(100_000):
        deep = [deep]
    for value in (cycle, deep):
        with pytest.raises(NotSerializable):
            await client.delay("add", value)
    while deep:
        deep = deep[0]  # taken apart by hand: its own destructor would be as deep


@pytest.mark.trio
async def test_size_is_checked_before_anything_is_sent(client: Client, plane: Plane) -> None:
    overhead = len(seal_call((b"",), {}, task="add")) + 4
    fits = b"x" * (MAX_PAYLOAD_BYTES - overhead)
    await client.delay("add", fits)
    for size in (MAX_PAYLOAD_BYTES + 1, 20 * MAX_PAYLOAD_BYTES):
        with pytest.raises(NotSerializable, match=rf"{MAX_PAYLOAD_BYTES}"):
            await client.delay("add", b"x" * size)
    assert await jobs_known(plane) == 1


@pytest.mark.trio
async def test_oversize_payload_of_a_foreign_client_closes_with_4400(plane: Plane) -> None:
    data = bytes(200_000)
    submit = m.Submit(1, [["add", "default", 1, {}]], some_id(), [bytes(MAX_PAYLOAD_BYTES + 1)])
    from fastworker.wire.codec import encode, split
    from tests.bad_input.raw import frame

    async with open_peer(address_of(plane)) as peer:
        for piece in split(encode([submit]), transfer=1):
            await peer.send(frame(piece))
        problem, closed = await peer.receive_end()
    assert closed == Closed(4400, "protocol_error")
    assert problem is not None
    assert problem.message == (
        f"message Submit, field payloads: expected at most {MAX_PAYLOAD_BYTES} bytes each"
    )
    for pieces, named in (
        ([m.Piece(1, 1, False, data)], "message Piece, field index: expected 0, got 1"),
        ([m.Piece(1, 0, False, b"")], "message Piece, field data: expected bytes, got none"),
        ([m.Piece(n, 0, False, b"x") for n in range(5)], "more than 4 frames in pieces at once"),
        ([m.Piece(1, n, False, data) for n in range(90)], "frames in pieces are larger than"),
        ([m.Piece(1, 0, True, b"x")], "frame of 1 bytes is"),
    ):
        async with open_peer(address_of(plane)) as peer:
            for one in pieces:
                await peer.send_messages(one)
            problem, closed = await peer.receive_end()
        assert closed.code in (4400, 1006)
        assert closed.code == 1006 or (problem is not None and named in problem.message)
    assert await jobs_known(plane) == 0


@pytest.mark.trio
async def test_arguments_that_are_no_arguments_wait_like_others(plane: Plane) -> None:
    """The control plane never opens them; the runner says that they are damaged."""
    async with open_peer(address_of(plane)) as peer:
        submit = m.Submit(1, [["add", "default", 1, {}]], some_id(), [b"\xff" * 50])
        await peer.send_messages(submit)
        assert await answer_to(peer) == m.Submitted(1)
    with pytest.raises(ProtocolError):
        open_call(b"\xff" * 50)


@pytest.mark.parametrize("data", [b"", b"\0", b"\xff" * 40, seal_value(1, what="x")[:-1]])
def test_damaged_value_is_a_protocol_error(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        open_value(data)
