"""Any bytes for the ports themselves: the HTTP head, the WebSocket, the handshake.

In memory, where a connection comes in chunks and ends whenever it likes. The first byte says
whose port it is, and whether the connection ends with a word or without one.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import trio
import trio.testing

from fastworker.server.control_plane import run_control_plane
from fastworker.server.listener import Listener
from fastworker.server.plane import Plane
from tests.fuzzing.dispatching import SETTINGS, Broken, no_bugs_logged

CHUNK: Final = 700
SERVED_SECONDS: Final = 600.0
"""Of virtual time: more than all time-outs of a connection together."""

HEAD: Final = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: fastworker.v1\r\n\r\n"
)
BEHIND_THE_HEAD, HALF_CLOSE, RESET = 1, 2, 4
"""Bits of the first byte."""


def run(data: bytes) -> None:
    """Send the bytes to a listener of the control plane.

    Raises:
        Broken: an error that is none of the peer's, or a connection that is never given up.
    """
    how, sent = data[0] if data else 0, data[1:]
    with no_bugs_logged():
        clock = trio.testing.MockClock(autojump_threshold=0.0)
        trio.run(_run, HEAD + sent if how & BEHIND_THE_HEAD else sent, how, clock=clock)


async def _run(sent: bytes, how: int) -> None:
    async with trio.open_nursery() as nursery:
        start = partial(run_control_plane, SETTINGS, handle_signals=False)
        plane: Plane = await nursery.start(start)
        ours, theirs = trio.testing.memory_stream_pair()
        nursery.start_soon(_drain, ours)
        nursery.start_soon(_send, ours, sent, how)
        with trio.move_on_after(SERVED_SECONDS) as patience:
            await Listener(plane).serve(theirs)
        if patience.cancelled_caught:
            raise Broken("a connection was never given up")
        nursery.cancel_scope.cancel()


async def _send(
    stream: trio.StapledStream[trio.testing.MemorySendStream, trio.testing.MemoryReceiveStream],
    sent: bytes,
    how: int,
) -> None:
    try:
        for at in range(0, len(sent), CHUNK):
            await stream.send_all(sent[at : at + CHUNK])
        if how & RESET:
            await stream.aclose()
        elif how & HALF_CLOSE:
            await stream.send_eof()
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass


async def _drain(stream: trio.abc.ReceiveStream) -> None:
    try:
        while await stream.receive_some(65536):
            pass
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
