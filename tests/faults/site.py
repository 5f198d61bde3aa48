"""A cluster under load as in ``tests/survival``, whose control plane can run under an injection.

An injection is a command in front of the control plane's own (strace, ip netns exec) or a variable
in its environment (a preloaded clock).
"""

from __future__ import annotations

import http.client
import itertools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import NamedTuple

from fastworker import BlockingClient
from fastworker.client.blocking import BlockingHandle
from fastworker.core.ids import id_text, new_id
from fastworker.errors import FastWorkerError, Indeterminate
from tests.faults.witness import Told
from tests.support.cluster import ROOT
from tests.support.process import WAIT_SECONDS, Member
from tests.survival import chaos
from tests.survival.chaos import BEATS_PER_LEASE, LONG_LEASE, Site
from tests.survival.ledger import Start

SCRIPTS = Path(chaos.__file__).parent
HEALTH_SECONDS = 10.0
"""An answer of ``/healthz`` that takes longer is none."""


class Probe(NamedTuple):
    """A job of the test itself."""

    key: str
    handle: BlockingHandle[object]


class FaultSite(Site):
    """A `Site` with injections.

    Args:
        folder: of everything.
        seed: of all random choices.
        patience: factor on every promised time; above 1 where others use the machine, too.
    """

    def __init__(self, folder: Path, seed: int, *, patience: float = 1.0) -> None:
        super().__init__(folder, seed)
        self.patience = patience
        self.plane_prefix: tuple[str, ...] = ()
        self.prefixes: dict[str, tuple[str, ...]] = {}
        """Commands in front of other members, by their names."""
        self.extra: dict[str, dict[str, str]] = {}
        """Variables of single members, by their names."""
        self._extra_of_next: dict[str, str] = {}
        self.store = folder / "store"
        self.probe_ledger = folder / "probe.ledger"
        self._probes = itertools.count()
        self.plane_frozen = False

    @property
    def plane(self) -> Member:
        """The control plane that was started last."""
        return self.planes[-1]

    def launch_plane(self, *flags: str) -> Member:
        """Start the control plane and do not wait: it may never become ready.

        It is the command that users run, unless its leases are to be shorter than usual.
        """
        self.plane_starts.append(time.monotonic())
        told = (
            *("--base-address", self.address),
            *("--store", str(self.store)),
            *("--token-file", str(self.token_file)),
        )
        if self.lease_seconds == LONG_LEASE:
            beside = ("--discovery-address", self.discovery_address, "--local-worker", "never")
            program: tuple[str, ...] = ("-m", "fastworker", "run", "control-plane", *beside)
        else:
            program = (str(SCRIPTS / "control_plane.py"), "--lease-seconds")
            program = (*program, str(self.lease_seconds))
        plane = self._member("control-plane", *program, *told, *flags)
        self.planes.append(plane)
        return plane

    def start_worker(self, name: str, *flags: str, ready: bool = True) -> Member:
        self._extra_of_next = self.extra.get(name, {})
        try:
            return super().start_worker(name, *flags, ready=ready)
        finally:
            self._extra_of_next = {}

    def environment(self) -> dict[str, str]:
        return {**super().environment(), **self._extra_of_next}

    def start_plane(self) -> Member:
        """Start the control plane, and wait until it is ready."""
        plane = self.launch_plane()
        self.wait_ready(plane)
        return plane

    def restart_plane(self) -> float:
        """kill -9, start again; the seconds from the start until it is ready."""
        self.plane.kill()
        self.start_plane()
        return time.monotonic() - self.plane_starts[-1]

    def _script(self, name: str, script: str, *arguments: str) -> Member:
        return self._member(name, str(SCRIPTS / script), *arguments)

    def _member(self, name: str, *program: str) -> Member:
        prefix = self.plane_prefix if name == "control-plane" else self.prefixes.get(name, ())
        environment = {**self.environment(), "PYTHONPATH": str(ROOT), **self.extra.get(name, {})}
        command = (*prefix, sys.executable, *program)
        member = Member(name, command, environment=environment, folder=self.folder)
        self.members.append(member)
        return member

    # --- jobs of the test itself -----------------------------------------------------------

    def probe(
        self,
        client: BlockingClient,
        kind: str = "in_thread",
        *,
        seconds: float = 0.0,
        size: int = 0,
    ) -> Probe:
        """Have one job accepted, and note it in a client ledger of its own."""
        key = f"probe-{next(self._probes)}"
        task_id = id_text(new_id(wall=time.time(), random=os.urandom(10)))
        with self.probe_ledger.open("a") as ledger:
            ledger.write(f"intent {key} {task_id} {kind}\n")
            ledger.flush()
            try:
                handle = client.options(task_id=task_id).submit(kind, key, seconds, bytes(size))
            except FastWorkerError as error:
                ledger.write(f"{_step(error.code)} {key} {error.code}\n")
                raise
            ledger.write(f"acked {key}\n")
        return Probe(key, handle)

    def note_told(self, told: Sequence[Told]) -> None:
        """Note the jobs of a witness in the client ledger of this test."""
        with self.probe_ledger.open("a") as ledger:
            for each in told:
                step = "acked" if each.acked_at is not None else _step(each.refused or "")
                ledger.write(f"intent {each.key} {each.task_id} in_loop\n{step} {each.key}\n")

    def ledgers(self) -> list[Path]:
        own = [self.probe_ledger] if self.probe_ledger.exists() else []
        return [*super().ledgers(), *own]

    def starts_of(self, probe: Probe) -> list[Start]:
        """Every start of a probe so far."""
        return self.effects().starts.get(probe.key, [])

    def wait_start(self, probe: Probe, number: int = 1, *, seconds: float = WAIT_SECONDS) -> Start:
        """Wait until the body of a probe has started so many times."""
        what = f"start {number} of {probe.key}"
        wait_until(lambda: len(self.starts_of(probe)) >= number, seconds=seconds, what=what)
        return self.starts_of(probe)[number - 1]

    # --- faults ----------------------------------------------------------------------------

    def kill_tree(self, name: str) -> None:
        """kill -9 of a subworker and its runners at once; it is not started again."""
        worker = self.workers[name]
        for pid in [worker.pid, *(runners := worker.children())]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.deaths.update(dict.fromkeys(runners, time.monotonic()))
        worker.wait()

    def expect_lapse(self, name: str) -> None:
        """From now on the lease of this subworker may end: it is about to be cut off."""
        lapse = time.monotonic() + self.lease_seconds * (1 - 1 / BEATS_PER_LEASE)
        self.expect_expiry(self.workers[name].children(), lapse)

    def freeze(self, member: Member, seconds: float) -> None:
        """SIGSTOP, wait, SIGCONT."""
        member.signal(signal.SIGSTOP)
        try:
            threading.Event().wait(seconds)
        finally:
            member.signal(signal.SIGCONT)

    def check_standing(self) -> None:
        """Tell everybody to finish, then hold the whole run against the guarantees."""
        self.drain()
        self.check()

    def repeated(self) -> dict[str, int]:
        """Keys that were started more than once, and how often."""
        starts = self.effects().starts
        return {key: len(each) for key, each in starts.items() if len(each) > 1}


def _step(code: str) -> str:
    """The word of the client ledger for a submission that ended with an error."""
    return "indeterminate" if code == Indeterminate.code else "rejected"


NewSite = Callable[[], AbstractContextManager[FaultSite]]


def wait_until(condition: Callable[[], bool], *, seconds: float, what: str) -> float:
    """Wait for what no event tells us, such as a line in a ledger; how long it took.

    Raises:
        AssertionError: it did not happen within ``seconds``.
    """
    begun = time.monotonic()
    clock = threading.Event()
    while not condition():
        assert time.monotonic() - begun < seconds, f"no {what} within {seconds:.1f} s"
        clock.wait(0.01)
    return time.monotonic() - begun


class HealthWatch:
    """Asks for ``/healthz`` again and again; the longest answer is the longest stall of the loop.

    Args:
        port: of the control plane.
    """

    PAUSE_SECONDS = 0.01

    def __init__(self, port: int) -> None:
        self._port = port
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask_forever, daemon=True)
        self.took: list[float] = []
        """Seconds of every answer."""

    def __enter__(self) -> HealthWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(HEALTH_SECONDS)

    def _ask_forever(self) -> None:
        while not self._stop.wait(self.PAUSE_SECONDS):
            begun = time.monotonic()
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=HEALTH_SECONDS)
            with suppress(OSError, http.client.HTTPException):
                connection.request("GET", "/healthz")
                connection.getresponse().read()
                self.took.append(time.monotonic() - begun)
            connection.close()
