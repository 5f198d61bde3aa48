"""Power loss: disk images rebuilt from a log of system calls, each started by the control plane."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import trio

from fastworker import TaskStatus
from fastworker.core.records import JobView
from fastworker.store.folder import DATABASE
from tests.faults.disks import Disk, write_image
from tests.faults.images import started_plane
from tests.faults.machine import require
from tests.faults.report import REPORT
from tests.faults.rounds import Rounds
from tests.faults.site import FaultSite
from tests.faults.strace import Call, read_calls, recording
from tests.faults.witness import Told, Witness

JOBS = 300
"""Of one log; more make a longer log, not a wider choice."""
IMAGES_OF_MOMENT = 4
"""One with nothing unsynced, and three with random parts of it."""
IMAGES_OF_LOG = 500
VIEWS_AT_ONCE = 200


def test_c07_power_lost_at_any_moment(site: FaultSite, rounds: Rounds, tmp_path: Path) -> None:
    require("C07", "strace")
    portions = rounds.portions("C07 disk images", ci=100, full=2_000, each=IMAGES_OF_LOG)
    real = 0
    for number, wanted in enumerate(portions):
        # Small logs in CI: reading one takes longer than making it.
        told, calls = _record(site, f"log{number}", min(JOBS, 30 + wanted))
        disk = Disk(site.folder / f"log{number}" / "store", calls)
        moments = _moments(told, wanted // IMAGES_OF_MOMENT, site.random)
        for at, moment in enumerate(moments):
            disk.advance(moment)
            for part in range(IMAGES_OF_MOMENT):
                image = disk.least() if part == 0 else disk.some(site.random)
                folder = tmp_path / "image"
                write_image(image, folder)
                _check_image(folder, told, moment)
                real += 1
            if at % 100 == 0:
                _check_with_real_process(site, disk.least(), told, moment)
        assert disk.syncs > len(moments) / 4, "the log has hardly any syncs: nothing was proved"
    REPORT.figures.append(f"C07: {real:,} disk images started, everything promised is in all")


def _record(site: FaultSite, name: str, jobs: int) -> tuple[list[Told], list[Call]]:
    """Run jobs on a control plane whose writes are logged; kill it at the end."""
    folder = site.folder / name
    folder.mkdir()
    site.store = folder / "store"
    site.plane_prefix = recording(folder / "calls")
    site.start_plane()
    worker = site.start_worker("one")
    told = Witness(site.address, site.token, site.random).run(jobs)
    site.plane.kill()
    worker.kill()
    site.plane_prefix = ()
    assert all(each.ended_at is not None for each in told), [each.refused for each in told]
    return told, read_calls(folder / "calls")


def _moments(told: Sequence[Told], count: int, chooser: random.Random) -> list[float]:
    """Moments of promises: just after something was told to a client, in order."""
    promised = [each.acked_at for each in told] + [each.ended_at for each in told]
    at = sorted(moment for moment in promised if moment is not None)
    return sorted(chooser.sample(at, min(count, len(at))))


def _check_image(folder: Path, told: Sequence[Told], moment: float) -> None:
    """Start a control plane on an image and look for everything promised until then."""
    trio.run(_start_and_look, folder, told, moment)
    with sqlite3.connect(folder / DATABASE) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


async def _start_and_look(folder: Path, told: Sequence[Told], moment: float) -> None:
    views: dict[bytes, JobView] = {}
    async with started_plane(folder) as plane:
        for at in range(0, len(told), VIEWS_AT_ONCE):
            ids = [each.id for each in told[at : at + VIEWS_AT_ONCE]]
            views.update({view.id: view for view in await plane.store.views(ids)})
    _check_promises({each.key: views.get(each.id) for each in told}, told, moment)


def _check_promises(views: dict[str, JobView | None], told: Sequence[Told], moment: float) -> None:
    for each in told:
        view = views[each.key]
        if each.acked_at is not None and each.acked_at <= moment:
            assert view is not None, f"lost: {each.key} was acknowledged"
        if each.ended_at is not None and each.ended_at <= moment:
            assert view is not None, f"lost: {each.key} was seen to end"
            assert view.status is TaskStatus.SUCCESS, f"{each.key} was seen to end; {view}"
            assert view.value, f"{each.key} was seen with a result; {view}"


def _check_with_real_process(
    site: FaultSite, image: dict[str, bytes], told: Sequence[Told], moment: float
) -> None:
    """The same with a process and a client as users have them, for a few of the images."""
    shutil.rmtree(site.folder / "started", ignore_errors=True)
    site.store = site.folder / "started"
    write_image(image, site.store)
    site.start_plane()
    with site.client() as client:
        for each in told:
            result = client.get_task_result(each.task_id)
            if each.acked_at is not None and each.acked_at <= moment:
                assert result is not None, f"lost: {each.key} was acknowledged"
            if each.ended_at is not None and each.ended_at <= moment:
                assert result is not None
                assert result.result == f"done {each.key}", result
    site.plane.kill()
