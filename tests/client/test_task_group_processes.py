"""Task groups over real processes: what they start ends with them, whatever dies."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest

from fastworker import Client, ControlPlaneUnavailable, TaskStatus
from tests.cancellation.stage import books_of
from tests.support.cluster import Cluster
from tests.support.process import Member

pytestmark = [pytest.mark.process, pytest.mark.slow]

TASKS = '''\
"""Tasks that write down when they start and when they end, one file for each process."""
import os
from pathlib import Path

import anyio

from fastworker import task
from fastworker.client.current import current_client

def note(folder, line):
    with open(Path(folder) / f"diary-{os.getpid()}", "a") as diary:
        diary.write(line + "\\n")

@task(name="work")
async def work(folder: str, number: int) -> int:
    note(folder, f"start {number}")
    try:
        await anyio.sleep(3600)
    finally:
        note(folder, f"end {number}")
    return number

@task(name="work-in-trio", runtime="trio")
async def work_in_trio(folder: str, number: int) -> int:
    return await work(folder, number)

@task(name="fail")
async def fail(folder: str) -> None:
    while not (Path(folder) / "go").exists():
        await anyio.sleep(0.02)
    raise ValueError("one of many")

@task(name="parent")
async def parent(folder: str, children: int) -> None:
    async with current_client().task_group(owned=3) as tg:
        for number in range(children):
            tg.start_soon(work, folder, number)
'''

OWNER = """\
import sys
import anyio
from fastworker import Client

async def main():
    async with Client() as client, client.task_group(owned=3) as tg:
        tg.start_many("work", [(sys.argv[1], number) for number in range(20)])
        tg.start_soon("parent", sys.argv[1], 5)
        await anyio.sleep_forever()

anyio.run(main)
"""

JOBS = 10_000
SLOTS = 600
PATIENCE_SECONDS = 60.0


@pytest.fixture
def anyio_backend() -> str:
    return "trio"


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path, tasks=TASKS, module="group_tasks") as cluster:
        cluster.control_plane()
        for name in ("one", "two"):
            cluster.subworker(name, "--concurrency", str(SLOTS // 2), "--queues", "default")
        yield cluster


def diary(folder: Path) -> tuple[list[str], list[str]]:
    """What has started, and what has ended."""
    lines = [line for one in folder.glob("diary-*") for line in one.read_text().splitlines()]
    starts = [line.split()[1] for line in lines if line.startswith("start")]
    return starts, [line.split()[1] for line in lines if line.startswith("end")]


async def eventually(condition: Callable[[], bool]) -> None:
    """Jobs write to files, which tell nobody."""
    with anyio.fail_after(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110
            await anyio.sleep(0.05)


async def nothing_is_left(client: Client) -> None:
    """No job of the control plane is open, no worker runs one, and nothing is watched here."""
    status = await client.status()
    open_jobs = {
        name: status["jobs"][name] for name in ("waiting", "scheduled", "queued", "running")
    }
    assert not any(open_jobs.values()), open_jobs
    assert not any(worker["running"] for worker in status["workers"])
    assert books_of(client) == (True, 0, [])


def client_of(cluster: Cluster) -> Client:
    return Client(control_plane_address=cluster.address, token=cluster.token)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_one_failure_of_ten_thousand_stops_every_sibling(
    fleet: Cluster, tmp_path: Path
) -> None:
    async with client_of(fleet) as client:
        await client.wait_connected(PATIENCE_SECONDS)
        with pytest.raises(ExceptionGroup) as caught:
            async with client.task_group() as tg:
                tg.start_soon("fail", str(tmp_path))
                handles = tg.start_many("work", [(str(tmp_path), n) for n in range(JOBS - 200)])
                handles += [tg.start_soon("work-in-trio", str(tmp_path), -n) for n in range(199)]
                await eventually(lambda: len(diary(tmp_path)[0]) >= SLOTS - 1)
                (tmp_path / "go").touch()
                failed_at = time.monotonic()
                await anyio.sleep_forever()
        seconds = time.monotonic() - failed_at
        assert [str(error) for error in caught.value.exceptions] == ["one of many"]
        starts, ends = diary(tmp_path)
        assert sorted(starts) == sorted(ends)
        assert {(await one.wait()).status for one in handles} == {TaskStatus.CANCELLED}
        counts = (await client.status())["jobs"]
        assert (counts["queued"], counts["running"]) == (0, 0)
        await nothing_is_left(client)
        assert [worker.jobs for worker in await client.tree()] == [(), ()]
        print(f"{len(starts)} of {JOBS} had started; all had ended {seconds:.2f} s later")


@pytest.mark.anyio
async def test_a_caller_that_is_killed_has_its_group_cancelled(
    fleet: Cluster, tmp_path: Path
) -> None:
    """By the control plane, after ``owned`` seconds; and what its jobs have started, too."""
    command = (sys.executable, "-c", OWNER, str(tmp_path))
    caller = Member("caller", command, environment=fleet.client_environment(), folder=tmp_path)
    try:
        await eventually(lambda: len(diary(tmp_path)[0]) == 25)
        caller.kill()
        killed_at = time.monotonic()
        await eventually(lambda: len(diary(tmp_path)[1]) == 25)
        assert time.monotonic() - killed_at >= 2.5
        async with client_of(fleet) as client:
            await nothing_is_left(client)
    finally:
        caller.close()


@pytest.mark.anyio
async def test_a_restart_of_the_control_plane_is_no_end_of_a_group(
    fleet: Cluster, tmp_path: Path
) -> None:
    """The client is back before ``owned`` is over, so its jobs go on; then they are cancelled."""
    async with client_of(fleet) as client:
        await client.wait_connected(PATIENCE_SECONDS)
        with anyio.move_on_after(PATIENCE_SECONDS * 2) as scope:
            async with client.task_group(owned=20) as tg:
                tg.start_many("work", [(str(tmp_path), number) for number in range(20)])
                await eventually(lambda: len(diary(tmp_path)[0]) == 20)
                fleet.members[0].terminate()
                await anyio.sleep(0.5)
                fleet.control_plane(ready=False)
                await client.wait_connected(PATIENCE_SECONDS)
                assert diary(tmp_path)[1] == []
                scope.cancel()
        assert scope.cancelled_caught
        assert len(diary(tmp_path)[1]) == 20
        await nothing_is_left(client)


@pytest.mark.anyio
async def test_a_block_does_not_wait_for_a_control_plane_that_stays_away(
    fleet: Cluster, tmp_path: Path
) -> None:
    async with client_of(fleet) as client:
        await client.wait_connected(PATIENCE_SECONDS)
        with pytest.raises(ExceptionGroup) as caught:
            async with client.task_group(owned=2) as tg:
                tg.start_many("work", [(str(tmp_path), number) for number in range(20)])
                await eventually(lambda: len(diary(tmp_path)[0]) == 20)
                fleet.members[0].kill()
                await anyio.sleep(0.2)
                tg.cancel()
        (error,) = caught.value.exceptions
        assert isinstance(error, ControlPlaneUnavailable)
        assert "20 jobs of a cancelled task group" in str(error)
        fleet.control_plane(ready=False)
        await client.wait_connected(PATIENCE_SECONDS)
        await eventually(lambda: len(diary(tmp_path)[1]) == 20)
        await client.status()


@pytest.mark.anyio
async def test_a_worker_that_dies_takes_the_groups_of_its_jobs_along(
    fleet: Cluster, tmp_path: Path
) -> None:
    """What its jobs have started on other workers is cancelled after ``owned`` seconds."""
    parents = fleet.subworker("parents", "--queues", "parents")
    async with client_of(fleet) as client:
        await client.wait_connected(PATIENCE_SECONDS)
        parent = await client.options(queue="parents").submit("parent", str(tmp_path), 10)
        await eventually(lambda: len(diary(tmp_path)[0]) == 10)
        parents.kill()
        await eventually(lambda: len(diary(tmp_path)[1]) == 10)
        assert (await parent.cancel()).cancelled
        await nothing_is_left(client)
