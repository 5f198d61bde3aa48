"""``python -m benchmarks.scale``: what a job costs when there is more of something.

Five series: jobs that wait, idle subworkers, idle clients, bytes of payload, and jobs of four
priorities and two tenants at once. Every size starts fresh processes on a fresh store. Sizes are
numbers with commas; none (``--clients ""``) leaves a series out.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.cluster import BenchmarkFailed, Cluster
from benchmarks.machine import described
from benchmarks.scale import connected, mixed, payloads, queued
from benchmarks.scale.probing import MEGABYTE, Effort
from benchmarks.scale.series import Series


class Kind(NamedTuple):
    """One series."""

    name: str
    unit: str
    sizes: str
    """By default."""
    measure: Callable[[Cluster, int, Effort], Awaitable[dict[str, list[float]]]]
    tenants: Sequence[str] = ()
    """Whose tokens must be there from the start."""


KINDS: Final = (
    Kind("queued", "jobs that wait", "1000,10000,100000,1000000", queued.measure),
    Kind("subworkers", "idle subworkers", "1,10,100,1000", connected.measure_subworkers),
    Kind("clients", "idle clients", "1,10,100,1000,10000", connected.measure_clients),
    Kind("payloads", "bytes", "0,1000,10000,100000,1000000", payloads.measure),
    Kind("mixed", "jobs", "8000,80000", mixed.measure, mixed.TENANTS),
)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    add = parser.add_argument
    for kind in KINDS:
        add(f"--{kind.name}", type=_sizes, default=kind.sizes, help=f"{kind.unit} (%(default)s)")
    add("--jobs", type=int, default=10_000, help="in bulk beside each size (%(default)s)")
    add("--idle", type=int, default=200, help="one at a time beside each size (%(default)s)")
    add("--watch-seconds", type=float, default=10.0, help="of an idle system (%(default)s)")
    add("--payload-megabytes", type=float, default=100.0, help="for each size (%(default)s)")
    add("--durability", default="power", help="as the control plane's flag (%(default)s)")
    add("--rounds", type=int, default=1, help="how often all of it (%(default)s)")
    add("--folder", type=Path, help="where state goes (the folder for temporary files)")
    add("--json", type=Path, metavar="FILE", help="write everything there as JSON")
    return parser


def _sizes(text: str) -> list[int]:
    return [int(word) for word in text.split(",") if word]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the tables, write the JSON; returns the exit code."""
    given = _parser().parse_args(arguments)
    if not Path("/proc/self/stat").exists():
        print("benchmarks.scale: it reads /proc, so it needs Linux", file=sys.stderr)
        return 2
    found = {kind.name: Series(kind.name, kind.unit) for kind in KINDS}
    try:
        for number in range(given.rounds):
            for kind in KINDS:
                for size in getattr(given, kind.name):
                    _say(f"round {number + 1} of {given.rounds}: {size:,} {kind.unit}")
                    found[kind.name].add(size, _measure(given, kind, size))
    except BenchmarkFailed as error:
        print(f"benchmarks.scale: {error}", file=sys.stderr)
        return 1
    measured = {name: series for name, series in found.items() if series.rounds}
    print("\n\n".join(series.table() for series in measured.values()), flush=True)
    if given.json is not None:
        document = {
            "machine": described(),
            "durability": given.durability,
            "series": {name: series.as_document() for name, series in measured.items()},
        }
        given.json.write_text(json.dumps(document, indent=1) + "\n")
    return 0


def _measure(given: argparse.Namespace, kind: Kind, size: int) -> dict[str, list[float]]:
    effort = Effort(
        jobs=given.jobs,
        idle=given.idle,
        watch_seconds=given.watch_seconds,
        payload_bytes=int(given.payload_megabytes * MEGABYTE),
    )

    async def measure() -> dict[str, list[float]]:
        return await kind.measure(cluster, size, effort)

    with tempfile.TemporaryDirectory(prefix="scale-", dir=given.folder) as folder:
        cluster = Cluster(sys.executable, Path(folder).resolve(), given.durability)
        for tenant in kind.tenants:
            cluster.create_token(tenant)
        with cluster:
            return asyncio.run(measure())


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
    sys.exit(130)
