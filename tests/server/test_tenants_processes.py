"""D37 against real processes: two tenants with tokens of their own, and one worker for both."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from typing import Any

import pytest

from fastworker import BlockingClient, Conflict, TaskStatus, UnknownJob
from fastworker.cli.main import main
from fastworker.client.handles import CancelOutcome
from fastworker.core.ids import id_text
from tests.support.cluster import TASKS, Cluster

pytestmark = pytest.mark.process

RESULT_BYTES = 1_000_000
"""Reading so much takes several times as long as finding nothing."""

ROUNDS = 60
TRIES = 5
ALIKE = 1.25
"""Medians of the same, one after another on a busy machine, differ by less."""

MORE_TASKS = """

from fastworker import Client, UnknownJob


@task
def large(size: int) -> bytes:
    return bytes(size)


@task
async def look(task_id: str) -> list:
    async with Client() as client:
        try:
            seen = await client.result(task_id, 10)
        except UnknownJob:
            seen = None
        return [seen, len(await client.jobs()), (await add.submit(1, 2)).id]


def look_plain(task_id: str) -> bool:
    return task_id in {job["id"] for job in shared.jobs()}


from fastworker import BlockingClient

shared = BlockingClient()
task(look_plain)
"""


class Site:
    """A cluster, and a client of each tenant."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.control_plane = cluster.control_plane()
        cluster.subworker("sw1")
        self.acme, self.globex, self.admin = (
            BlockingClient(control_plane_address=cluster.address, token=(file).read_text().strip())
            for file in (cluster.folder / f"{name}.token" for name in ("acme", "globex", "admin"))
        )

    def restart(self) -> None:
        """Kill the control plane, and start another on its store."""
        self.control_plane.kill()
        self.control_plane = self.cluster.control_plane()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("tenants")
    for name in ("acme", "globex", "admin"):
        role, tenant = ("admin", "default") if name == "admin" else ("submit", name)
        command = ["token", "create", "--role", role, "--tenant", tenant, "--name", name]
        with (folder / f"{name}.token").open("w") as printed, redirect_stdout(printed):
            assert main([*command, "--store", str(folder / "store")]) == 0
    with Cluster(folder, tasks=TASKS + MORE_TASKS) as cluster:
        site = Site(cluster)
        with site.acme, site.globex, site.admin:
            yield site


def test_d37_one_tenant_learns_nothing_of_anothers_jobs(site: Site) -> None:
    acme, globex, admin = site.acme, site.globex, site.admin
    before = _listed(admin)
    done = acme.apply("add", (2, 3), idempotency_key="order-1")
    assert done.result(30) == 5
    failed = acme.submit("fail", "acme's own words")
    with pytest.raises(Exception, match="own words"):
        failed.result(30)
    later = acme.apply("add", (1, 1), countdown=3600)
    mine = globex.apply("add", (20, 3), idempotency_key="order-1")
    assert mine.result(30) == 23
    jobs = {"done": done.id, "failed": failed.id, "later": later.id}
    for _ in "before", "after a restart":
        for task_id in jobs.values():
            _check_unknown(globex, task_id)
        assert _listed(globex) - before == {mine.id}
        assert globex.dead() == []
        assert {each.tenant for each in globex.queues()} == {"globex"}
        assert _listed(admin) - before == {mine.id, *jobs.values()}
        assert [letter.tenant for letter in admin.dead()] == ["acme"]
        assert len(admin.dead(tenant="acme")) == 1
        assert admin.dead(tenant="globex") == []
        assert "acme" not in json.dumps(globex.status())
        site.restart()
    assert acme.handle(later.id).status() is TaskStatus.SCHEDULED
    assert acme.handle(later.id).cancel().outcome is CancelOutcome.CANCELLED
    again = acme.replay(failed.id)
    assert {job["tenant"] for job in admin.jobs() if job["id"] == again.id} == {"acme"}


def _listed(client: BlockingClient) -> set[str]:
    return {job["id"] for job in client.jobs()}


def _check_unknown(client: BlockingClient, task_id: str) -> None:
    assert client.get_task_result(task_id) is None
    assert client.handle(task_id).cancel().outcome is CancelOutcome.UNKNOWN
    calls: list[Callable[[str], Any]] = [
        lambda one: client.result(one, 30),
        client.attempts,
        client.dead_letter,
        client.replay,
        client.stack,
    ]
    for call in calls:
        with pytest.raises(UnknownJob):
            call(task_id)
    with pytest.raises(Conflict) as refused:
        client.apply("add", (2, 3), task_id=task_id)
    assert "acme" not in str(refused.value)


def test_d37_code_in_jobs_sees_the_jobs_of_its_own_tenant(site: Site) -> None:
    done = site.acme.submit("add", 2, 3)
    assert done.result(30) == 5
    for _ in range(2):
        for client, seen in ((site.acme, 5), (site.globex, None)):
            found, _, child = client.submit("look", done.id).result(30)
            assert found == seen
            assert client.result(child, 30) == 3
            assert client.submit("look_plain", done.id).result(30) is (seen is not None)
    assert not _listed(site.globex) & _listed(site.acme)


@pytest.mark.slow
def test_d37_a_foreign_id_takes_as_long_as_an_unknown_one(site: Site) -> None:
    done = site.acme.submit("large", RESULT_BYTES)
    done.result(30)
    unknown = id_text(b"\x01\x9a" + bytes(14))
    ways: dict[str, Callable[[str], Any]] = {
        "read": site.globex.get_task_result,
        "cancel": lambda one: site.globex.handle(one).cancel(),
        "attempts": lambda one: _attempts(site.globex, one),
    }
    for name, way in ways.items():
        ratios = []
        for _ in range(TRIES):
            foreign, other = _medians(way, done.id, unknown)
            ratios.append(max(foreign / other, other / foreign))
            if ratios[-1] < ALIKE:
                break
        assert ratios[-1] < ALIKE, (name, ratios)
    own, other = _medians(site.acme.get_task_result, done.id, unknown)
    assert own > ALIKE * other, "the measurement sees no difference where there is one"


def _attempts(client: BlockingClient, task_id: str) -> None:
    with pytest.raises(UnknownJob):
        client.attempts(task_id)


def _medians(way: Callable[[str], Any], *ids: str) -> list[float]:
    """How long it takes, in the middle, for each id; asked in turn."""
    seconds: dict[str, list[float]] = {task_id: [] for task_id in ids}
    for _ in range(ROUNDS):
        for task_id in ids:
            begun = time.perf_counter()
            way(task_id)
            seconds[task_id].append(time.perf_counter() - begun)
    return [statistics.median(each) for each in seconds.values()]
