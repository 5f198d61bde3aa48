"""kill -9 of every kind of process, in every state; how soon everything is ready again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Final

import pytest

from fastworker import BlockingClient
from tests.faults.report import REPORT, percentile, spread
from tests.faults.rounds import Rounds
from tests.faults.site import FaultSite, NewSite, Probe, wait_until
from tests.support.process import WAIT_SECONDS
from tests.survival.chaos import SHORT_LEASE

KILLS_OF_SITE: Final = 40
READY_SECONDS: Final = 3.0
"""Of a control plane, from its start, p99."""
RUNNER_SECONDS: Final = 2.0
"""From the death of a runner to the next start of its job."""
AFTER_LEASE_SECONDS: Final = 2.0
"""From the end of a dead subworker's lease to the next start of its jobs."""
DRAIN_SECONDS: Final = 2.0
LONG_JOB_SECONDS: Final = 1.0


def test_c01_client_killed_while_it_submits(sites: NewSite, rounds: Rounds) -> None:
    rounds.only_full("C01", instead="tests/survival/test_kills.py")
    for kills in rounds.portions("kill -9 of clients", ci=6, full=200, each=KILLS_OF_SITE):
        with sites() as site:
            site.start_all("one", applications=3)
            for _ in range(kills):
                name = site.random.choice(list(site.applications))
                site.applications[name].wait_line("started")
                site.pause(0.0, 0.02)
                site.kill_application(name)
            site.check_standing()


def test_c02_client_killed_while_it_waits(sites: NewSite, rounds: Rounds) -> None:
    rounds.only_full("C02", instead="tests/survival/test_kills.py")
    for kills in rounds.portions("kill -9 of clients", ci=3, full=100, each=KILLS_OF_SITE):
        with sites() as site:
            site.start_all("one", applications=0)
            for number in range(kills):
                application = site.start_application(f"app{number}")
                application.wait_line("started")
                site.pause(0.05, 0.3)
                application.kill()
            # Nobody waits any more; another client reads what became of it.
            wait_until(lambda: _nothing_waits(site), seconds=WAIT_SECONDS, what="end of all jobs")
            site.check()


def test_c05_control_plane_killed_under_load(sites: NewSite, rounds: Rounds) -> None:
    rounds.only_full("C05", instead="tests/survival/test_kills.py")
    ready: list[float] = []
    for kills in rounds.portions("kill -9 of control planes", ci=3, full=400, each=KILLS_OF_SITE):
        with sites() as site:
            site.start_all("one", "two", "three", "four")
            for _ in range(kills):
                site.pause(0.2, 3.0)
                ready.append(site.restart_plane())
            site.check_standing()
            patience = site.patience
    REPORT.figures.append(f"C05 ready after kill -9, {spread(ready)}")
    assert percentile(ready, 0.99) <= READY_SECONDS * patience, spread(ready)


def test_c08_stopped_while_busy(sites: NewSite, rounds: Rounds) -> None:
    rounds.only_full("C08", instead="tests/survival/test_signals.py")
    for stops in rounds.portions("C08 stops by signal", ci=2, full=40, each=10):
        with sites() as site:
            site.start_plane()
            for name in ("one", "two"):
                site.start_worker(name, "--drain-seconds", str(DRAIN_SECONDS))
            site.start_application()
            site.applications["app"].wait_line("started")
            for _ in range(stops):
                _stop_one(site)
            site.check_standing()
            repeated = site.repeated()
            assert not repeated, f"stops are no deaths, and were told in time: {repeated}"


def _stop_one(site: FaultSite) -> None:
    """SIGTERM or SIGINT for the control plane or a subworker under load, and start it again."""
    site.pause(0.2, 1.0)
    name = site.random.choice(("plane", "one", "two"))
    member = site.plane if name == "plane" else site.workers[name]
    member.signal(site.random.choice((signal.SIGTERM, signal.SIGINT)))
    assert member.wait(seconds=(DRAIN_SECONDS + 1.0) * site.patience) == 0
    if name == "plane":
        site.start_plane()
    else:
        site.start_worker(name, "--drain-seconds", str(DRAIN_SECONDS))


@pytest.mark.quiet
def test_c23_runner_killed_in_every_state(sites: NewSite, rounds: Rounds) -> None:
    took: list[float] = []
    patience = 1.0
    for kills in rounds.portions("kill -9 of runners", ci=2, full=200, each=KILLS_OF_SITE):
        with sites() as site:
            site.least_accepted = 0
            site.start_all("one", applications=0)
            patience = site.patience
            with site.client() as client:
                for _ in range(kills):
                    took.append(_kill_runner_of_probe(site, client))
            site.check()
    REPORT.figures.append(f"C23 job of a dead runner started again, {spread(took)}")
    assert max(took) <= RUNNER_SECONDS * patience, spread(took)


def _kill_runner_of_probe(site: FaultSite, client: BlockingClient) -> float:
    """Kill the runner of a job in its body; the seconds until the body starts again."""
    probe = site.probe(client, site.random.choice(KINDS), seconds=LONG_JOB_SECONDS)
    first = site.wait_start(probe)
    site.pause(0.0, 0.2)
    killed = time.monotonic()
    site.deaths[first.pid] = killed
    os.kill(first.pid, signal.SIGKILL)
    second = site.wait_start(probe, 2)
    probe.handle.wait(timeout=WAIT_SECONDS)
    return second.at - killed


KINDS: Final = ("in_thread", "in_loop")


def test_c23_subworker_killed_in_every_state(sites: NewSite, rounds: Rounds) -> None:
    took: list[float] = []
    patience = 1.0
    for kills in rounds.portions("kill -9 of subworkers", ci=2, full=100, each=KILLS_OF_SITE):
        with sites() as site:
            site.lease_seconds = SHORT_LEASE
            site.least_accepted = 0
            site.start_all("one", applications=0)
            patience = site.patience
            with site.client() as client:
                for number in range(kills):
                    took += _kill_in_state(site, client, STATES[number % len(STATES)])
            site.check()
    if took:
        REPORT.figures.append(f"C23 job of a dead subworker started again, {spread(took)}")
        assert max(took) <= (SHORT_LEASE + AFTER_LEASE_SECONDS) * patience, spread(took)


def _kill_in_state(
    site: FaultSite, client: BlockingClient, state: Callable[[FaultSite, BlockingClient], Probe]
) -> list[float]:
    """Kill the subworker in a state, have another do the job; the seconds until it starts again."""
    name = next(name for name, worker in site.workers.items() if worker.running)
    probe = state(site, client)
    killed = time.monotonic()
    site.kill_tree(name)
    if site.plane_frozen:
        site.plane.signal(signal.SIGCONT)
        site.plane_frozen = False
    site.start_worker(f"again-{len(site.workers)}", ready=False)
    before = len(site.starts_of(probe))
    probe.handle.wait(timeout=WAIT_SECONDS)
    starts = site.starts_of(probe)
    assert len(starts) <= 2, starts
    return [start.at - killed for start in starts[max(1, before) :]]


def _idle(site: FaultSite, client: BlockingClient) -> Probe:
    probe = site.probe(client)
    probe.handle.wait(timeout=WAIT_SECONDS)
    return probe


def _received(site: FaultSite, client: BlockingClient) -> Probe:
    probe = site.probe(client, seconds=LONG_JOB_SECONDS)
    site.pause(0.0, 0.003)
    return probe


def _running(site: FaultSite, client: BlockingClient) -> Probe:
    probe = site.probe(client, seconds=LONG_JOB_SECONDS)
    site.wait_start(probe)
    return probe


def _computed(site: FaultSite, client: BlockingClient) -> Probe:
    probe = site.probe(client)
    wait_until(
        lambda: bool(site.effects().ends.get(probe.key)),
        seconds=WAIT_SECONDS,
        what=f"end of {probe.key}",
    )
    return probe


def _unacknowledged(site: FaultSite, client: BlockingClient) -> Probe:
    """The outcome is sent, and the control plane stands still."""
    probe = site.probe(client, seconds=0.3)
    site.wait_start(probe)
    site.plane.signal(signal.SIGSTOP)
    site.plane_frozen = True
    wait_until(
        lambda: bool(site.effects().ends.get(probe.key)),
        seconds=WAIT_SECONDS,
        what=f"end of {probe.key}",
    )
    site.pause(0.0, 0.1)
    return probe


STATES: Final = (_running, _unacknowledged, _computed, _received, _idle)


def test_c24_worker_tree_killed_under_load(sites: NewSite, rounds: Rounds) -> None:
    rounds.only_full("C24", instead="tests/survival/test_kills.py")
    for kills in rounds.portions("kill -9 of worker trees", ci=2, full=100, each=20):
        with sites() as site:
            site.lease_seconds = SHORT_LEASE
            site.start_all("one", "two")
            for _ in range(kills):
                site.pause(0.2, 2.0)
                name = site.random.choice(("one", "two"))
                site.kill_tree(name)
                site.start_worker(name)
            site.check_standing()


def _nothing_waits(site: FaultSite) -> bool:
    with site.client() as client:
        counts = client.status()["jobs"]
    return not any(counts.get(status) for status in ("waiting", "scheduled", "queued", "running"))
