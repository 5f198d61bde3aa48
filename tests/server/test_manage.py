"""Changes and reports of dead letters and queues, at the door of the control plane."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import trio.testing

from fastworker import Client, task
from fastworker.core.ids import id_bytes
from fastworker.core.questions import Questions
from fastworker.server.clients import ClientPeer
from fastworker.server.dead_letters import change_dead_letters
from fastworker.server.identity import Identity
from fastworker.server.plane import Plane
from fastworker.testing import Cluster, open_cluster
from fastworker.wire.messages import Manage, Message, Problem, Query, Report

pytestmark = pytest.mark.trio

runs: list[int] = []


@task(name="manage-fail")
async def fail(number: int) -> None:
    runs.append(number)
    raise ValueError(number)


class Asked:
    """A client's connection: what is asked, and what is answered."""

    def __init__(self, cluster: Cluster, nursery: trio.Nursery) -> None:
        self.plane: Plane = cluster._plane
        self._put, self._take = trio.open_memory_channel[Message](100)
        self.peer = ClientPeer(
            self.plane, self._put.send_nowait, nursery, identity=Identity("test"), host=None
        )

    async def __call__(self, message: Message) -> Message:
        await self.peer.receive(message)
        with trio.fail_after(60):
            return await self._take.receive()

    async def refusal(self, message: Message) -> Problem:
        answer = await self(message)
        assert isinstance(answer, Problem), answer
        assert answer.request == 1
        return answer

    async def report(self, message: Message) -> dict[str, Any]:
        answer = await self(message)
        assert isinstance(answer, Report), answer
        return answer.body


@asynccontextmanager
async def open_asked() -> AsyncIterator[tuple[Asked, Cluster, Client]]:
    runs.clear()
    async with open_cluster() as cluster, Client() as client, trio.open_nursery() as nursery:
        yield Asked(cluster, nursery), cluster, client
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("what", "options", "code"),
    [
        ("pause", None, "invalid_option"),
        ("resume", {"queue": 3}, "invalid_name"),
        ("pause", {"queue": "a b"}, "invalid_name"),
        ("burn", None, "invalid_option"),
        ("replay", {"ids": b""}, "invalid_option"),
        ("replay", {"ids": b"short"}, "invalid_option"),
        ("discard", {"ids": "text"}, "invalid_option"),
        ("discard", {"ids": bytes(16)}, "unknown_job"),
        ("replay", {"ids": bytes(16), "payload": b""}, "invalid_option"),
        ("replay", {"ids": bytes(31) + b"x", "payload": b"x"}, "invalid_option"),
        ("replay", {"limit": 0}, "invalid_option"),
        ("replay", {"limit": 501}, "invalid_option"),
        ("discard", {"task": 3}, "invalid_option"),
        ("discard", {"before": -1}, "invalid_option"),
        ("discard", {"ended_before": float("nan")}, "invalid_option"),
    ],
)
async def test_what_cannot_be_is_refused(
    autojump_clock: trio.testing.MockClock, what: str, options: dict[str, Any] | None, code: str
) -> None:
    async with open_asked() as (asked, _, _):
        assert (await asked.refusal(Manage(1, what, options))).code == code
        assert asked.plane.dead_letter_turn.value == 1


@pytest.mark.parametrize("what", ["dead_letter", "attempts"])
async def test_a_report_about_one_job_needs_its_id(
    autojump_clock: trio.testing.MockClock, what: str
) -> None:
    async with open_asked() as (asked, _, _):
        assert (await asked.refusal(Query(1, what))).code == "invalid_option"
        assert (await asked.refusal(Query(1, what, {"id": bytes(16)}))).code == "unknown_job"


async def test_nothing_changes_while_the_control_plane_stops(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_asked() as (asked, _, _):
        asked.plane.draining = True
        for what in ("pause", "replay"):
            refusal = await asked.refusal(Manage(1, what, {"queue": "q"}))
            assert (refusal.code, refusal.retry_after) == ("overloaded", 1.0)


async def test_a_list_has_no_tracebacks_and_pages_by_cursor(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_asked() as (asked, cluster, client):
        await client.submit_many(fail, [(number,) for number in range(3)])
        await cluster.wait_idle()
        rows = (await asked.report(Query(1, "dead", {"limit": 2})))["dead"]
        assert [row["failure"][2] for row in rows] == ["", ""]
        page = {"limit": 2, "before": rows[-1]["key"]}
        assert await asked.report(Manage(1, "discard", page)) == {"count": 1}
        first = await asked.report(Manage(1, "discard", {"limit": 2}))
        assert first == {"count": 2, "before": rows[-1]["key"]}


async def test_a_replay_that_is_cancelled_anywhere_happens_once_or_not_at_all(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_asked() as (asked, cluster, client):
        finished = 0
        for checkpoints in range(30):
            job = await client.submit(fail, checkpoints)
            await cluster.wait_idle()
            message = Manage(1, "replay", {"ids": id_bytes(job.id)})
            async with trio.open_nursery() as nursery:
                nursery.start_soon(change_dead_letters, asked.plane, message, None)
                for _ in range(checkpoints):
                    await trio.lowlevel.checkpoint()
                finished += not nursery.child_tasks
                nursery.cancel_scope.cancel()
            replayed = await asked.report(message)  # with the turn free, and not a second time
            await cluster.wait_idle()
            assert runs.count(checkpoints) == 2
            assert replayed == await asked.report(message)
            assert asked.plane.dead_letter_turn.value == 1
        assert 0 < finished < 30


async def test_a_replay_keeps_options_but_calls_no_connection_that_has_gone(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_asked() as (asked, cluster, _):

        async def options_of_a_replay(job: str) -> Any:
            await cluster.wait_idle()
            packed = (await asked.report(Manage(1, "replay", {"ids": id_bytes(job)})))["ids"]
            known = await asked.plane.store.recall(Questions(ids=[packed]))
            return known.jobs[packed].row.options

        async with Client() as other:
            other.callbacks()
            asks: dict[str, Any] = {
                "callback": other.callback_address,
                "callback_data": 1,
                "on_lost": "fail",
            }
            here, gone = [(await other.apply(fail, (1,), **asks)).id for _ in "ab"]
            kept = await options_of_a_replay(here)
            assert kept.callback == other.callback_address
            assert (kept.replay_of, kept.on_lost) == (id_bytes(here), "fail")
        await trio.sleep(1)
        left = await options_of_a_replay(gone)
        assert (left.callback, left.callback_data, left.callback_token) == (None, None, None)
        assert (left.replay_of, left.on_lost) == (id_bytes(gone), "fail")
