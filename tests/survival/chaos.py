"""A cluster under load whose processes are killed at random moments and started again."""

from __future__ import annotations

import asyncio
import math
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from fastworker import BlockingClient, Client, TaskResult
from tests.support.cluster import ROOT, Cluster
from tests.support.process import WAIT_SECONDS, Member
from tests.survival.ledger import Effects, Promise, Start, faults_found, read_client_ledger

HERE = Path(__file__).parent
MODULE = "survival_workload"

LONG_LEASE = 15.0
"""Longer than any outage in these tests: a lease that expires is an error."""
SHORT_LEASE = 3.0
BEATS_PER_LEASE = 3
READS_AT_ONCE = 500
"""Results asked for at a time: each has to be answered within ten seconds."""

SLOTS = ("--concurrency", "12", "--threads", "6")
"""Few, so that jobs wait at every place on their way."""


class Site(Cluster):
    """A cluster, its applications, and what was done to them.

    Args:
        folder: of everything.
        seed: of all random choices.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        super().__init__(folder, tasks=(HERE / "workload.py").read_text(), module=MODULE)
        self.random = random.Random(seed)
        self.lease_seconds = LONG_LEASE
        self.planes: list[Member] = []
        self.plane_starts: list[float] = []
        self.workers: dict[str, Member] = {}
        self.applications: dict[str, Member] = {}
        self.deaths: dict[int, float] = {}
        """When (monotonic) a process was killed that may have run task code, by its id."""
        self.expiries: dict[int, list[tuple[float, float]]] = {}
        """By runner, each time that its subworker is held up: the earliest moment at which the
        lease on its jobs may end, and until when it may start some that it has no more."""
        self.dial_address = self.address
        self.least_accepted = 10
        """A run with fewer accepted jobs proves nothing."""

    # --- starting --------------------------------------------------------------------------

    def start_plane(self) -> Member:
        """Start the control plane, the first time or again, and wait until it is ready."""
        self.plane_starts.append(time.monotonic())
        plane = self._script(
            "control-plane",
            "control_plane.py",
            *("--base-address", self.address),
            *("--store", str(self.folder / "store")),
            *("--token-file", str(self.token_file)),
            *("--lease-seconds", str(self.lease_seconds)),
        )
        self.planes.append(plane)
        self.wait_ready(plane)
        return plane

    def start_worker(self, name: str, *flags: str, ready: bool = True) -> Member:
        """Start a subworker; each of its lives has the same label."""
        worker = self.start(
            name,
            "run",
            "subworker",
            *("--worker-id", name),
            *("--control-plane-address", self.dial_address),
            *("--token-file", str(self.token_file)),
            *("--task-modules", self.module),
            *SLOTS,
            *flags,
        )
        self.workers[name] = worker
        if ready:
            worker.wait_line(r"\bconnected to\b")
        return worker

    def start_application(self, name: str = "app") -> Member:
        """Start an application, the first time or again on its ledger."""
        application = self._script(
            name,
            "application.py",
            *("--address", self.dial_address),
            *("--token-file", str(self.token_file)),
            *("--ledger", str(self.folder / f"{name}.ledger")),
            *("--seed", str(self.random.randrange(2**32))),
        )
        self.applications[name] = application
        return application

    def _script(self, name: str, script: str, *arguments: str) -> Member:
        command = (sys.executable, str(HERE / script), *arguments)
        environment = {**self.environment(), "PYTHONPATH": str(ROOT)}
        member = Member(name, command, environment=environment, folder=self.folder)
        self.members.append(member)
        return member

    def start_all(self, *workers: str, applications: int = 1) -> None:
        """Control plane, these subworkers, and applications that have had a first job accepted."""
        self.start_plane()
        for name in workers:
            self.start_worker(name, ready=False)
        for number in range(applications):
            self.start_application(f"app{number}")
        for name in workers:
            self.workers[name].wait_line(r"\bconnected to\b")
        for application in self.applications.values():
            application.wait_line("started")

    # --- faults ----------------------------------------------------------------------------

    def pause(self, least: float, most: float) -> None:
        """Let it run for a random time."""
        threading.Event().wait(self.random.uniform(least, most))

    def kill_plane(self) -> None:
        """kill -9, then start it again, at once or after a moment."""
        self.planes[-1].kill()
        if self.random.random() < 0.5:
            self.pause(0, 0.5)
        self.start_plane()

    def kill_worker(self, name: str) -> None:
        """kill -9 of a subworker alone, whose runners must end by themselves; start it again."""
        worker = self.workers[name]
        runners = worker.children()
        worker.kill()
        for runner in runners:
            self.deaths[runner] = time.monotonic()
            _wait_gone(runner)
        self.start_worker(name, ready=False)

    def kill_runner(self, name: str) -> None:
        """kill -9 of one runner of a subworker, if it has one just now."""
        runners = self.workers[name].children()
        if runners:
            victim = self.random.choice(runners)
            self.deaths[victim] = time.monotonic()
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)

    def freeze_worker(self, name: str) -> None:
        """SIGSTOP of a subworker alone for longer than its lease; its runners go on meanwhile."""
        worker = self.workers[name]
        runners = worker.children()
        lapse = time.monotonic() + self.lease_seconds * (1 - 1 / BEATS_PER_LEASE)
        worker.signal(signal.SIGSTOP)
        try:
            self.pause(1.2 * self.lease_seconds, 1.5 * self.lease_seconds)
        finally:
            worker.signal(signal.SIGCONT)
        self.expect_expiry(runners, lapse, until=time.monotonic() + self.lease_seconds)

    def expect_expiry(
        self, runners: Sequence[int], lapse: float, *, until: float = math.inf
    ) -> None:
        """Leases on the jobs of these runners may end from ``lapse`` on; see ``expiries``."""
        for runner in runners:
            self.expiries.setdefault(runner, []).append((lapse, until))

    def kill_application(self, name: str) -> None:
        """kill -9, and start it again on its ledger."""
        self.applications[name].kill()
        self.start_application(name)

    # --- the end ---------------------------------------------------------------------------

    def drain(self) -> None:
        """Tell the applications to stop submitting, and wait until they have all results."""
        for application in self.applications.values():
            application.wait_line("started")
            application.signal(signal.SIGTERM)
        for application in self.applications.values():
            try:
                code = application.wait(seconds=WAIT_SECONDS)
            except AssertionError:
                self.check()  # names what is stuck
                raise
            assert code == 0, application.log

    def check(self) -> dict[str, Promise]:
        """Everything the guarantees say of this run; returns the promises by key.

        Raises:
            AssertionError: naming every fault.
        """
        promises: dict[str, Promise] = {}
        for ledger in self.ledgers():
            promises.update(read_client_ledger(ledger))
        effects = self.effects()
        results = asyncio.run(self._read_results(promises))
        found = faults_found(promises, effects, results, excuse=self._excuse)
        accepted = sum(promise.is_accepted for promise in promises.values())
        repeated = sum(len(starts) - 1 for starts in effects.starts.values())
        print(f"{len(promises)} intended, {accepted} accepted, {repeated} started again")
        assert not found, "\n".join([f"{len(found)} faults:", *found[:20]])
        assert accepted > self.least_accepted, "hardly anything was submitted"
        return promises

    def ledgers(self) -> list[Path]:
        """The client ledgers of this run."""
        return [self.folder / f"{name}.ledger" for name in self.applications]

    def effects(self) -> Effects:
        """The effect ledger as it is now."""
        return Effects.read(self.folder / "effects.ledger")

    def client(self) -> BlockingClient:
        """A client of this test, past any proxy."""
        return BlockingClient(control_plane_address=self.address, token=self.token)

    async def _read_results(self, promises: dict[str, Promise]) -> dict[str, TaskResult | None]:
        """What a client reads that has submitted nothing."""
        async with Client(control_plane_address=self.address, token=self.token) as client:
            ids = [promise.job_id for promise in promises.values()]
            results: list[TaskResult | None] = []
            for at in range(0, len(ids), READS_AT_ONCE):
                some = ids[at : at + READS_AT_ONCE]
                results += await asyncio.gather(*map(client.get_task_result, some))
            return dict(zip(promises, results, strict=True))

    def _excuse(self, first: Start, second: Start) -> bool:
        """G2: the executor of the first is dead, or its lease may have expired.

        No lease expires within its length of a start of the control plane; while control plane
        and subworker live and are connected none expires at all.
        """
        if (death := self.deaths.get(first.pid)) is not None and death <= second.at:
            return True
        for lapse, until in self.expiries.get(first.pid, ()):
            if lapse <= second.at and first.at <= until:
                return True
        restarts = [at for at in self.plane_starts[1:] if at + self.lease_seconds <= second.at]
        return any(first.at < at + self.lease_seconds for at in restarts)


def _wait_gone(pid: int) -> None:
    """Wait for the end of a process that is not our child."""
    with suppress(ProcessLookupError):
        descriptor = os.pidfd_open(pid)
        try:
            _wait_readable(descriptor)
        finally:
            os.close(descriptor)


def _wait_readable(descriptor: int) -> None:
    import select

    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    assert poll.poll(WAIT_SECONDS * 1000), "a runner outlives its subworker"
