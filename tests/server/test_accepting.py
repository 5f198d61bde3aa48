"""Accepting while descriptors have run out."""

from __future__ import annotations

import errno
import logging

import pytest
import trio
import trio.testing

from fastworker.server.accepting import Accepting
from fastworker.server.gate import Gate


class Sockets:
    """A listener whose process runs out of descriptors."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.tries = 0

    async def accept(self) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        self.tries += 1
        if self.failures:
            self.failures -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        if self.tries > 10:
            await trio.sleep_forever()
        return trio.testing.memory_stream_pair()[0]

    async def __aenter__(self) -> Sockets:
        return self

    async def __aexit__(self, *exception: object) -> None: ...


@pytest.mark.trio
async def test_out_of_descriptors_is_said_once_and_accepting_goes_on_when_one_is_free(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    served: list[trio.abc.Stream] = []

    async def serve(stream: trio.abc.Stream) -> None:
        served.append(stream)

    gate, sockets = Gate(), Sockets(failures=5)
    accepting = Accepting(serve, gate)
    with caplog.at_level(logging.WARNING, logger="fastworker.server"):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accepting.serve_forever, [sockets])
            started = trio.current_time()
            with gate.entering("192.0.2.1"):
                await trio.sleep(0.5)
                assert sockets.tries == 1
            await trio.sleep(0.1)  # one has gone: tried again at once
            assert sockets.tries == 2
            await trio.sleep(10)
            assert served and trio.current_time() - started < 11
            nursery.cancel_scope.cancel()
    (record,) = caplog.records
    assert "Too many open files" in record.getMessage()
    assert "LimitNOFILE=" in record.getMessage()
