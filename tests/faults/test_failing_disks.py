"""A disk that is full, slow, fails or fails now and then; a crash at every call to the store."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Final

import pytest

from fastworker.errors import StorageFull
from tests.faults.machine import require
from tests.faults.preloads import library
from tests.faults.report import REPORT, spread
from tests.faults.rounds import Rounds
from tests.faults.site import FaultSite, HealthWatch, NewSite, wait_until
from tests.faults.strace import SYNCS, WRITES, injected_at, injecting
from tests.faults.witness import Told, Witness
from tests.support.process import WAIT_SECONDS
from tests.survival.chaos import SHORT_LEASE

ENDLESS_JOBS: Final = 1_000_000

CRASH_POINTS: Final = tuple(
    (calls, number)
    for calls, last in ((SYNCS, 60), (WRITES, 120), ("sendto,sendmsg", 60))
    for number in range(1, last + 1)
)
"""Which call of which kind of a thread: recovery at first, and then work under load."""
STORAGE_ERROR: Final = 74
STOP_SECONDS: Final = 2.0
"""From a failed call to the end of the control plane."""
SLOW_SYNC_MICROSECONDS: Final = 500_000
STALL_SECONDS: Final = 0.1
"""The event loop may stand still for this long, whatever the disk does."""
RESUME_SECONDS: Final = 5.0
"""From free space to the next accepted job."""
SMALL_DISK_BYTES: Final = 24 * 1024 * 1024
MEGABYTE: Final = 1024 * 1024


def test_c06_killed_at_every_call_to_the_store(sites: NewSite, rounds: Rounds) -> None:
    require("C06", "strace")
    with sites() as site:
        site.start_all("one")
        count = rounds.of("C06 crash points", ci=2, full=len(CRASH_POINTS))
        points = site.random.sample(CRASH_POINTS, min(count, len(CRASH_POINTS)))
        site.plane.kill()
        for calls, number in points:
            site.plane_prefix = injecting(calls, f"signal=KILL:when={number}")
            plane = site.launch_plane()
            assert plane.wait() == -signal.SIGKILL, f"{calls} {number}: {plane.log}"
        site.plane_prefix = ()
        site.start_plane()
        site.check_standing()
    REPORT.figures.append(f"C06: killed at {len(points)} of {len(CRASH_POINTS)} calls")


@pytest.mark.parametrize("when", ["once", "for ever"])
def test_c14_sync_fails(sites: NewSite, rounds: Rounds, when: str) -> None:
    require("C14", "strace")
    if when == "for ever":
        rounds.only_full("C14 for ever")
    failures = rounds.of("C14 failed syncs", ci=1, full=25)
    _check_stops(sites, failures, SYNCS, "+" if when == "for ever" else "")


def test_c15_write_fails(sites: NewSite, rounds: Rounds) -> None:
    require("C15", "strace")
    failures = rounds.of("C15 failed writes", ci=1, full=25)
    _check_stops(sites, failures, "pwrite64", "")


def test_c15_short_writes(site: FaultSite, rounds: Rounds) -> None:
    require("C15 (short)", "preloads")
    site.extra["control-plane"] = {
        "LD_PRELOAD": str(library("short_writes")),
        "SHORT_WRITES": "3",
    }
    site.start_all("one")
    for _ in range(rounds.of("C15 kills after short writes", ci=1, full=20)):
        site.pause(0.3, 1.0)
        site.restart_plane()
    site.check_standing()


def _check_stops(sites: NewSite, failures: int, calls: str, onwards: str) -> None:
    """Each failure ends the control plane with 74, at once and without another promise."""
    took: list[float] = []
    with sites() as site:
        site.start_all("one")
        for number in range(failures):
            site.plane.kill()
            log = site.folder / f"failure{number}"
            point = site.random.randrange(8, 60)
            action = f"error=EIO:when={point}{onwards}"
            site.plane_prefix = injecting(calls, action, log=log)
            site.launch_plane()  # it may fail before it is ready
            told, ended_at = _submit_until_end(site)
            site.plane_prefix = ()
            (failed_at, *_) = injected_at(log)
            took.append(ended_at - failed_at)
            late = [each for each in told if each.acked_at and each.sent_at > failed_at]
            assert not late, f"accepted by a store that had failed: {late}"
            site.start_plane()
            _check_kept(site, told)
        site.check_standing()
    REPORT.figures.append(f"{calls}{onwards} fails: exit {STORAGE_ERROR} after {spread(took)}")
    assert max(took) <= STOP_SECONDS * site.patience, spread(took)


def _submit_until_end(site: FaultSite) -> tuple[list[Told], float]:
    """Submit while the control plane fails; what was told, and when (wall) it ended."""
    plane = site.plane
    witness = Witness(site.address, site.token, site.random, submit_seconds=2.0)
    told: list[Told] = []

    def submit() -> None:
        # Until it ends: how many of them share a sync is not known.
        told.extend(witness.run(ENDLESS_JOBS, wait_results=False))

    submitting = threading.Thread(target=submit)
    submitting.start()
    code = plane.wait()
    ended_at = time.time()
    witness.stop()
    submitting.join()
    assert code == STORAGE_ERROR, plane.log
    return told, ended_at


def _check_kept(site: FaultSite, told: list[Told]) -> None:
    """Everything accepted is known; the ledger of the site learns which jobs there were."""
    with site.client() as client:
        for each in told:
            known = client.get_task_result(each.task_id) is not None
            assert known or each.acked_at is None, f"lost: {each.key} was acknowledged"
    site.note_told(told)


def test_c16_slow_disk(sites: NewSite, rounds: Rounds) -> None:
    require("C16", "strace")
    seconds = rounds.of("C16 seconds on a slow disk", ci=3, full=60)
    with sites() as site:
        site.lease_seconds = SHORT_LEASE
        site.plane_prefix = injecting(SYNCS, f"delay_enter={SLOW_SYNC_MICROSECONDS}")
        site.start_all("one")
        with HealthWatch(site.port) as health:
            site.pause(seconds, seconds)
        site.plane_prefix = ()
        site.restart_plane()  # what waits would take long to end on that disk
        site.check_standing()
        assert not site.repeated(), "a lease ended because the disk was slow"
    REPORT.figures.append(f"C16 health while every sync takes 0.5 s, {spread(health.took)}")
    assert max(health.took) <= STALL_SECONDS * site.patience, spread(health.took)


def test_c13_disk_full(sites: NewSite, rounds: Rounds) -> None:
    require("C13", "root", "mounts")
    took: list[float] = []
    for _ in range(rounds.of("C13 full disks", ci=1, full=20)):
        with sites() as site:
            site.store.mkdir()
            size = f"size={SMALL_DISK_BYTES}"
            subprocess.run(("mount", "-t", "tmpfs", "-o", size, "tmpfs", site.store), check=True)
            try:
                took.append(_fill_and_free(site))
                site.close()
            finally:
                site.close()
                subprocess.run(("umount", site.store), check=True)
    REPORT.figures.append(f"C13 next job accepted after space returned, {spread(took)}")
    assert max(took) <= RESUME_SECONDS * site.patience, spread(took)


def _fill_and_free(site: FaultSite) -> float:
    """Fill the disk under load; the seconds from free space to the next accepted job."""
    site.start_all("one")
    with site.client() as client:
        running = site.probe(client, seconds=1.5)
        site.wait_start(running)
        filler = site.store / "filler"
        _fill(filler)
        with pytest.raises(StorageFull):
            # Larger than what the journal has room for without growing.
            for _ in range(SMALL_DISK_BYTES // MEGABYTE):
                site.probe(client, size=MEGABYTE // 2)
        site.pause(1.0, 2.0)  # the job that ran ends while nothing can be stored
        filler.unlink()
        freed = time.monotonic()
        wait_until(lambda: _accepts(site), seconds=WAIT_SECONDS, what="accepted job")
        took = time.monotonic() - freed
        running.handle.wait(timeout=WAIT_SECONDS)
    site.check_standing()
    return took


def _fill(filler: Path) -> None:
    block = bytes(MEGABYTE)
    with filler.open("wb", buffering=0) as file:
        for size in (MEGABYTE, 4096, 1):
            try:
                while True:
                    file.write(block[:size])
            except OSError:
                continue


def _accepts(site: FaultSite) -> bool:
    with site.client() as client:
        try:
            site.probe(client, size=10_000)
        except StorageFull:
            return False
    return True
