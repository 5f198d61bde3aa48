"""Processes that stand still and come back: control planes, subworkers, a whole busy machine."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

from tests.faults.report import REPORT, spread
from tests.faults.rounds import Rounds
from tests.faults.site import FaultSite, HealthWatch, NewSite
from tests.survival.chaos import SHORT_LEASE

LONG_PAUSE_SECONDS: Final = 60.0
BUSY_PROCESSES_PER_CORE: Final = 4
BUSY: Final = "while True: sum(range(100_000))"
BUSY_DISK: Final = (
    "import os, sys\n"
    "file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)\n"
    "while True: os.pwrite(file, bytes(1_000_000), 0); os.fsync(file)"
)


def test_c09_control_plane_stands_still(sites: NewSite, rounds: Rounds) -> None:
    for pauses in rounds.portions("C09 pauses of 3 leases", ci=1, full=50, each=10):
        with sites() as site:
            site.lease_seconds = SHORT_LEASE if rounds.is_full else SHORT_LEASE / 2
            site.start_all("one", "two")
            for _ in range(pauses):
                _pause_with_running_jobs(site, 3 * site.lease_seconds)
            site.check_standing()
            assert not site.repeated(), "a pause of the control plane itself ended a lease"


def test_c09_control_plane_stands_still_for_a_minute(site: FaultSite, rounds: Rounds) -> None:
    rounds.only_full("C09 a minute", instead="three leases")
    site.lease_seconds = SHORT_LEASE
    site.start_all("one", "two")
    _pause_with_running_jobs(site, LONG_PAUSE_SECONDS)
    site.check_standing()
    assert not site.repeated(), "a pause of the control plane itself ended a lease"
    REPORT.figures.append(f"C09: stood still for {LONG_PAUSE_SECONDS:.0f} s, nothing expired")


def _pause_with_running_jobs(site: FaultSite, seconds: float) -> None:
    """Freeze the control plane while jobs run that outlast the pause, and let it see them end."""
    with site.client() as client:
        running = [site.probe(client, kind, seconds=seconds + 1.0) for kind in ("in_thread",) * 3]
        for probe in running:
            site.wait_start(probe)
    site.freeze(site.plane, seconds)
    site.wait_ready(site.plane)
    site.pause(1.0, 2.0)


def test_c25_subworker_back_from_the_dead(sites: NewSite, rounds: Rounds) -> None:
    rounds.only_full("C25", instead="tests/survival/test_kills.py")
    for freezes in rounds.portions("C25 zombies", ci=1, full=60, each=10):
        with sites() as site:
            site.lease_seconds = SHORT_LEASE
            site.start_all("one", "two")
            for _ in range(freezes):
                site.pause(0.1, 0.6)
                site.freeze_worker(site.random.choice(("one", "two")))
            site.check_standing()


def test_c55_busy_machine(site: FaultSite, rounds: Rounds) -> None:
    rounds.only_full("C55")
    seconds = rounds.of("C55 seconds on a busy machine", ci=5, full=300)
    site.lease_seconds = SHORT_LEASE
    site.start_all("one", "two")
    programs: list[tuple[str, ...]] = [("-c", BUSY)] * (BUSY_PROCESSES_PER_CORE * 2)
    programs.append(("-c", BUSY_DISK, str(site.folder / "busy")))
    busy = [subprocess.Popen((sys.executable, *program)) for program in programs]
    try:
        with HealthWatch(site.port) as health:
            site.pause(seconds, seconds)
    finally:
        for process in busy:
            process.kill()
            process.wait()
    site.check_standing()
    assert not site.repeated(), "a lease ended though its subworker was alive"
    REPORT.figures.append(f"C55 health on a busy machine, {spread(health.took)}")
