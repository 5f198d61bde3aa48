"""Fuzzing of every listening port, over real sockets, beside jobs that must go on.

``python -m tests.fuzzing.sockets --seconds 600`` starts a control plane with a store on disk, one
that speaks TLS, a subworker, and an application with a callback listener. Bytes made by chance, by
the schema and from the corpus come at all their ports, on connections that end in every way; a
client meanwhile has jobs run. Nothing may end, show a traceback, lose a job, or keep growing.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import secrets
import socket
import ssl
import struct
import sys
import tempfile
import time
from collections import deque
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import trio

from fastworker.client.client import Client
from fastworker.wire.addresses import Address, parse_address
from tests.bad_input import raw
from tests.bad_input.bombard import LISTENER, open_files, rss_bytes
from tests.fuzzing.mutating import CORPUS, by_chance, frame_by_schema, seeds
from tests.fuzzing.streams import BEHIND_THE_HEAD, HEAD
from tests.fuzzing.targets import TARGETS
from tests.support.certificates import Authority
from tests.support.cluster import Cluster
from tests.support.process import Member

ATTACKERS: Final = 4
"""At once, for each port."""

CONNECTION_SECONDS: Final = 1.0
"""Of one connection; whoever is not closed by then goes by itself."""

GONE: Final = (OSError, trio.BrokenResourceError, trio.ClosedResourceError)

JOBS_PAUSE_SECONDS: Final = 0.05
JOB_SECONDS: Final = 60.0
"""Until a job beside the fuzzing must have ended, on a machine with nothing to spare."""

GROWTH_BYTES: Final = 48 * 2**20
"""Beyond warming up: what arrives unread is bounded per connection."""

SETTLE_SECONDS: Final = 15.0
"""For the last connections to be seen to end."""

LOOK_SECONDS: Final = 0.2

LINES_BEFORE: Final = 10
LINES_BEHIND: Final = 150
"""Of the log, around a traceback."""

REMEMBERED: Final = 200
"""Of the last inputs: what is kept when a process breaks."""


@dataclass(slots=True)
class Port:
    """Where to connect, and how."""

    name: str
    address: Address
    token: str | None = None
    tls: ssl.SSLContext | None = None


@dataclass(slots=True)
class Report:
    """What was done, and everything that must not have happened."""

    connections: int = 0
    by_port: dict[str, int] = field(default_factory=dict)
    jobs: int = 0
    growth_mib: dict[str, float] = field(default_factory=dict)
    more_files: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


class Fuzzer:
    """Sends what nobody should send."""

    def __init__(self, chance: random.Random, report: Report) -> None:
        self._chance = chance
        self._report = report
        self._streams = list(seeds("streams"))
        self.last: deque[bytes] = deque(maxlen=REMEMBERED)

    async def fuzz_forever(self, port: Port) -> None:
        """One connection after another."""
        while True:
            with trio.move_on_after(CONNECTION_SECONDS), suppress(*GONE):
                if port.token is not None and self._chance.random() < 0.4:
                    await self._as_a_peer(port.address, port.token)
                else:
                    await self._as_anybody(port)
            self._report.connections += 1
            self._report.by_port[port.name] = self._report.by_port.get(port.name, 0) + 1
            await trio.lowlevel.checkpoint()

    async def _as_anybody(self, port: Port) -> None:
        data = self._bytes()
        self.last.append(data)
        tcp = await trio.open_tcp_stream(port.address.host, port.address.port)
        stream: trio.abc.Stream = tcp
        if port.tls is not None and self._chance.random() < 0.8:
            stream = trio.SSLStream(tcp, port.tls, server_hostname="localhost")
        async with stream:
            cut = self._chance.randrange(len(data) + 1)
            for part in (data[:cut], data[cut:]):
                if part:
                    await stream.send_all(part)
            await self._end(stream, tcp)

    async def _end(self, stream: trio.abc.Stream, tcp: trio.SocketStream) -> None:
        match self._chance.randrange(4):
            case 0:  # a reset, perhaps in the middle of an answer
                tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                tcp.socket.close()
            case 1:  # nothing more will come, and the answer is waited for
                tcp.socket.shutdown(socket.SHUT_WR)
                await _read(stream)
            case 2:
                await _read(stream, self._chance.choice([0.01, 0.1]))
            case _:
                pass

    async def _as_a_peer(self, address: Address, token: str) -> None:
        """With the token: one of ours whose messages have gone wrong."""
        role = self._chance.choice(["client", "subworker"])
        with suppress(AssertionError, trio.TooSlowError, ValueError):
            async with raw.open_peer(address, role, token=token) as peer:
                if role == "subworker" and self._chance.random() < 0.8:
                    await raw.register(peer, tasks=["fuzz.nobody_has_it"])
                for _ in range(self._chance.randrange(1, 8)):
                    data = frame_by_schema(self._chance)
                    self.last.append(data)
                    await peer.send(raw.frame(data))
                if self._chance.random() < 0.5:
                    await self._end(peer.stream, peer.stream)

    def _bytes(self) -> bytes:
        """For a connection that has not proved anything."""
        chance = self._chance
        choice = chance.random()
        if choice < 0.1:
            return chance.randbytes(chance.choice([1, 10, 300, 5000]))
        if choice < 0.4:
            frames = b"".join(
                raw.frame(frame_by_schema(chance), opcode=chance.choice([2, 2, 2, 1, 0, 8, 9]))
                for _ in range(chance.randrange(1, 10))
            )
            return HEAD + frames
        seed = chance.choice(self._streams) or b"\0"
        data = (HEAD if seed[0] & BEHIND_THE_HEAD else b"") + seed[1:]
        return by_chance(data, chance, TARGETS["streams"]) if chance.random() < 0.9 else data


async def _read(stream: trio.abc.Stream, seconds: float = CONNECTION_SECONDS) -> None:
    with trio.move_on_after(seconds):
        while await stream.receive_some(65536):
            pass


async def _run_jobs(client: Client, report: Report) -> None:
    """Have jobs run, one after another: each is accepted, runs and has its result."""
    while True:
        number = report.jobs
        try:
            with trio.fail_after(JOB_SECONDS):
                handle = await client.submit("add", number, 1)
                assert await handle.result() == number + 1
        except Exception as error:  # whatever it is, it belongs into the report
            report.problems.append(f"job {number} beside the fuzzing: {error!r}")
            return
        report.jobs += 1
        await trio.sleep(JOBS_PAUSE_SECONDS)


async def _fuzz_all(
    cluster: Cluster, ports: list[Port], members: dict[str, Member], seconds: float, seed: int
) -> Report:
    report = Report()
    fuzzer = Fuzzer(random.Random(seed), report)
    async with (
        Client(control_plane_address=cluster.address, token=cluster.token) as client,
        trio.open_nursery() as nursery,
    ):
        await client.wait_connected(10)
        nursery.start_soon(_run_jobs, client, report)
        async with trio.open_nursery() as attackers:
            for port in ports:
                for _ in range(ATTACKERS):
                    attackers.start_soon(fuzzer.fuzz_forever, port)
            await trio.sleep(seconds / 3)  # warm: every path has been taken once
            before = {name: rss_bytes(member) for name, member in members.items()}
            await trio.to_thread.run_sync(_wait_for_the_end, members, seconds * 2 / 3)
            attackers.cancel_scope.cancel()
        for name, member in members.items():
            if member.running:
                growth = rss_bytes(member) - before[name]
                report.growth_mib[name] = round(growth / 2**20, 1)
                if growth > GROWTH_BYTES:
                    report.problems.append(f"{name} has grown by {growth} bytes")
        nursery.cancel_scope.cancel()
    if any(not each.running or any(map(_is_bug, each.lines)) for each in members.values()):
        _keep(fuzzer.last)
    return report


def _wait_for_the_end(members: dict[str, Member], seconds: float) -> None:
    """Wait so long, or until a process has ended or shown a bug; in a thread."""
    ends_at = time.monotonic() + seconds
    seen = dict.fromkeys(members, 0)
    while time.monotonic() < ends_at:
        for name, member in members.items():
            fresh = member.lines[seen[name] :]
            seen[name] += len(fresh)
            if not member.running or any(map(_is_bug, fresh)):
                return
        time.sleep(LOOK_SECONDS)


def _is_bug(line: str) -> bool:
    return "Traceback" in line or "report it" in line


def _around_the_first_bug(member: Member) -> str:
    """What it has written there."""
    lines = list(member.lines)
    first = next(at for at, line in enumerate(lines) if _is_bug(line))
    return "\n".join(lines[max(first - LINES_BEFORE, 0) : first + LINES_BEHIND])


def _keep(inputs: deque[bytes]) -> None:
    """Keep what was sent last, to be looked through."""
    path = CORPUS.parent / "found_by_sockets.json"
    path.write_text(json.dumps([data.hex() for data in inputs]))
    print(f"the last inputs are kept in {path}")


def fuzz_sockets(folder: Path, seconds: float, seed: int = 1) -> Report:
    """Start the processes in ``folder``, fuzz their ports for so long, and say what happened."""
    authority = Authority(folder)
    certificate = authority.issue("localhost", "127.0.0.1")
    (folder / "encrypted").mkdir()
    with Cluster(folder) as cluster, Cluster(folder / "encrypted") as encrypted:
        cluster.expected_tracebacks = encrypted.expected_tracebacks = True  # looked for below
        plane = cluster.control_plane()
        cluster.subworker("beside")
        secured = _start_encrypted(encrypted, certificate.certificate, certificate.key)
        listener = Member(
            "callback listener",
            (sys.executable, "-c", LISTENER, cluster.token),
            environment=cluster.environment(),
            folder=folder,
        )
        cluster.members.append(listener)
        callbacks = parse_address(listener.wait_line("listening on").split()[-1])
        ports = [
            Port("base", parse_address(cluster.address), cluster.token),
            Port("discovery", parse_address(cluster.discovery_address), cluster.token),
            Port("callback listener", callbacks),
            Port("TLS", parse_address(encrypted.address), tls=authority.trusting()),
        ]
        members = {"control plane": plane, "TLS control plane": secured, "listener": listener}
        trio.run(partial(_warm_up, cluster))
        files = {name: open_files(member) for name, member in members.items()}
        report = trio.run(_fuzz_all, cluster, ports, members, seconds, seed)
        for name, member in members.items():
            report.problems += _problems(name, member, files[name], report)
            if cluster.token in member.log or encrypted.token in member.log:
                report.problems.append(f"{name} shows a token in its log")
        for member in (plane, secured):
            if member.running and (code := member.terminate()) != 0:
                report.problems.append(f"{member.name} stopped with {code}")
    return report


def _start_encrypted(cluster: Cluster, cert: Path | None, key: Path | None) -> Member:
    plane = cluster.control_plane(f"--tls-cert={cert}", f"--tls-key={key}", ready=False)
    plane.wait_line("listening on wss://")
    return plane


async def _warm_up(cluster: Cluster) -> None:
    """The store opens its files with the first job."""
    async with Client(control_plane_address=cluster.address, token=cluster.token) as client:
        assert await (await client.submit("add", 1, 1)).result() == 2


def _problems(name: str, member: Member, files: int, report: Report) -> list[str]:
    if not member.running:
        return [f"{name} has ended with {member.process.returncode}:\n{member.log[-12000:]}"]
    deadline = time.monotonic() + SETTLE_SECONDS
    while open_files(member) > files and time.monotonic() < deadline:
        time.sleep(0.05)
    more = report.more_files[name] = open_files(member) - files
    found = [f"{name} keeps {more} files open that it had not before"] if more > 0 else []
    if any(map(_is_bug, member.lines)):
        found.append(f"{name} shows a bug:\n{_around_the_first_bug(member)}")
    return found


def main() -> int:
    """Run it; 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0, help="0: a new one every time")
    given = parser.parse_args()
    os.environ.setdefault("FASTWORKER_TOKEN", secrets.token_hex(32))  # nobody's real one is used
    seed = given.seed or int(time.time())
    print(f"sockets: --seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="fastworker-fuzz-") as folder:
        report = fuzz_sockets(Path(folder), given.seconds, seed)
    print(json.dumps(asdict(report), indent=2))
    return 1 if report.problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
