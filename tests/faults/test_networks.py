"""Connections that are cut, slow, silent, replayed, or come all at once."""

from __future__ import annotations

import ctypes
import os
import subprocess
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import pairwise
from typing import Final

import pytest

from tests.faults.machine import require
from tests.faults.report import REPORT, spread
from tests.faults.rounds import Rounds
from tests.faults.site import FaultSite, NewSite, wait_until
from tests.faults.wires import CutAtByte, CutAtFrame, MakeRule, Replay, Rule, Slow, WireProxy
from tests.support.cluster import is_ready
from tests.support.process import WAIT_SECONDS
from tests.survival.chaos import BEATS_PER_LEASE, SHORT_LEASE

RECONNECT_SECONDS: Final = 5.0
"""From a cut to the next try, with jitter."""
LAST_FRAME: Final = 200
EARLY_FRAMES: Final = 8
CUTS_OF_SITE: Final = 100
LATENCY_SECONDS: Final = 0.5
LINE_BYTES_PER_SECOND: Final = 64_000 / 8
CLONE_NEWNET: Final = 0x40000000


def test_c31_cut_at_every_frame(sites: NewSite, rounds: Rounds) -> None:
    last = LAST_FRAME if rounds.is_full else EARLY_FRAMES
    left = [(number, up) for number in range(1, last + 1) for up in (True, False)]
    for cuts in rounds.portions(
        "C31 cuts between frames", ci=4, full=2 * LAST_FRAME, each=CUTS_OF_SITE
    ):
        with sites() as site:
            if rounds.is_full:
                points = sorted(site.random.sample(left, cuts))
                left = sorted(set(left).difference(points))
            else:
                points = sorted(site.random.choices(left, k=cuts))
            _check_cut(site, partial(_cut_between_frames, points), cuts=cuts)


def _cut_between_frames(points: Sequence[tuple[int, bool]], number: int, up: bool) -> Rule:
    """For connection ``number``: cut after a frame, in the one direction that its point names."""
    if number >= len(points):
        return Rule()
    frame, upwards = points[number]
    return CutAtFrame(frame) if up is upwards else Rule()


def test_c32_cut_at_every_byte(sites: NewSite, rounds: Rounds) -> None:
    rounds.only_full("C32", instead="tests/survival/test_cuts.py")
    cuts = rounds.of("C32 cuts within frames", ci=3, full=300)
    with sites() as site:
        # Close together in the handshake and the first frames, then wider.
        points = sorted(int(site.random.triangular(1, 3_000, 1)) for _ in range(cuts))

        def rule(number: int, up: bool) -> Rule:
            if number >= len(points):
                return Rule()
            return CutAtByte(points[number]) if up is bool(number % 2) else Rule()

        _check_cut(site, rule, cuts=cuts)


def _check_cut(site: FaultSite, rule: MakeRule, *, cuts: int) -> None:
    """Load through a proxy with this rule until it has cut so often; the server stays up."""
    with WireProxy(site.port, rule) as proxy:
        site.dial_address = proxy.address
        site.start_plane()
        for name in ("one", "two"):
            site.start_worker(name, ready=False)
        site.start_application()
        wait_until(lambda: proxy.cuts >= cuts, seconds=60 + 10.0 * cuts, what=f"cut number {cuts}")
        assert is_ready(site.port)
        site.check_standing()
        assert not site.repeated(), "losing a connection is not losing a lease"
        gaps = _gaps(proxy)
    REPORT.figures.append(f"{cuts} cuts, next connection after {spread(gaps)}")


def _gaps(proxy: WireProxy) -> list[float]:
    """From every cut to the next connection of anybody."""
    gaps = []
    for at in proxy.cut_at:
        later = [accepted for accepted in proxy.accepted_at if accepted > at]
        if later:
            gaps.append(min(later) - at)
    return gaps


def test_c35_slow_line(site: FaultSite, rounds: Rounds) -> None:
    rounds.only_full("C35")
    seconds = rounds.of("C35 seconds on a slow line", ci=3, full=300)
    site.lease_seconds = SHORT_LEASE
    site.least_accepted = 2
    with WireProxy(
        site.port,
        lambda number, up: Slow(LATENCY_SECONDS, LINE_BYTES_PER_SECOND, site.random.random),
    ) as proxy:
        site.dial_address = proxy.address
        site.start_plane()
        site.start_worker("one")
        _submit_for(site, seconds)
    assert not site.repeated(), "a lease ended because the line was slow"
    site.check()


def _submit_for(site: FaultSite, seconds: float) -> None:
    """A small job every half second, some of them longer than a lease, then all results."""
    with site.client() as client:
        probes = []
        for number in range(int(seconds * 2)):
            probes.append(site.probe(client, seconds=site.lease_seconds * 1.5 * (number % 4 == 0)))
            site.pause(0.5, 0.5)
        for probe in probes:
            probe.handle.wait(timeout=WAIT_SECONDS)


def test_c36_frames_replayed_after_a_reconnection(sites: NewSite, rounds: Rounds) -> None:
    replays = rounds.of("C36 replays", ci=4, full=100)
    with sites() as site, WireProxy(site.port) as workers, WireProxy(site.port) as clients:
        for proxy in (workers, clients):
            proxy.make_rule = _replaying(proxy, site, replays // 2)
        site.start_plane()
        site.dial_address = workers.address
        for name in ("one", "two"):
            site.start_worker(name, ready=False)
        site.dial_address = clients.address
        site.start_application()
        for proxy in (workers, clients):
            wait_until(
                lambda: proxy.cuts >= replays // 2,  # noqa: B023
                seconds=WAIT_SECONDS + 10.0 * replays,
                what="last replay",
            )
        site.check_standing()
        assert not site.repeated(), "a frame that came twice did something twice"


def _replaying(proxy: WireProxy, site: FaultSite, replays: int) -> MakeRule:
    """Repeats what earlier connections said, until there were so many cuts."""
    said: deque[bytes] = deque(maxlen=5)

    def rule(number: int, up: bool) -> Rule:
        if not up or proxy.cuts >= replays:
            return Rule()
        return Replay(said, after=6, cut_after=site.random.randrange(10, 30))

    return rule


@pytest.fixture
def network() -> Iterator[Network]:
    """A network of the test's own, with a loopback that can lose packets."""
    network = Network()
    with network.entered():
        yield network


class Network:
    """A network namespace that this thread and the processes it starts live in."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Everything that begins in this block is in a network of its own."""
        if os.geteuid() != 0:
            yield  # the test asks the machine, and is skipped
            return
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        if self._libc.unshare(CLONE_NEWNET) != 0:
            os.close(before)
            yield
            return
        try:
            subprocess.run(("ip", "link", "set", "lo", "up"), check=False)
            yield
        finally:
            self._libc.setns(before, CLONE_NEWNET)
            os.close(before)

    def drop(self, *directions: str, port: int) -> None:
        """Lose every packet to (``dport``) or from (``sport``) a port from now on."""
        rules = "".join(
            f"add rule inet lossy arriving tcp {way} {port} drop\n" for way in directions
        )
        chain = "add chain inet lossy arriving { type filter hook input priority 0; }"
        _nft(f"add table inet lossy\n{chain}\n{rules}")

    def heal(self) -> None:
        """Lose nothing any more."""
        _nft("delete table inet lossy")


def _nft(commands: str) -> None:
    subprocess.run(("nft", "-f", "-"), input=commands.encode(), check=True)


def test_c33_half_open(network: Network, sites: NewSite, rounds: Rounds) -> None:
    require("C33", "root", "network namespaces")
    _check_silence(network, sites, rounds.of("C33 half-open", ci=1, full=20), "dport", "sport")


@pytest.mark.parametrize("direction", ["dport", "sport"], ids=["to the server", "from it"])
def test_c34_one_way_loss(network: Network, sites: NewSite, rounds: Rounds, direction: str) -> None:
    require("C34", "root", "network namespaces")
    rounds.only_full("C34", instead="C33")
    _check_silence(network, sites, rounds.of("C34 one-way loss", ci=1, full=10), direction)


def _check_silence(network: Network, sites: NewSite, losses: int, *directions: str) -> None:
    """One subworker is cut off without a word; it notices, and its jobs go to the other."""
    noticed: list[float] = []
    for _ in range(losses):
        with sites() as site:
            site.lease_seconds = SHORT_LEASE
            site.start_plane()
            with WireProxy(site.port) as proxy:
                site.start_worker("two")
                site.dial_address = proxy.address
                worker = site.start_worker("one")
                site.dial_address = site.address
                site.start_application()
                site.applications["app"].wait_line("started")
                site.pause(0.5, 1.0)
                site.expect_lapse("one")
                seen = len(worker.lines)
                network.drop(*directions, port=proxy.port)
                try:
                    begun = time.monotonic()
                    worker.wait_line("lost the connection", after=seen)
                    noticed.append(time.monotonic() - begun)
                    site.pause(SHORT_LEASE / BEATS_PER_LEASE, SHORT_LEASE)
                finally:
                    network.heal()
                site.drain()
                site.check()
    REPORT.figures.append(f"silent connection ({'+'.join(directions)}) noticed: {spread(noticed)}")
    assert max(noticed) <= (SHORT_LEASE + 0.5) * site.patience, spread(noticed)


@pytest.mark.quiet
def test_c12_reconnection_storm(site: FaultSite, rounds: Rounds) -> None:
    from tests.faults.crowd import Crowd

    restarts = rounds.of("C12 restarts under a crowd", ci=1, full=20)
    size = 40 if rounds.given == "ci" else 200
    site.least_accepted = 0
    site.start_plane()
    took: list[float] = []
    with Crowd(site.address, site.token, size, task="held") as crowd:
        crowd.wait_connected(size, seconds=WAIT_SECONDS)
        with site.client() as client:
            client.submit_many("held", [()] * size)
        wait_until(lambda: crowd.holding() == size, seconds=WAIT_SECONDS, what="job for everybody")
        for _ in range(restarts):
            before = crowd.registrations
            site.restart_plane()
            took.append(
                wait_until(
                    lambda: crowd.registrations >= before + size,  # noqa: B023
                    seconds=WAIT_SECONDS,
                    what=f"return of all {size}",
                )
            )
            assert not crowd.stale, f"leases were not kept: {crowd.stale}"
        assert crowd.assigned == size, "a job was handed out twice"
        spans = [
            later - earlier for earlier, later in pairwise(sorted(crowd.registered_at[-size:]))
        ]
    REPORT.figures.append(f"C12 all {size} subworkers back after a restart, {spread(took)}")
    assert max(took) <= 10.0 * site.patience, spread(took)
    assert len([span for span in spans if span > 0.001]) > size / 10, "all came at one moment"
