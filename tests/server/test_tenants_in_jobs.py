"""D37 inside jobs: their code sees the jobs of the tenant whose job it is, whoever runs it."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from fastworker.client import current
from fastworker.core.ids import id_bytes, id_text
from fastworker.core.records import DEFAULT_TENANT
from fastworker.errors import Forbidden
from fastworker.server.clients import NOBODY, ClientPeer
from fastworker.server.identity import Identity
from fastworker.wire import messages as m
from fastworker.wire.values import open_value
from tests.server.tenants import Connected, open_tenants

pytestmark = pytest.mark.trio


async def value_of(connected: Connected, job: bytes) -> list[object]:
    """What a job has returned."""
    view = await connected.view(job)
    assert view.value is not None, view
    found: list[object] = open_value(view.value)
    return found


@pytest.mark.parametrize("started_here", [True, False])
async def test_code_in_a_job_sees_what_its_tenant_sees(
    autojump_clock: trio.testing.MockClock, started_here: bool
) -> None:
    async with open_tenants("acme", DEFAULT_TENANT, "globex") as (_, clients):
        echoed = {each.tenant: await each.submit("tenants-echo", each.tenant) for each in clients}
        for _ in range(2):  # clients of all tenants are there the second time
            for asker in clients:
                for tenant, job in echoed.items():
                    look = await asker.submit("tenants-look", id_text(job), started_here)
                    *seen, listed = await value_of(asker, look)
                    mine = tenant == asker.tenant
                    expected = (
                        [True, tenant, "finished_first"] if mine else [False, "unknown", "unknown"]
                    )
                    assert seen == expected, (asker.tenant, tenant)
                    views = [await asker.view(id_bytes(str(one))) for one in listed]  # type: ignore[attr-defined]
                    assert {view.tenant for view in views} == {asker.tenant}


async def test_what_a_job_submits_is_its_tenants(autojump_clock: trio.testing.MockClock) -> None:
    async with open_tenants("acme", DEFAULT_TENANT, "globex") as (_, clients):
        for asker in clients:
            job = await asker.submit("tenants-spawn", asker.tenant)
            child, result = await value_of(asker, job)
            assert result == asker.tenant
            assert (await asker.view(id_bytes(str(child)))).tenant == asker.tenant


async def test_clients_of_tenants_that_have_left_are_stopped(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(current, "AMBIENT_CLIENTS", 2)
    async with open_tenants("a", "b", "c", "d") as (_, clients):
        for asker in (*clients, clients[0]):
            job = await asker.submit("tenants-spawn", asker.tenant)
            assert (await value_of(asker, job))[1] == asker.tenant
            assert len(current._ambient) <= 2


async def test_a_client_in_a_job_shows_a_lease_that_stands_or_is_refused(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_tenants("acme") as (_, [acme]), trio.open_nursery() as nursery:
        job = await acme.submit("tenants-hold")
        row = acme.plane.dispatcher.job(job)
        assert row is not None

        def peer() -> ClientPeer:
            return ClientPeer(
                acme.plane,
                lambda message: None,
                nursery,
                identity=Identity("worker", "*").in_job(),
                host=None,
                authority=lambda job_id, token: (
                    row if (job_id, token) == (job, row.token) else None
                ),
            )

        unproved, proved = peer(), peer()
        await unproved.receive(m.Introduce(b"c" * 16))
        assert unproved.sees == NOBODY
        await proved.receive(m.Introduce(b"c" * 16, parent=job, parent_token=row.token))
        assert proved.sees == "acme"
        for token in (row.token + 1, None):
            with pytest.raises(Forbidden, match="no longer holds its lease"):
                await peer().receive(m.Introduce(b"c" * 16, parent=job, parent_token=token))
        nursery.cancel_scope.cancel()
