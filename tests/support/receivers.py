"""Receivers of webhooks over real sockets: well behaved, slow, or hostile."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

import trio

Behave = Callable[[trio.abc.Stream, "Receiver"], Awaitable[None]]

ACCEPTED = b"HTTP/1.1 204 No Content\r\n\r\n"


class Request(NamedTuple):
    """One that has come, with the names of its headers in lower case."""

    line: str
    headers: dict[str, str]
    body: bytes


class Receiver:
    """One open port, and what has come there.

    Args:
        url: where it is, without a path.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests: list[Request] = []
        self.connections = 0
        self.closed_by_caller = trio.Event()
        """Seen by those that are `silent`."""
        self._changed = trio.Event()

    async def until(self, count: int) -> list[Request]:
        """Wait for so many requests."""
        while len(self.requests) < count:
            await self._changed.wait()
        return self.requests

    def note(self, request: Request) -> None:
        self.requests.append(request)
        self._changed.set()
        self._changed = trio.Event()


async def read_request(stream: trio.abc.Stream) -> Request:
    """Read one request to its end."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = await stream.receive_some()
        if not more:
            raise trio.BrokenResourceError
        data += bytes(more)
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(map(_header, lines))
    while len(body) < int(headers.get("content-length", 0)):
        body += bytes(await stream.receive_some())
    return Request(first, headers, body)


def answering(*answers: bytes) -> Behave:
    """Give these answers, one for each request; the last one for all that follow."""
    left = list(answers)

    async def behave(stream: trio.abc.Stream, receiver: Receiver) -> None:
        receiver.note(await read_request(stream))
        await stream.send_all(left.pop(0) if len(left) > 1 else left[0])

    return behave


def endless(head: bytes, piece: bytes, pause: float = 0.0) -> Behave:
    """Answer and never come to an end."""

    async def behave(stream: trio.abc.Stream, receiver: Receiver) -> None:
        receiver.note(await read_request(stream))
        await stream.send_all(head)
        while True:
            await stream.send_all(piece)
            await trio.sleep(pause)

    return behave


async def silent(stream: trio.abc.Stream, receiver: Receiver) -> None:
    """Say nothing until the caller leaves."""
    while await stream.receive_some():
        pass
    receiver.closed_by_caller.set()


@asynccontextmanager
async def open_receiver(
    behave: Behave, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[Receiver]:
    """Listen on a free port until the end of the block."""
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host=host)
        port = listener.socket.getsockname()[1]
        shown = f"[{host}]" if ":" in host else host
        receiver = Receiver(f"{'http' if tls is None else 'https'}://{shown}:{port}")

        async def serve(stream: trio.abc.Stream) -> None:
            receiver.connections += 1
            try:
                await behave(stream, receiver)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # the caller has gone
            finally:
                await trio.aclose_forcefully(stream)

        opened = listener if tls is None else trio.SSLListener(listener, tls)
        nursery.start_soon(trio.serve_listeners, serve, [opened])
        yield receiver
        nursery.cancel_scope.cancel()


def _header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(": ")
    return name.lower(), value
