"""A control plane and a subworker as real processes, a client that must notice nothing, and rows.

A row is one kind of bad input. Around each, the header of the fault matrix is checked: the control
plane lives, a canary is served about as fast as before, jobs in flight are not lost, the log has
one line about the peer that shows nothing of what was sent, the counter has counted, and nothing
is stored. Every row comes from an address of its own, so that its line can be told from others.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import trio

from fastworker import BlockingClient
from fastworker.wire.addresses import Address, parse_address
from tests.support.cluster import Cluster
from tests.support.process import Member

CANARY_PAUSE_SECONDS = 0.01
CANARY_FLOOR_SECONDS = 1.0
"""Below this a round trip says more of the machine that is shared with other tests than of us."""
CANARY_RATIO = 2.0
QUIET_ROUNDS = 40
SETTLE_SECONDS = 10.0
MARK = "do-not-show-this-payload"
"""In what rows send; may be in no line of any log."""
HOSTILE_TASK = "hostile.task"
"""What rows submit; nothing of this name may be stored."""

TASKS = """
import time
from pathlib import Path
from fastworker import task

@task
def add(x: int, y: int) -> int:
    return x + y

@task
def echo(*args: object, **kwargs: object) -> object:
    return [args, kwargs]

@task
def hold(path: str) -> str:
    while not Path(path).exists():
        time.sleep(0.02)
    return path

@task(retries=3)
def unserialisable() -> object:
    return lambda: 1

class Hostile(Exception):
    def __init__(self) -> None:
        super().__init__(lambda: 1, "m" * 10_000_000)
    def __str__(self) -> str:
        raise RuntimeError("no str")

Hostile.__name__ = "os.system"
Hostile.__module__ = "\\x1b[31m../../etc"

@task
def hostile() -> None:
    raise Hostile
"""


class Canary:
    """Submits one job after another and waits for each result; remembers how long that took."""

    def __init__(self, client: BlockingClient) -> None:
        self._client = client
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="canary", daemon=True)
        self.seconds: list[float] = []
        self.problem: BaseException | None = None

    def _run(self) -> None:
        for number in count():
            if self._stopping.wait(CANARY_PAUSE_SECONDS):
                return
            began = time.perf_counter()
            try:
                result = self._client.submit("add", number, 1).wait(timeout=20)
                assert result.result == number + 1, result
            except BaseException as error:
                self.problem = error
                return
            self.seconds.append(time.perf_counter() - began)

    def rounds(self, number: int) -> list[float]:
        """The next so many round trips, from now on."""
        start = len(self.seconds)
        deadline = time.monotonic() + 60
        while len(self.seconds) < start + number and time.monotonic() < deadline:
            assert self.problem is None, self.problem
            time.sleep(CANARY_PAUSE_SECONDS)
        return self.seconds[start:]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopping.set()
        self._thread.join(30)


def p99(seconds: list[float]) -> float:
    """The slowest but one in a hundred."""
    ordered = sorted(seconds)
    return ordered[max(0, math.ceil(len(ordered) * 0.99) - 1)]


class Live:
    """The processes, and what is known of them."""

    def __init__(self, cluster: Cluster, client: BlockingClient, canary: Canary) -> None:
        self.cluster = cluster
        self.client = client
        self.canary = canary
        self.plane: Member = cluster.members[0]
        self.address: Address = parse_address(cluster.address)
        self.token = cluster.token
        self.folder: Path = cluster.folder
        self.held: list[bytes] = []
        """Jobs that a hostile subworker had when it was closed."""
        self._addresses = count(2)
        self.quiet_p99 = p99(canary.rounds(QUIET_ROUNDS))

    def ended_badly(self) -> int:
        """The counter of connections that ended badly."""
        found: Any = self.client.status()["connections"]["ended_badly"]
        assert isinstance(found, int)
        return found

    @contextmanager
    def row(self, ending: int = 1, *, says: str = "") -> Iterator[str]:
        """A row, from the source address that is given, with everything around it checked.

        Args:
            ending: connections that end badly.
            says: pattern of the reason in the log's line.
        """
        source = f"127.0.7.{next(self._addresses)}"
        before, seen = self.ended_badly(), len(self.plane.lines)
        started = len(self.canary.seconds)
        yield source
        self._wait_counted(before + ending)
        during = self.canary.seconds[started:] + self.canary.rounds(3)
        bound = max(CANARY_FLOOR_SECONDS, CANARY_RATIO * self.quiet_p99)
        assert p99(during) <= bound, f"the canary waited {p99(during):.3f} s; quiet {bound:.3f}"
        if ending:
            self._check_line(source, seen, says)
        lines = "\n".join(self.plane.lines[seen:])
        assert MARK not in lines and self.token not in lines and "Traceback" not in lines, lines
        assert "report it" not in lines, lines
        assert self.client.jobs(task=HOSTILE_TASK) == []
        assert self.plane.running

    def _wait_counted(self, wanted: int) -> None:
        deadline = time.monotonic() + SETTLE_SECONDS
        while (found := self.ended_badly()) < wanted and time.monotonic() < deadline:
            time.sleep(0.02)
        assert found == wanted, f"counted {found}, not {wanted}:\n{self.plane.log[-2000:]}"

    def _check_line(self, source: str, seen: int, says: str) -> None:
        # One that has gone before it was looked at has no address any more.
        of_peer = re.compile(rf"from ({re.escape(source)}:|an unknown address)")
        self.plane.wait_line(of_peer.pattern, after=seen, seconds=SETTLE_SECONDS)
        lines = [line for line in self.plane.lines[seen:] if of_peer.search(line)]
        # One a second and address: a machine that is busy may take longer for a row.
        assert 1 <= len(lines) <= 3, lines
        assert re.search(says, lines[0]), lines
        assert all(line.isprintable() and len(line) < 500 for line in lines), lines


@contextmanager
def living(folder: Path) -> Iterator[Live]:
    """Start everything; at the end the control plane stops well."""
    with Cluster(folder, tasks=TASKS) as cluster:
        plane = cluster.control_plane()
        cluster.subworker("w1", "--threads", "8")
        client = BlockingClient(control_plane_address=cluster.address, token=cluster.token)
        with client, Canary(client) as canary:
            client.wait_connected(20)
            live = Live(cluster, client, canary)
            yield live
            assert canary.problem is None, canary.problem
        assert plane.terminate() == 0


def run(attack: Any, *arguments: object) -> Any:
    """An attack, in Trio, for as long as anything may take."""

    async def bounded() -> Any:
        with trio.fail_after(30):
            return await attack(*arguments)

    return trio.run(bounded)
