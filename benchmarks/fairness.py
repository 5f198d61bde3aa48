"""``python -m benchmarks.fairness``: how long a tenant waits alone, and while another floods.

A tenant submits jobs at a steady pace; the other, in half of the measurements, ten times as many as
the subworker can run. A wait is the time from the call of `submit` until the job's code begins.
Every measurement starts fresh processes on a fresh store, alone and flooded in turn. What is
promised: flooded, 99 of 100 waits are at most one service time and 10 ms longer than alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks.cluster import BenchmarkFailed, Cluster

PACE: Final = 3.73
"""Service times between two jobs; no whole number, so that they meet every phase of those that
run."""

ALLOWED_SECONDS: Final = 0.010


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fairness", description=__doc__)
    add = parser.add_argument
    add("--slots", type=int, default=10, help="of the subworker (%(default)s)")
    add("--service", type=float, default=0.1, help="seconds that a job runs (%(default)s)")
    add("--flood", type=float, default=10.0, help="times the capacity (%(default)s)")
    add("--jobs", type=int, default=200, help="measured in each half of a round (%(default)s)")
    add("--rounds", type=int, default=3, help="each alone and flooded (%(default)s)")
    # By then all slots are taken, and it is known how long jobs run.
    add("--warm-up", type=float, default=3.0, help="seconds of flood before (%(default)s)")
    add("--durability", default="power", help="as the control plane's flag (%(default)s)")
    add("--folder", type=Path, help="where state goes (the folder for temporary files)")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; exit code 1 if the promise was not kept."""
    given = _parser().parse_args(arguments)
    waits: dict[str, list[float]] = {"alone": [], "flooded": []}
    try:
        for number in range(given.rounds):
            order = ["alone", "flooded"]
            for what in order if number % 2 == 0 else reversed(order):
                seen = _measure(given, flooded=what == "flooded")
                waits[what] += seen
                print(f"round {number + 1}, {what}: {_summary(seen)}", file=sys.stderr, flush=True)
    except BenchmarkFailed as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    for what, seen in waits.items():
        print(f"{what:8} {_summary(seen)}")
    longer = _p99(waits["flooded"]) - _p99(waits["alone"])
    allowed = given.service + ALLOWED_SECONDS
    print(f"longer by {longer * 1e3:.1f} ms at p99; promised: at most {allowed * 1e3:.1f} ms")
    return 0 if longer <= allowed else 1


def _measure(given: argparse.Namespace, *, flooded: bool) -> list[float]:
    """The waits of one tenant on fresh processes."""
    with tempfile.TemporaryDirectory(prefix="fairness-", dir=given.folder) as folder:
        cluster = Cluster(sys.executable, Path(folder).resolve(), given.durability)
        # Before the start: a control plane that runs takes a moment to notice a new one.
        tokens = {tenant: cluster.create_token(tenant) for tenant in ("measured", "flood")}
        with cluster:
            cluster.start_subworker("--concurrency", str(given.slots))
            if flooded:
                return _measure_in_flood(given, cluster, tokens)
            return _measured(given, cluster, tokens["measured"])


def _measure_in_flood(
    given: argparse.Namespace, cluster: Cluster, tokens: Mapping[str, str]
) -> list[float]:
    sizes = {"per_second": given.flood * given.slots / given.service, "service": given.service}
    flood = cluster.start_client("tenant.py", "flood", json.dumps(sizes), token=tokens["flood"])
    with flood:
        try:
            assert flood.stdout is not None
            if flood.stdout.readline() != "flooding\n":
                raise BenchmarkFailed(f"nobody floods:\n{cluster.logs()}")
            time.sleep(given.warm_up)
            waits = _measured(given, cluster, tokens["measured"])
            if flood.poll() is not None:
                raise BenchmarkFailed(f"the flood ended early:\n{cluster.logs()}")
            return waits
        finally:
            flood.kill()


def _measured(given: argparse.Namespace, cluster: Cluster, token: str) -> list[float]:
    every = given.service * PACE
    sizes = {"jobs": given.jobs, "every": every, "service": given.service}
    client = cluster.start_client("tenant.py", "measure", json.dumps(sizes), token=token)
    with client:
        try:
            output, _ = client.communicate(timeout=60 + 2 * given.jobs * every)
            waits: list[float] = json.loads(output)
        except ValueError as error:
            raise BenchmarkFailed(f"no waits were measured:\n{cluster.logs()}") from error
        finally:
            client.kill()
    return waits


def _p99(seconds: Sequence[float]) -> float:
    return sorted(seconds)[min(len(seconds) - 1, len(seconds) * 99 // 100)]


def _summary(seconds: Sequence[float]) -> str:
    times = (statistics.median(seconds), _p99(seconds), max(seconds))
    return "p50 {:.1f} ms, p99 {:.1f} ms, longest {:.1f} ms, of {} waits".format(
        *(each * 1e3 for each in times), len(seconds)
    )


if __name__ == "__main__":
    sys.exit(main())
