"""The listening end reads what its own peer sent, and nothing else."""

from __future__ import annotations

import os
import socket

import pytest
import trio

from fastworker.server.served_frames import ServedFrames
from fastworker.transport.link import LinkClosed


@pytest.mark.trio
async def test_nothing_is_read_of_whoever_has_the_number_of_a_socket_that_was_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours, theirs = socket.socketpair()
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
    others: list[int] = []

    async def wait_readable(_: object) -> None:
        number = stream.socket.fileno()
        stream.socket.close()
        reading, writing = os.pipe()
        os.dup2(reading, number)
        os.write(writing, b"another connection's")
        others.extend((reading, writing, number))

    monkeypatch.setattr(trio.lowlevel, "wait_readable", wait_readable)
    with pytest.raises(LinkClosed):
        await ServedFrames(stream, b"").receive_frame()
    assert os.read(others[2], 99) == b"another connection's"
    for each in set(others):
        os.close(each)
    theirs.close()
