"""One set of processes for all rows that are tested against live ones."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
import trio

from fastworker.core.ids import split_ids
from fastworker.wire import messages as m
from tests.bad_input.live import MARK, Live, living, run
from tests.bad_input.raw import answer_to, frame, open_peer, register


@pytest.fixture(scope="package")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with living(tmp_path_factory.mktemp("live")) as live:
        with live.row(says="frame") as source:
            live.held = run(_close_a_subworker_with_jobs, live, source)
        yield live


async def _close_a_subworker_with_jobs(live: Live, source: str) -> list[bytes]:
    """A subworker that is given jobs, and then sends bytes that are no frame: the jobs' ids."""
    async with open_peer(live.address, "subworker", token=live.token, source=source) as peer:
        await register(peer, "hostile", tasks=["echo"])
        while True:
            await trio.to_thread.run_sync(partial(live.client.submit, "echo", MARK))
            with trio.move_on_after(0.3):
                message = await answer_to(peer)
                if isinstance(message, m.Assign):
                    break
        await peer.send(frame(b"\xff"))
        await peer.receive_end()
    return split_ids(message.ids)
