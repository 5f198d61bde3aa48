"""Wall clocks that jump or are wrong: leases follow another clock, and nothing is lost."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Final

from fastworker import TaskStatus
from tests.faults.machine import require
from tests.faults.preloads import FalseClock
from tests.faults.report import REPORT
from tests.faults.rounds import Rounds
from tests.faults.site import FaultSite, NewSite
from tests.support.process import WAIT_SECONDS
from tests.survival.chaos import LONG_LEASE

HOUR: Final = 3_600
DAY: Final = 24 * HOUR
JUMPS: Final = (HOUR, -HOUR, DAY, -DAY, "1970-01-02", "2035-01-01")
KEEP_SECONDS: Final = "900"
"""More than this takes, and less than every jump: nothing is older because a clock has jumped."""
JOB_SECONDS: Final = 3.0
DEADLINE_SECONDS: Final = 600.0


def offset(jump: int | str) -> float:
    """Seconds from now to a moment, or given as such."""
    if isinstance(jump, int):
        return jump
    return datetime.fromisoformat(jump).replace(tzinfo=UTC).timestamp() - time.time()


def test_c39_wall_clock_jumps(sites: NewSite, rounds: Rounds) -> None:
    require("C39", "preloads")
    jumps = rounds.of("C39 jumps of the clock", ci=1, full=30)
    with sites() as site:
        assert site.lease_seconds == LONG_LEASE
        clock = FalseClock(site.folder / "clock")
        site.extra["control-plane"] = clock.variables()
        plane = site.launch_plane("--keep-results-seconds", KEEP_SECONDS)
        site.wait_ready(plane)
        site.start_worker("one")
        site.start_application()
        site.applications["app"].wait_line("started")
        with site.client() as client:
            for _ in range(jumps):
                running = site.probe(client, seconds=JOB_SECONDS)
                site.wait_start(running)
                clock.move(offset(site.random.choice(JUMPS)))
                site.pause(1.0, 2.0)
                assert running.handle.wait(timeout=WAIT_SECONDS).status is TaskStatus.SUCCESS
        clock.move(0)
        site.check_standing()
        assert not site.repeated(), "a lease ended because the time of day changed"
    REPORT.figures.append(f"C39: the clock jumped {jumps} times, no lease ended")


def test_c40_subworker_with_a_wrong_clock(site: FaultSite, rounds: Rounds) -> None:
    require("C40", "preloads")
    site.start_plane()
    for name, skew in (("behind", -HOUR), ("ahead", HOUR)):
        clock = FalseClock(site.folder / f"clock-{name}", seconds=skew)
        site.extra[name] = clock.variables()
        site.start_worker(name)
        count = rounds.of("C40 jobs by a wrong clock", ci=3, full=50)
        with site.client() as client:
            # The deadline is far away, though not by the clock of one of them.
            bound = client.options(expires=DEADLINE_SECONDS)
            handles = [bound.submit("in_thread", f"{name}-{n}", 0.0, b"") for n in range(count)]
            late = client.options(expires=0.0).submit("in_thread", f"{name}-late", 0.0, b"")
            for handle in handles:
                assert handle.wait(timeout=WAIT_SECONDS).status is TaskStatus.SUCCESS
            assert late.wait(timeout=WAIT_SECONDS).status is TaskStatus.EXPIRED
        site.kill_tree(name)
    assert not site.repeated()
    assert not [key for key in site.effects().starts if key.endswith("-late")]
