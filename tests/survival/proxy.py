"""A TCP proxy that cuts connections: what a bad network does, byte by byte at random."""

from __future__ import annotations

import random
import socket
import struct
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

RECEIVE_BYTES = 65_536


class Proxy:
    """Forwards a local port to another; every connection ends by a reset after some bytes.

    Args:
        target: the port behind it.
        chooser: of the moments.
        most_bytes: a connection is cut before it has carried more, in both directions together.
    """

    def __init__(self, target: int, chooser: random.Random, *, most_bytes: int) -> None:
        self._target = target
        self._random = chooser
        self._most_bytes = most_bytes
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.cuts = 0
        self._cutting = True
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._accept_forever, daemon=True)
        self._thread.start()

    def heal(self) -> None:
        """Cut no more."""
        self._cutting = False

    def _accept_forever(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self._target))
                except OSError:
                    reset(near)
                    continue
                Pair(self, near, far, self._random.randrange(1, self._most_bytes))

    def cut_now(self) -> bool:
        """Whether a connection whose bytes are used up ends now."""
        if self._cutting:
            with self._lock:
                self.cuts += 1
        return self._cutting

    def note_open(self, *sockets: socket.socket) -> None:
        with self._lock:
            self._open.update(sockets)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # A listener that is only closed keeps its accept waiting.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for one in self._open:
                reset(one)


class Pair:
    """One connection through the proxy: a thread for each direction, one budget of bytes."""

    def __init__(
        self, proxy: Proxy, near: socket.socket, far: socket.socket, budget_bytes: int
    ) -> None:
        self._proxy = proxy
        self._left = budget_bytes
        self._lock = threading.Lock()
        self._sockets = (near, far)
        proxy.note_open(near, far)
        for source, sink in ((near, far), (far, near)):
            threading.Thread(target=self._forward, args=(source, sink), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(RECEIVE_BYTES):
                with self._lock:
                    passes = data[: max(self._left, 0)]
                    self._left -= len(data)
                    cut = self._left < 0 and self._proxy.cut_now()
                sink.sendall(passes if cut else data)
                if cut:
                    break
        for one in self._sockets:
            reset(one)


def reset(one: socket.socket) -> None:
    """End a connection by RST rather than FIN, waking whoever waits for it."""
    with suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.shutdown(socket.SHUT_RDWR)
    one.close()
