"""Millions of jobs, large arguments, floods, slow readers, twins, and jobs that nobody can run."""

from __future__ import annotations

import re
import sqlite3
import threading
import time
from pathlib import Path
from typing import Final

import pytest

from fastworker import BlockingClient, TaskPriority, TaskStatus
from fastworker.core.records import MAX_PAYLOAD_BYTES
from fastworker.errors import Indeterminate, NotSerializable, Overloaded, Rejected
from fastworker.store.folder import DATABASE
from tests.faults.crowd import Crowd
from tests.faults.report import REPORT, spread
from tests.faults.rounds import Rounds
from tests.faults.site import FaultSite, HealthWatch, NewSite, wait_until
from tests.faults.wires import Rule, Stall, WireProxy
from tests.support.process import WAIT_SECONDS

MILLION: Final = 1_000_000
MEMORY_BYTES: Final = 300 * 1024 * 1024
"""Of a control plane with five million queued jobs."""
HAND_OUT_SECONDS: Final = 5.0
"""From its start to the first job handed out."""
SLOW_READER_BYTES: Final = 32 * 1024 * 1024
"""What one client that does not read may cost."""
MEGABYTE: Final = 1024 * 1024
LOG_BYTES: Final = 256 * 1024 * 1024
"""Of the write-ahead log, however long somebody reads."""
OVERTAKEN: Final = 16 + 6
"""Less urgent jobs that may still start: one hand-over, and the threads of the only runner."""


def resident_bytes(pid: int, what: str = "VmHWM") -> int:
    """Memory of a process: the most it ever had (``VmHWM``), or what it has (``VmRSS``)."""
    found = re.search(rf"{what}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def prefill(site: FaultSite, jobs: int) -> None:
    """Make so many queued jobs out of one, in the file of a store that nobody has open."""
    site.start_plane()
    with site.client() as client:
        client.submit("held")
    assert site.plane.terminate() == 0
    database = sqlite3.connect(site.store / DATABASE, isolation_level=None)
    database.execute("PRAGMA synchronous = OFF")
    database.execute("BEGIN")
    for table in ("jobs", "payloads"):
        columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
        values = ", ".join(
            {"key": "key + n", "position": "position + n"}.get(c, c) for c in columns
        )
        values = re.sub(r"\bid\b", "cast(printf('%016d', n) AS BLOB)", values)
        database.execute(
            f"WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers"
            f" WHERE n < {jobs - 1})"
            f" INSERT INTO {table} ({', '.join(columns)}) SELECT {values} FROM {table}, numbers"
        )
    # What keys may have been given out: new jobs get larger ones.
    database.execute(
        "UPDATE meta SET value = max(value, (SELECT max(key) FROM jobs)) WHERE name = 'key_ceiling'"
    )
    database.execute("COMMIT")
    database.close()


def test_c10_millions_of_queued_jobs(site: FaultSite, rounds: Rounds) -> None:
    rounds.only_full("C10")
    jobs = rounds.of("C10 queued jobs", ci=20_000, full=5) * (MILLION if rounds.is_full else 1)
    prefill(site, max(jobs, 10_000))
    site.start_plane()
    with Crowd(site.address, site.token, 1, task="held") as crowd:
        wait_until(lambda: crowd.assigned > 0, seconds=WAIT_SECONDS, what="job handed out")
        took = time.monotonic() - site.plane_starts[-1]
    memory = resident_bytes(site.plane.pid)
    REPORT.figures.append(
        f"C10 {jobs:,} queued jobs: {memory / MEGABYTE:.0f} MB, first hand-out after {took:.2f} s"
    )
    assert memory <= MEMORY_BYTES
    assert took <= HAND_OUT_SECONDS * site.patience


def test_c03_client_that_does_not_read(site: FaultSite, rounds: Rounds) -> None:
    rounds.only_full("C03")
    rounds.of("C03 slow readers", ci=1, full=1)
    site.start_all("one", applications=0)
    before = resident_bytes(site.plane.pid, "VmRSS")
    quiet = _latencies(site, 60)

    def rule(number: int, up: bool) -> Rule:
        return Rule() if up else Stall(1_000)

    with WireProxy(site.port, rule) as proxy:
        slow = BlockingClient(control_plane_address=proxy.address, token=site.token)
        slow.start()
        reading = threading.Thread(target=_stream_results, args=(slow,), daemon=True)
        reading.start()
        busy = _latencies(site, 200)
        after = resident_bytes(site.plane.pid, "VmRSS")
    REPORT.figures.append(
        f"C03 a client that reads 1 kB/s: control plane {(after - before) / MEGABYTE:+.0f} MB;"
        f" others before {spread(quiet)}; meanwhile {spread(busy)}"
    )
    assert after - before <= SLOW_READER_BYTES
    slow.stop()


def _stream_results(client: BlockingClient) -> None:
    """Submit jobs with results of some size, and ask for all of them; ends with the proxy."""
    key = "x" * 2_000
    try:
        client.submit_many("in_loop", [(f"{key}{n}", 0.0, b"") for n in range(3_000)])
    except (Indeterminate, Rejected):
        return


def _latencies(site: FaultSite, count: int) -> list[float]:
    """Seconds from the submission of a job to its result, one after another."""
    took = []
    with site.client() as client:
        for _ in range(count):
            begun = time.monotonic()
            site.probe(client, "in_loop").handle.wait(timeout=WAIT_SECONDS)
            took.append(time.monotonic() - begun)
    return took


def test_c22_lists_read_without_end(site: FaultSite, rounds: Rounds) -> None:
    """Readers turn the pages of a long list, slowly and fast, while jobs are run."""
    seconds = rounds.of("C22 seconds of reading", ci=3, full=600)
    site.start_all("one", applications=0)
    with site.client() as client:
        client.submit_many("held", [()] * 5_000)
    quiet = _latencies(site, 30)
    ended = threading.Event()
    pages: list[int] = []
    readers = [
        threading.Thread(target=_turn_pages, args=(site, ended, pages, pause))
        for pause in (0.0, 0.5)
    ]
    for reader in readers:
        reader.start()
    until, busy, largest = time.monotonic() + seconds, list[float](), 0
    while time.monotonic() < until:
        busy += _latencies(site, 30)
        largest = max(largest, (site.store / f"{DATABASE}-wal").stat().st_size)
    ended.set()
    for reader in readers:
        reader.join()
    REPORT.figures.append(
        f"C22 {len(pages)} pages read: write-ahead log at most {largest / MEGABYTE:.0f} MB;"
        f" jobs before {spread(quiet)}; meanwhile {spread(busy)}"
    )
    assert len(pages) > 2 * seconds
    assert largest <= LOG_BYTES
    site.check()


def _turn_pages(site: FaultSite, ended: threading.Event, pages: list[int], pause: float) -> None:
    with site.client() as client:
        while not ended.is_set():
            pages.append(len(client.jobs(limit=1000)))
            ended.wait(pause)


def test_c29_two_subworkers_under_one_name(sites: NewSite, rounds: Rounds) -> None:
    for _ in range(rounds.of("C29 twins", ci=1, full=20)):
        with sites() as site:
            site.start_plane()
            site.start_worker("one", ready=False)
            twin = site.start_worker("one")
            twin.wait_line(r"\bconnected to\b")
            with site.client() as client:
                wait_until(
                    lambda: len(client.workers()) == 2,
                    seconds=WAIT_SECONDS,
                    what="second subworker of that name",
                )
            site.start_application()
            site.applications["app"].wait_line("started")
            site.pause(0.2, 0.5)
            warned = [line for line in site.plane.lines if "call themselves" in line]
            assert len(warned) == 1, site.plane.log
            site.restart_plane()  # both come back at once
            site.check_standing()
            assert not site.repeated(), "one lease was given to both"


def test_c30_task_that_nobody_has(site: FaultSite) -> None:
    site.start_plane()
    site.start_worker("one")
    with site.client() as client:
        waiting = client.submit("nobody_has_it")
        expiring = client.options(expires=0.5).submit("nobody_has_it")
        assert expiring.wait(timeout=WAIT_SECONDS).status is TaskStatus.EXPIRED
        known = client.get_task_result(waiting.id)
    assert known is not None
    assert not known.status.is_terminal
    assert known.reason and "nobody_has_it" in known.reason, known


def test_c45_huge_arguments(site: FaultSite, rounds: Rounds) -> None:
    site.least_accepted = 0
    site.start_all("one", applications=0)
    before = resident_bytes(site.plane.pid)
    limit = _largest(site)
    with site.client() as client:
        for size in (limit + 1, limit + 2, 100 * MAX_PAYLOAD_BYTES):
            with pytest.raises(NotSerializable, match="can travel"):
                client.submit("in_loop", "probe-0", 0.0, bytes(size))
        for number in range(rounds.of("C45 largest payloads", ci=4, full=100)):
            # The more digits the key has, the less room there is beside it.
            size = limit - (len(str(number)) - 1) - number % 2
            site.probe(client, "in_loop", size=size).handle.wait(timeout=WAIT_SECONDS)
    grown = resident_bytes(site.plane.pid) - before
    REPORT.figures.append(
        f"C45 payloads of {limit:,} bytes: control plane +{grown / MEGABYTE:.1f} MB"
    )
    assert grown <= 16 * MEGABYTE + 3 * MAX_PAYLOAD_BYTES
    site.check()


def _largest(site: FaultSite) -> int:
    """The largest padding that a probe may have: what its key and envelope leave."""
    from fastworker.wire.values import seal_call

    spare = len(seal_call(("probe-0", 0.0, bytes(70_000)), {}, task="in_loop")) - 70_000
    return MAX_PAYLOAD_BYTES - spare


def test_c46_overload(site: FaultSite, rounds: Rounds) -> None:
    rounds.only_full("C46")
    prefill(site, MILLION if rounds.is_full else 20_000)
    site.start_plane()
    seconds = rounds.of("C46 seconds of overload", ci=3, full=60)
    until = time.monotonic() + seconds
    refusals: list[str] = []

    def flood() -> None:
        address, token = site.address, site.token
        with BlockingClient(
            control_plane_address=address, token=token, submit_timeout=0.5
        ) as client:
            while time.monotonic() < until:
                try:
                    client.submit_many("held", [()] * 5_000)
                except Overloaded:
                    refusals.append("overloaded")
                except Indeterminate:
                    refusals.append("indeterminate")

    floods = [threading.Thread(target=flood) for _ in range(3)]
    with HealthWatch(site.port) as health:
        for each in floods:
            each.start()
        for each in floods:
            each.join()
    memory = resident_bytes(site.plane.pid)
    REPORT.figures.append(
        f"C46 overload: {memory / MEGABYTE:.0f} MB, refused {len(refusals)} times,"
        f" health {spread(health.took)}"
    )
    assert memory <= MEMORY_BYTES + 64 * MEGABYTE * len(TaskPriority)
    quiet = time.monotonic()
    wait_until(lambda: _answers_quickly(site), seconds=30.0, what="quick answer")
    REPORT.figures.append(f"C46 quick again after {time.monotonic() - quiet:.1f} s")


def _answers_quickly(site: FaultSite) -> bool:
    begun = time.monotonic()
    with site.client() as client:
        client.submit("held")
    return time.monotonic() - begun < 1.0


def test_c47_urgent_flood(site: FaultSite, rounds: Rounds) -> None:
    count = rounds.of("C47 urgent jobs", ci=200, full=5_000)
    site.start_plane()
    with site.client() as client:
        low, high = (
            client.options(priority=priority) for priority in (TaskPriority.LOW, TaskPriority.HIGH)
        )
        handles = [low.submit("in_thread", f"low-{n}", 0.0, b"") for n in range(100)]
        for n in range(count):
            handles.append(high.submit("in_thread", f"high-{n}", 0.0, b""))
        known = client.get_task_result(handles[0].id)
        assert known is not None and known.reason, "nothing says why it waits"
        site.start_worker("one")
        for handle in handles:
            assert handle.wait(timeout=WAIT_SECONDS * 2).status is TaskStatus.SUCCESS
    starts = {key: each[0].at for key, each in site.effects().starts.items()}
    flood_ends = max(at for key, at in starts.items() if key.startswith("high"))
    lows = [at for key, at in starts.items() if key.startswith("low")]
    early = [at for at in lows if at < flood_ends]
    assert len(early) <= OVERTAKEN, f"{len(early)} LOW jobs started before the last HIGH one"
    assert max(lows) - flood_ends <= 1.0 * site.patience + 100 * 0.01
