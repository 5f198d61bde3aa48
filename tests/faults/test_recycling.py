"""Runners that leak are replaced under load, and nobody notices."""

from __future__ import annotations

from typing import Final

from tests.faults.report import REPORT
from tests.faults.rounds import Rounds
from tests.faults.site import FaultSite, wait_until
from tests.faults.test_loads import resident_bytes
from tests.support.process import WAIT_SECONDS

MEGABYTE: Final = 1024 * 1024
CEILING: Final = 160 * MEGABYTE
BEYOND: Final = 80 * MEGABYTE
"""What a second of leaking may add between two looks, and the bare runner's own growth."""

BACK_TO_ONE_SECONDS: Final = 5.0


def _replaced(site: FaultSite) -> int:
    return site.workers["one"].log.count("is being replaced")


def test_c28_runners_are_recycled_after_so_many_jobs(site: FaultSite, rounds: Rounds) -> None:
    wanted = rounds.of("C28 runners recycled by jobs", ci=4, full=200)
    site.start_plane()
    worker = site.start_worker("one", "--max-jobs-per-runner", "50", "--processes", "2")
    site.start_application()
    seconds = WAIT_SECONDS * (1 + wanted / 10)
    wait_until(lambda: _replaced(site) >= wanted, seconds=seconds, what=f"{wanted} replacements")
    site.check_standing()
    assert not site.repeated(), "a job was started twice"
    wait_until(
        lambda: len(worker.children()) == 2,
        seconds=BACK_TO_ONE_SECONDS * site.patience,
        what="return to two runners",
    )


def test_c28_a_leak_is_bounded(site: FaultSite, rounds: Rounds) -> None:
    wanted = rounds.of("C28 runners recycled by memory", ci=2, full=50)
    site.start_plane()
    worker = site.start_worker("one", "--max-runner-memory", f"{CEILING // MEGABYTE}MiB")
    site.start_application()
    largest = 0
    with site.client() as client:
        while _replaced(site) < wanted:
            site.probe(client, "leaks", seconds=0.1).handle.wait(timeout=WAIT_SECONDS)
            sizes = [_size(pid) for pid in worker.children()]
            largest = max([largest, *sizes])
    REPORT.figures.append(
        f"C28 a ceiling of {CEILING // MEGABYTE} MiB: the largest runner had "
        f"{largest / MEGABYTE:.0f} MiB"
    )
    site.check_standing()
    assert not site.repeated(), "a job was started twice"
    assert largest < CEILING + BEYOND * site.patience


def _size(pid: int) -> int:
    try:
        return resident_bytes(pid, "VmRSS")
    except (OSError, AssertionError):  # it has just left
        return 0
