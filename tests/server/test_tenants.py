"""D37: what a client says about another tenant's job is answered like what never was.

Every kind of message that a client may send is tried on jobs in every state; one that is added
without being tried here, or is answered otherwise, fails.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
import trio
import trio.testing

from fastworker.core.ids import new_id
from fastworker.core.records import TaskStatus
from fastworker.errors import ProtocolError
from fastworker.server import reports
from fastworker.server.identity import Role
from fastworker.store.thread import StoreThread
from fastworker.wire import messages as m
from fastworker.wire.codec import MESSAGES
from tests.server.tenants import Connected, open_tenants, said_of
from tests.wire.examples import EXAMPLES

pytestmark = pytest.mark.trio

SECRET = "acme's own words"

WITHOUT_JOB = {m.Introduce, m.Unfollow, m.Beat, m.BeatAck, m.Bye}
"""Messages of clients in which no id of a job can stand."""

REPORTS: dict[str, list[dict[str, Any]]] = {
    "tasks": [{}],
    "workers": [{}],
    "queues": [{}],
    "jobs": [{}, {"tenant": "acme"}, {"task": "tenants-echo"}],
    "dead": [{}, {"tenant": "acme"}],
    "dead_letter": [{"id": ...}],
    "attempts": [{"id": ...}],
    "stack": [{"id": ...}],
    "tree": [{}, {"stacks": True}],
    "tenants": [{}],
    "callbacks": [{}, {"tenant": "acme"}],
    "status": [{}],
}
"""By name, what is asked; ``...`` stands for the job."""

CHANGES: dict[str, list[dict[str, Any]]] = {
    "pause": [{"queue": "default"}],
    "resume": [{"queue": "default"}],
    "replay": [{"ids": ...}, {}, {"tenant": "acme"}, {"task": "tenants-fail"}],
    "discard": [{"ids": ...}, {}, {"tenant": "acme"}],
}


def about(job: bytes) -> dict[type[m.Message], list[m.Message]]:
    """What can be said of a job, by kind."""

    def filled(options: dict[str, Any]) -> dict[str, Any]:
        return {name: job if value is ... else value for name, value in options.items()}

    specs: list[list[object]] = [["tenants-echo", "default", 1, {}]]
    child = b"c" * 16
    return {
        m.Watch: [m.Watch(job)],
        m.Unwatch: [m.Unwatch(job)],
        m.Fetch: [m.Fetch(1, job)],
        m.Cancel: [m.Cancel(1, job)],
        m.Follow: [m.Follow(1, job), m.Follow(1, job, wait=False), m.Follow(1, job, lines=False)],
        m.StreamPull: [m.StreamPull(job, 0, 64), m.StreamPull(job, 0, 64, again=True)],
        m.CallbackAck: [m.CallbackAck(job)],
        m.Submit: [m.Submit(1, specs, child, [b"x"], parent=job, parent_token=1)],
        m.Query: [
            m.Query(1, what, filled(options))
            for what, cases in REPORTS.items()
            for options in cases
        ],
        m.Manage: [
            m.Manage(1, what, filled(options))
            for what, cases in CHANGES.items()
            for options in cases
        ],
    }


async def jobs_in_every_state(acme: Connected) -> dict[str, bytes]:
    """Jobs of a tenant, by the state that they are in."""
    wall = acme.plane.clock().wall
    jobs = {
        "running": await acme.submit("tenants-hold"),
        "streamed": await acme.submit("tenants-count", options={"stream": True}),
        "queued": await acme.submit("tenants-nobody-knows"),
        "scheduled": await acme.submit("tenants-echo", SECRET, ready_at=[wall + 10**6]),
        "succeeded": await acme.submit("tenants-echo", SECRET),
        "failed": await acme.submit("tenants-fail", SECRET),
        "cancelled": await acme.submit("tenants-nobody-knows"),
    }
    await acme.tell(m.Cancel(1, jobs["cancelled"]))
    await acme.tell(m.StreamPull(jobs["streamed"], 0, 64))
    assert (await acme.view(jobs["running"])).status is TaskStatus.RUNNING
    assert (await acme.view(jobs["failed"])).status is TaskStatus.FAILURE
    return jobs


async def test_every_kind_of_message_of_a_client_is_tried() -> None:
    """A new one belongs into `about`, or, if no job's id can stand in it, into `WITHOUT_JOB`."""
    accepted = set()
    async with open_tenants() as (cluster, _), trio.open_nursery() as nursery:
        for example in EXAMPLES.values():
            asker = Connected(cluster._plane, nursery, "acme")
            try:
                await asker.peer.receive(example)
            except ProtocolError as error:
                if "has no place on a client's connection" in str(error):
                    continue
            accepted.add(type(example))
        nursery.cancel_scope.cancel()
    assert accepted == set(about(b"j" * 16)) | WITHOUT_JOB
    assert accepted <= set(MESSAGES.values())


async def test_every_report_and_every_change_is_tried(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_tenants("acme") as (_, [acme]):
        for message, tried in ((m.Query(1, "no"), REPORTS), (m.Manage(1, "no"), CHANGES)):
            text = (await acme.ask(message, m.Problem)).message
            named = re.findall(r"\w+", re.split("ask for|there are", text)[1])
            assert set(named) - {"or", "and"} == set(tried)


async def test_d37_a_foreign_id_is_answered_like_an_unknown_one_and_nothing_changes(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    _trace(monkeypatch, asked)
    async with open_tenants("acme", "globex") as (_, [acme, globex]):
        await globex.introduce()
        jobs = await jobs_in_every_state(acme)
        before = {name: await acme.view(job) for name, job in jobs.items()}
        unknown = new_id(wall=acme.plane.clock().wall, random=b"unknown...")
        for name, job in jobs.items():
            for foreign, other in zip(_flat(about(job)), _flat(about(unknown)), strict=True):
                asked.clear()
                told = said_of(job, await globex.tell(foreign))
                ways = list(asked)
                asked.clear()
                assert told == said_of(unknown, await globex.tell(other)), (name, foreign)
                assert ways == asked, (name, foreign)
                assert not any(b"acme" in each for each in told if b"tenant can" not in each)
        assert before == {name: await acme.view(job) for name, job in jobs.items()}


async def test_lists_hold_the_jobs_of_ones_own_tenant_and_an_administrator_sees_all(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with (
        open_tenants("acme", "globex") as (cluster, [acme, globex]),
        trio.open_nursery() as nursery,
    ):
        admin = Connected(cluster._plane, nursery, "ops", [Role.ADMIN])
        jobs = await jobs_in_every_state(acme)
        own = await globex.submit("tenants-nobody-knows")

        async def report(asker: Connected, what: str, **options: Any) -> dict[str, Any]:
            return (await asker.ask(m.Query(1, what, options), m.Report)).body

        for asker, expected in (
            (acme, set(jobs.values())),
            (globex, {own}),
            (admin, {*jobs.values(), own}),
        ):
            listed = (await report(asker, "jobs"))["jobs"]
            assert {each["id"] for each in listed} == expected
            assert {each["tenant"] for each in listed} <= {"acme", "globex"}
            dead = (await report(asker, "dead"))["dead"]
            assert {each["id"] for each in dead} == expected & {jobs["failed"]}
            queues = (await report(asker, "queues"))["queues"]
            seen = {"acme", "globex"} if asker is admin else {asker.tenant}
            assert {each["tenant"] for each in queues} == seen
            [worker] = (await report(asker, "tree"))["workers"]
            running = {jobs["running"], jobs["streamed"]} & expected
            assert {each["id"] for each in worker["jobs"]} == running
            [described] = (await report(asker, "workers"))["workers"]
            assert described["running"] == len(running)
        status = await report(globex, "status")
        assert not {"inbox", "connections"} & status.keys() and "location" not in status["store"]
        counts = status["jobs"]
        assert {status: count for status, count in counts.items() if count} == {"queued": 1}
        of_acme = (await report(admin, "jobs", tenant="acme"))["jobs"]
        assert {each["id"] for each in of_acme} == set(jobs.values())
        nursery.cancel_scope.cancel()


async def test_a_list_is_found_slice_by_slice(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "KEYS_AT_ONCE", 3)
    async with open_tenants("acme", "globex") as (_, [acme, globex]):
        own = []
        for number in range(20):
            asker = globex if number in (1, 2, 15) else acme
            job = await asker.submit("tenants-nobody-knows")
            own += [job] if asker is globex else []

        async def listed(**options: Any) -> list[dict[str, Any]]:
            body = (await globex.ask(m.Query(1, "jobs", options), m.Report)).body
            return list(body["jobs"])

        assert [row["id"] for row in await listed()] == own[::-1]
        first = await listed(limit=2)
        assert [row["id"] for row in first] == own[:0:-1]
        assert [row["id"] for row in await listed(before=first[-1]["key"])] == own[:1]
        assert await listed(before=0) == []
        assert len(await listed(before=2**63 - 1)) == 3


async def test_a_replay_belongs_to_the_tenant_of_its_dead_letter(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with (
        open_tenants("acme", "globex") as (cluster, [acme, globex]),
        trio.open_nursery() as nursery,
    ):
        admin = Connected(cluster._plane, nursery, "ops", [Role.ADMIN])
        failed = [await each.submit("tenants-fail", SECRET) for each in (acme, globex)]
        ids = b"".join(failed)
        packed = (await admin.ask(m.Manage(1, "replay", {"ids": ids}), m.Report)).body["ids"]
        assert (await acme.view(packed[:16])).tenant == "acme"
        assert (await globex.view(packed[16:])).tenant == "globex"
        nursery.cancel_scope.cancel()


async def test_items_of_a_stream_go_to_its_tenant_whoever_else_asks_for_them(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_tenants("acme", "globex") as (_, [acme, globex]):
        job = await acme.submit("tenants-count", options={"stream": True}, watch=True)
        assert await globex.tell(m.StreamPull(job, 0, 64)) == []
        [streamed] = await acme.tell(m.StreamPull(job, 0, 64))
        assert isinstance(streamed, m.Streamed)
        assert await globex.tell(m.StreamPull(job, 0, 64, again=True)) == []
        globex.peer.close()
        [again] = await acme.tell(m.StreamPull(job, 0, 64, again=True))
        assert again == streamed


async def test_callbacks_go_to_the_client_of_their_tenant_and_only_it_can_take_them(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_tenants("acme", "globex") as (_, [acme, globex]):
        globex.client_id = acme.client_id
        await acme.introduce(callbacks=True)
        await globex.introduce(callbacks=True)
        options = {"callback": f"client:{acme.client_id.hex()}"}
        job = await acme.submit("tenants-nobody-knows", options=options)

        async def waiting() -> list[bytes]:
            later = acme.plane.clock().wall + 10**6
            return [row.job_id for row in await acme.plane.store.due_callbacks(now=later)]

        [_, callback] = await acme.tell(m.Cancel(1, job))
        assert isinstance(callback, m.Callback)
        for client, left in ((globex, [job]), (acme, [])):
            await client.peer.receive(m.CallbackAck(callback.delivery))
            await trio.sleep(1.0)  # far shorter than what an answer may take
            assert await waiting() == left


async def test_an_idempotency_key_is_each_tenants_own(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_tenants("acme", "globex") as (_, [acme, globex]):
        job = await acme.submit("tenants-echo", SECRET, keys=["order-1"])
        other = await globex.submit("tenants-echo", "mine", keys=["order-1"])
        assert {(await acme.view(job)).tenant, (await globex.view(other)).tenant} == {
            "acme",
            "globex",
        }


async def test_a_tenant_in_the_options_of_a_submission_is_passed_over(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_tenants("globex") as (_, [globex]):
        job = await globex.submit("tenants-echo", "x", options={"tenant": "acme"})
        assert (await globex.view(job)).tenant == "globex"


def _flat(messages: dict[type[m.Message], list[m.Message]]) -> list[m.Message]:
    return [message for kind in messages.values() for message in kind]


def _trace(monkeypatch: pytest.MonkeyPatch, asked: list[str]) -> None:
    """Note what the store is asked: a foreign id is to take the very way of an unknown one."""

    def traced(name: str, method: Any) -> Any:
        async def call(self: StoreThread, *args: Any, **kwargs: Any) -> Any:
            asked.append(name)
            return await method(self, *args, **kwargs)

        return call

    for name in ("views", "recall", "lines", "attempts", "payloads", "jobs", "dead", "counts"):
        monkeypatch.setattr(StoreThread, name, traced(name, getattr(StoreThread, name)))
