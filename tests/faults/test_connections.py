"""Crowds and churn of connections, a process without descriptors, and clients that do not read."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio

from benchmarks.connections import MEGABYTE, measure
from fastworker import BlockingClient
from fastworker.core.ids import id_text
from fastworker.wire import messages as m
from fastworker.wire.addresses import parse_address
from fastworker.wire.codec import encode
from tests.bad_input.bombard import open_files, rss_bytes
from tests.bad_input.raw import RawPeer, frame, open_peer, status_of, upgrade
from tests.faults.report import REPORT
from tests.faults.rounds import Rounds
from tests.support.cluster import Cluster
from tests.support.process import Member

RSS_BYTES = 400 * MEGABYTE
"""Of a control plane with ten thousand idle connections."""
CONNECTION_BYTES = 35_000
"""Of one of them."""
ACCEPT_SECONDS = 60.0
P99_RATIO = 3.0
P99_FLOOR_MS = 250.0
"""Below this a submission says more of a busy machine than of connections."""
CHURN_RATE = 200.0
SLOPE_BYTES = 1 * MEGABYTE
"""In ten minutes of churn."""
SLOW_READER_BYTES = 32 * MEGABYTE
RESULT_BYTES = 1_000_000
RESULTS = 8
FETCHES = 200
"""Of all those results each: 1.6 GB, if they were kept for the peer."""

TASKS = """
from fastworker import task

@task
def add(x: int, y: int) -> int:
    return x + y

@task
def large(size: int) -> bytes:
    return bytes(size)
"""


@pytest.mark.quiet
def test_c37_crowd_of_idle_connections(tmp_path: Path, rounds: Rounds) -> None:
    count = rounds.of("C37 idle connections", ci=300, full=10_000)
    probes = 300 if rounds.is_full else 30
    found = measure(
        tmp_path,
        connections=count,
        probes=probes,
        churn_rate=1.0,
        churn_seconds=0.0,
        settle=3.0 if rounds.is_full else 0.5,
    )
    REPORT.figures.append(
        f"C37 {found.connections:,} connections: {found.bytes_per_connection / 1000:.1f} kB each,"
        f" {found.rss_after / MEGABYTE:.0f} MB in all, there after {found.accept_seconds:.1f} s;"
        f" submit p99 {found.submit_ms_before['p99']} ms alone,"
        f" {found.submit_ms_beside['p99']} ms beside them"
    )
    assert (found.connections, found.still_standing) == (count, count)
    assert found.bytes_per_connection <= CONNECTION_BYTES
    assert found.rss_after <= RSS_BYTES
    assert found.accept_seconds <= ACCEPT_SECONDS
    assert found.submit_ms_beside["p99"] <= max(
        P99_RATIO * found.submit_ms_before["p99"], 0.0 if rounds.is_full else P99_FLOOR_MS
    )


@pytest.mark.quiet
def test_c38_connections_that_come_and_go(tmp_path: Path, rounds: Rounds) -> None:
    seconds = rounds.of("C38 seconds of churn", ci=3, full=600)
    found = measure(
        tmp_path,
        connections=0,
        probes=0,
        churn_rate=CHURN_RATE,
        churn_seconds=float(seconds),
        settle=3.0 if rounds.is_full else 1.0,
    )
    growth = found.churn_rss[-1] - found.churn_rss[1]
    REPORT.figures.append(
        f"C38 {found.churned:,} connections in {found.churn_seconds:.0f} s:"
        f" {growth / MEGABYTE:+.1f} MB, {found.files_after - found.files_before:+} files"
    )
    assert found.churned >= CHURN_RATE * seconds * 0.9 and found.churn_failed == 0
    assert abs(found.files_after - found.files_before) <= 5
    # In a short run most of what grows is garbage that has not been collected yet.
    assert growth <= (SLOPE_BYTES if rounds.is_full else 8 * MEGABYTE)


@contextmanager
def _cluster(folder: Path, *flags: str) -> Iterator[tuple[Cluster, Member, BlockingClient]]:
    with Cluster(folder, tasks=TASKS) as cluster:
        plane = cluster.control_plane(*flags)
        cluster.subworker("w1")
        with BlockingClient(control_plane_address=cluster.address, token=cluster.token) as client:
            client.wait_connected(20)
            assert client.submit("add", 1, 2).result(timeout=20) == 3
            yield cluster, plane, client


def added(client: BlockingClient) -> int:
    """Whether it is served: what 3 and 4 make."""
    found: int = client.submit("add", 3, 4).result(timeout=20)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="prlimit is Linux's")
def test_c37_without_descriptors_those_that_stand_are_served_and_it_recovers(
    tmp_path: Path,
) -> None:
    import resource

    with _cluster(tmp_path) as (cluster, plane, client):
        address = parse_address(cluster.address)

        async def crowd() -> None:
            streams: list[trio.SocketStream] = []
            try:
                for _ in range(30):
                    streams.append(await trio.open_tcp_stream(address.host, address.port))
                said = await trio.to_thread.run_sync(plane.wait_line, "Too many open files")
                assert "Traceback" not in said and "LimitNOFILE=" in said
                assert await trio.to_thread.run_sync(added, client) == 7
                await trio.sleep(1.5)
            finally:
                for stream in streams:
                    await trio.aclose_forcefully(stream)

        _, hard = resource.prlimit(plane.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(plane.pid, resource.RLIMIT_NOFILE, (open_files(plane) + 10, hard))
        trio.run(crowd)
        # It recovers without any help: whoever has left has made room.
        with BlockingClient(control_plane_address=cluster.address, token=cluster.token) as late:
            late.wait_connected(20)
            assert late.submit("add", 5, 6).result(timeout=20) == 11
        assert plane.log.count("Too many open files") == 1


def test_c37_newcomers_above_the_cap_are_told_and_those_that_stand_are_served(
    tmp_path: Path,
) -> None:
    # Two are taken: the subworker, and the client that is served.
    with _cluster(tmp_path, "--max-connections", "2") as (cluster, plane, client):

        async def newcomer() -> None:
            address = parse_address(cluster.address)
            async with await trio.open_tcp_stream(address.host, address.port) as stream:
                await stream.send_all(upgrade(address))
                assert status_of(await stream.receive_some(1000)) == 503

        trio.run(newcomer)
        plane.wait_line("there are 2 connections, which is the most.*--max-connections")
        assert client.submit("add", 3, 4).result(timeout=20) == 7
        assert client.status()["connections"]["open"] == 2


def test_c03_client_that_asks_for_results_and_does_not_read_them(
    tmp_path: Path, rounds: Rounds
) -> None:
    with _cluster(tmp_path) as (cluster, plane, client):
        handles = [client.submit("large", RESULT_BYTES) for _ in range(RESULTS)]
        for handle in handles:
            handle.wait(timeout=20)
        ids = b"".join(_id_bytes(handle.id) for handle in handles)
        before = rss_bytes(plane)
        most = 0

        async def attack(peer: RawPeer) -> None:
            for number in range(FETCHES):
                await peer.send(frame(_encoded(m.Fetch(number, ids))))

        async def watch() -> None:
            nonlocal most
            while True:
                most = max(most, rss_bytes(plane))
                await trio.sleep(0.02)

        async def run() -> None:
            address = parse_address(cluster.address)
            async with (
                open_peer(address, token=cluster.token) as peer,
                trio.open_nursery() as nursery,
            ):
                nursery.start_soon(watch)
                with trio.move_on_after(4):
                    await attack(peer)
                    await trio.sleep_forever()
                nursery.cancel_scope.cancel()

        trio.run(run)
        assert client.submit("add", 3, 4).result(timeout=20) == 7
        REPORT.figures.append(
            f"C03 a client that fetches {FETCHES * RESULTS} MB and reads nothing: control plane"
            f" {(most - before) / MEGABYTE:+.0f} MB"
        )
        # What is being read and encoded is there twice for a moment.
        assert most - before <= SLOW_READER_BYTES * (1 if rounds.is_full else 2)


def _id_bytes(task_id: str) -> bytes:
    found = bytes.fromhex(task_id.replace("-", ""))
    assert id_text(found) == task_id
    return found


def _encoded(message: m.Message) -> bytes:
    return encode([message])
