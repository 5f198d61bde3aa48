"""Frames over a socketpair."""

from __future__ import annotations

import socket

import pytest

from fastworker.errors import ProtocolError
from fastworker.runner.channel import (
    MAX_FRAME_BYTES,
    Channel,
    ChannelClosed,
    FrameBuffer,
    framed,
)


def test_frames_come_out_whole_wherever_the_reads_end() -> None:
    data = framed(b"one") + framed(b"") + framed(b"three")
    for step in range(1, len(data) + 1):
        buffer = FrameBuffer()
        found = []
        for at in range(0, len(data), step):
            found += buffer.feed(data[at : at + step])
        assert found == [b"one", b"", b"three"]


def test_a_frame_that_is_too_large_is_refused_before_it_arrives() -> None:
    with pytest.raises(ProtocolError, match="at most"):
        FrameBuffer().feed((MAX_FRAME_BYTES + 1).to_bytes(4, "big"))


def test_what_does_not_fit_is_kept_and_sent_later() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sender, receiver = Channel(ours), Channel(theirs)
        frame = bytes(4_000_000)
        sender.send(frame)
        assert sender.unsent_bytes > 0

        received: list[bytes] = []
        while not received:
            received += receiver.receive()
            sender.send_more()

        assert received == [frame]
        assert sender.unsent_bytes == 0


def test_the_end_of_the_channel_is_told_after_the_last_frame() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        Channel(theirs).send(b"last")
        theirs.close()
        channel = Channel(ours)

        assert channel.receive() == [b"last"]
        with pytest.raises(ChannelClosed):
            channel.receive()
