"""Random and mutated bytes for every listening port, while a client goes on being served.

``python -m tests.bad_input.bombard --seconds 60`` starts a real control plane with a store on
disk and, in a process of its own, an application with an open callback listener; sends both what
they must survive; and reports what happened to their memory, their files and the client.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import secrets
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import trio

from fastworker.client.client import Client
from fastworker.wire.addresses import Address, parse_address
from tests.bad_input import raw
from tests.bad_input.mutations import mutated
from tests.bad_input.test_cbor_frames import FRAMES
from tests.support.cluster import Cluster
from tests.support.process import Member

ATTACKERS = 6
"""At once, for each port."""

ATTACK_SECONDS = 2.0
"""What one attack may take; whoever is not closed by then goes by itself."""

CANARY_PAUSE_SECONDS = 0.02
RSS_GROWTH_BYTES = 48 * 2**20
"""Beyond warming up. What arrives unread is bounded per connection, so this is, too."""

CANARY_SECONDS = 1.0
"""Of the canary's slowest submission but one in a hundred, on a machine with nothing to spare."""

SETTLE_SECONDS = 10.0
"""For the last connections to be seen to end."""

LISTENER = """
import asyncio, sys
from fastworker import open_callback_listener

async def main():
    async with open_callback_listener("tcp://127.0.0.1:0", token=sys.argv[1]) as listener:
        print("listening on", listener.address, flush=True)
        async for callback in listener:
            print("took", callback.task_id, flush=True)

asyncio.run(main())
"""


@dataclass(slots=True)
class Report:
    """What the bombardment did; `problems` says what of it is wrong."""

    seconds: float
    attacks: int = 0
    served: int = 0
    slowest_seconds: list[float] = field(default_factory=list)
    rss_growth_bytes: dict[str, int] = field(default_factory=dict)
    more_files: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def p99_seconds(self) -> float:
        """Of the canary's round trips."""
        times = sorted(self.slowest_seconds)
        return times[math.ceil(len(times) * 0.99) - 1] if times else math.inf

    def problems(self, *, patience: float = 1.0) -> list[str]:
        """Everything that must not happen, in sentences; empty if all is well.

        Args:
            patience: a factor on the time that the canary may wait.
        """
        found = list(self.failures)
        if self.p99_seconds() > CANARY_SECONDS * patience:
            found.append(f"the canary waited {self.p99_seconds():.2f} s (p99)")
        for name, growth in self.rss_growth_bytes.items():
            if growth > RSS_GROWTH_BYTES:
                found.append(f"{name} has grown by {growth / 2**20:.0f} MiB")
        for name, more in self.more_files.items():
            if more > 0:
                found.append(f"{name} keeps {more} files open that it had not before")
        return found

    def as_json(self) -> str:
        """The report as JSON."""
        return json.dumps(
            {
                "seconds": self.seconds,
                "attacks": self.attacks,
                "served": self.served,
                "p99_seconds": round(self.p99_seconds(), 4),
                "rss_growth_bytes": self.rss_growth_bytes,
                "more_files": self.more_files,
                "problems": self.problems(),
            },
            indent=2,
        )


def rss_bytes(member: Member) -> int:
    """Resident memory of a process."""
    pages = int(Path(f"/proc/{member.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def open_files(member: Member) -> int:
    """How many file descriptors it has."""
    return len(os.listdir(f"/proc/{member.pid}/fd"))


# --- attacks ---------------------------------------------------------------------------------


async def _pour(address: Address, data: bytes, chance: random.Random) -> None:
    """Send bytes in two parts, and read a little or not at all."""
    async with await trio.open_tcp_stream(address.host, address.port) as stream:
        cut = chance.randrange(len(data) + 1)
        await stream.send_all(data[:cut])
        await stream.send_all(data[cut:])
        if chance.random() < 0.7:
            with trio.move_on_after(chance.choice([0.01, 0.1, 0.5])):
                while await stream.receive_some(4096):
                    pass


def _any_bytes(chance: random.Random, address: Address) -> bytes:
    return chance.randbytes(chance.choice([0, 1, 10, 300, 5000, 100_000]))


def _damaged_head(chance: random.Random, address: Address) -> bytes:
    head = bytearray(raw.upgrade(address))
    for _ in range(chance.randrange(1, 6)):
        head[chance.randrange(len(head))] = chance.randrange(256)
    return bytes(head)


def _noise_as_frames(chance: random.Random, address: Address) -> bytes:
    return raw.upgrade(address) + chance.randbytes(chance.randrange(2000))


def _frames_without_handshake(chance: random.Random, address: Address) -> bytes:
    return raw.upgrade(address) + b"".join(
        raw.frame(mutated(chance), opcode=chance.choice([1, 2, 2, 2, 0, 8, 9, 10]))
        for _ in range(chance.randrange(1, 20))
    )


def _bad_cbor(chance: random.Random, address: Address) -> bytes:
    return raw.upgrade(address) + raw.frame(chance.choice(list(FRAMES.values())))


def _flood(chance: random.Random, address: Address) -> bytes:
    one = chance.choice([raw.frame(b"", opcode=9), raw.frame(b"", opcode=0, final=False)])
    return raw.upgrade(address) + raw.frame(b"", final=False) + one * 20_000


UNPROVED: tuple[Callable[[random.Random, Address], bytes], ...] = (
    _any_bytes,
    _damaged_head,
    _noise_as_frames,
    _frames_without_handshake,
    _bad_cbor,
    _flood,
)


async def _attack_proved(address: Address, token: str, chance: random.Random) -> None:
    """With the token: a peer of ours whose messages have gone wrong."""
    role = chance.choice(["client", "subworker"])
    async with raw.open_peer(address, role, token=token) as peer:
        if role == "subworker" and chance.random() < 0.8:
            await raw.register(peer, tasks=["bombard.never"])
        for _ in range(chance.randrange(1, 8)):
            data = chance.choice([mutated(chance), *FRAMES.values()][: chance.choice([1, 60])])
            await peer.send(raw.frame(data))
        with trio.move_on_after(0.2):
            await peer.receive_end()


async def _attack_for_ever(
    address: Address, token: str | None, chance: random.Random, report: Report
) -> None:
    while True:
        with trio.move_on_after(ATTACK_SECONDS), suppress(OSError, trio.BrokenResourceError):
            if token is not None and chance.random() < 0.4:
                with suppress(AssertionError, trio.TooSlowError, ValueError):
                    await _attack_proved(address, token, chance)
            else:
                await _pour(address, chance.choice(UNPROVED)(chance, address), chance)
        report.attacks += 1
        await trio.lowlevel.checkpoint()


# --- who is served meanwhile -----------------------------------------------------------------


async def _canary(client: Client, report: Report) -> None:
    """Submit, look at it, cancel it: a whole round each time."""
    while True:
        started = time.perf_counter()
        try:
            task_id = await client.options(queue="canary").delay("bombard.canary", report.served)
            found = await client.get_task_result(task_id)
            assert found is not None and found.status.value == "queued", found
            cancelled = await client.cancel(task_id)
            assert cancelled.outcome.value == "cancelled", cancelled
        except Exception as error:  # whatever it is, it belongs into the report
            report.failures.append(f"the canary was not served: {error!r}")
            return
        report.served += 1
        report.slowest_seconds.append(time.perf_counter() - started)
        await trio.sleep(CANARY_PAUSE_SECONDS)


async def _bombard(cluster: Cluster, listener: Member, seconds: float, report: Report) -> None:
    callback_address = parse_address(listener.wait_line("listening on").split()[-1])
    ports = [
        (parse_address(cluster.address), cluster.token),
        (parse_address(cluster.discovery_address), cluster.token),
        (callback_address, None),
    ]
    members = {"the control plane": cluster.members[0], "the callback listener": listener}
    async with (
        Client(control_plane_address=cluster.address, token=cluster.token) as client,
        trio.open_nursery() as nursery,
    ):
        await client.wait_connected(10)
        nursery.start_soon(_canary, client, report)
        async with trio.open_nursery() as attackers:
            for number, (address, token) in enumerate(ports):
                for attacker in range(ATTACKERS):
                    chance = random.Random(f"{number} {attacker}")
                    attackers.start_soon(_attack_for_ever, address, token, chance, report)
            await trio.sleep(seconds / 3)  # warm: every path has been taken once
            before = {name: rss_bytes(member) for name, member in members.items()}
            await trio.sleep(seconds * 2 / 3)
            after = {name: rss_bytes(member) for name, member in members.items()}
            attackers.cancel_scope.cancel()
        report.rss_growth_bytes = {name: after[name] - before[name] for name in members}
        await _check_callback(client, callback_address, listener, report)
        nursery.cancel_scope.cancel()


async def _check_callback(
    client: Client, address: Address, listener: Member, report: Report
) -> None:
    """The bombarded listener still takes what is meant for it."""
    task_id = await client.delay_with_callback("bombard.canary", str(address))
    await client.cancel(task_id)
    try:
        await trio.to_thread.run_sync(lambda: listener.wait_line(f"took {task_id}", seconds=20))
    except AssertionError:
        report.failures.append("a callback did not arrive after the bombardment")


async def _warm_up(cluster: Cluster) -> None:
    """The store opens its files with the first job."""
    async with Client(control_plane_address=cluster.address, token=cluster.token) as client:
        task_id = await client.options(queue="canary").delay("bombard.canary", 0)
        await client.get_task_result(task_id)
        await client.cancel(task_id)


def bombard(folder: Path, seconds: float) -> Report:
    """Start the processes in ``folder``, bombard them for so long, and say what happened."""
    report = Report(seconds)
    with Cluster(folder) as cluster:
        cluster.expected_tracebacks = True  # looked for below, to be reported with the rest
        plane = cluster.control_plane()
        listener = Member(
            "callback listener",
            (sys.executable, "-c", LISTENER, cluster.token),
            environment=cluster.environment(),
            folder=folder,
        )
        cluster.members.append(listener)
        listener.wait_line("listening on")
        members = {"the control plane": plane, "the callback listener": listener}
        trio.run(_warm_up, cluster)
        files = {name: open_files(member) for name, member in members.items()}
        trio.run(_bombard, cluster, listener, seconds, report)
        for name, member in members.items():
            report.more_files[name] = _settled(member, files[name]) - files[name]
            if not member.running:
                report.failures.append(f"{name} has ended with {member.process.returncode}")
            if "Traceback" in member.log or "report it" in member.log:
                report.failures.append(f"{name} shows a traceback:\n{member.log[-3000:]}")
            if cluster.token in member.log:
                report.failures.append(f"{name} shows the token in its log")
        if len(plane.lines) > 30 + 2 * seconds:
            report.failures.append(f"the log has been flooded: {len(plane.lines)} lines")
        if plane.running and (code := plane.terminate()) != 0:
            report.failures.append(f"the control plane stopped with {code}")
    return report


def _settled(member: Member, wanted: int) -> int:
    """Open files once the last connections have been seen to end."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while member.running and open_files(member) > wanted and time.monotonic() < deadline:
        time.sleep(0.05)
    return open_files(member) if member.running else wanted


def main() -> int:
    """Run it; 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    seconds: float = parser.parse_args().seconds
    os.environ.setdefault("FASTWORKER_TOKEN", secrets.token_hex(32))  # nobody's real one is used
    with tempfile.TemporaryDirectory(prefix="fastworker-bombard-") as folder:
        report = bombard(Path(folder), seconds)
    print(report.as_json())
    return 1 if report.problems() else 0


if __name__ == "__main__":
    raise SystemExit(main())
