"""``python -m benchmarks.soak``: a steady mixed load, and whether anything grows meanwhile.

A control plane durable at ``power``, a subworker with a runner, two tenants. The memory and
descriptors of every process, the write-ahead log and latency are sampled; at the end the last
quarter of what follows the warm-up is compared with its first. Exit code 1: something was not
flat, or a job did not end as it should. Few results are kept, so that they are pruned all the time.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from benchmarks.cluster import BenchmarkFailed, Cluster
from benchmarks.machine import described
from benchmarks.report import aligned_table, number_text
from benchmarks.scale.probing import connected_client
from benchmarks.soak.flatness import FEWEST_SAMPLES, Verdict, judge
from benchmarks.soak.mixture import Mixture
from benchmarks.soak.sampling import sample_latencies, sample_processes, sample_store

TENANTS: Final = ("first", "second")
DEFAULT_SECONDS: Final = 1_800.0
SAMPLES: Final = 180
"""Taken in a run, if nothing else is said."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    add = parser.add_argument
    add("--seconds", type=float, default=DEFAULT_SECONDS, help="how long (%(default)s)")
    add("--rate", type=float, default=100.0, help="calls a second (%(default)s)")
    add("--samples", type=int, default=SAMPLES, help="in all (%(default)s)")
    add("--keep-results", type=int, default=5_000, help="then they are pruned (%(default)s)")
    add("--durability", default="power", help="as the control plane's flag (%(default)s)")
    add("--folder", type=Path, help="where state goes (the folder for temporary files)")
    add("--json", type=Path, metavar="FILE", help="write all samples there as JSON")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print the verdict; returns the exit code."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.samples < FEWEST_SAMPLES:
        parser.error(f"--samples: at least {FEWEST_SAMPLES}")
    if not Path("/proc/self/stat").exists():
        print("benchmarks.soak: it reads /proc, so it needs Linux", file=sys.stderr)
        return 2
    samples: list[dict[str, float]] = []
    trouble = ""
    try:
        _run(given, samples)
    except BenchmarkFailed as error:
        trouble = str(error)
    except ExceptionGroup as errors:
        trouble = "; ".join(f"{type(error).__name__}: {error}" for error in errors.exceptions)
    if given.json is not None:
        document = {"machine": described(), "options": _options(given), "samples": samples}
        given.json.write_text(json.dumps(document, indent=1) + "\n")
    if trouble:
        print(f"benchmarks.soak: {trouble}", file=sys.stderr)
        return 1
    verdicts = judge(samples)
    print(_table(verdicts), flush=True)
    return 0 if all(verdict.is_flat for verdict in verdicts) else 1


def _run(given: argparse.Namespace, samples: list[dict[str, float]]) -> None:
    with tempfile.TemporaryDirectory(prefix="soak-", dir=given.folder) as folder:
        cluster = Cluster(sys.executable, Path(folder).resolve(), given.durability)
        cluster.environment["FASTWORKER_KEEP_RESULTS_COUNT"] = str(given.keep_results)
        for tenant in TENANTS:
            cluster.create_token(tenant)
        with cluster:
            cluster.start_subworker()
            asyncio.run(_soak(given, cluster, samples))


async def _soak(
    given: argparse.Namespace, cluster: Cluster, samples: list[dict[str, float]]
) -> None:
    tokens = [cluster.tokens[tenant] for tenant in TENANTS]
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(connected_client(cluster, token)) for token in tokens
        ]
        mixture = Mixture(cluster, clients, tokens)
        sampling = asyncio.create_task(_sample(given, cluster, mixture, samples))
        try:
            await mixture.run(given.rate, given.seconds)
        finally:
            sampling.cancel()
            await asyncio.wait([sampling])
        if not sampling.cancelled():
            sampling.result()
        print(f"{mixture.ended:,} jobs ended as they should", flush=True)


async def _sample(
    given: argparse.Namespace, cluster: Cluster, mixture: Mixture, samples: list[dict[str, float]]
) -> None:
    began, store = time.monotonic(), Path(cluster.environment["FASTWORKER_STORE"])
    pids = {**cluster.pids, "client": [os.getpid()]}
    while True:
        due = began + (len(samples) + 1) * given.seconds / given.samples
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        taken = mixture.take_latencies()
        processes = sample_processes(pids)
        samples.append(
            {"at (s)": time.monotonic() - began, "jobs": float(mixture.ended)}
            | processes
            | sample_store(store)
            | sample_latencies(taken)
        )


def _table(verdicts: Sequence[Verdict]) -> str:
    lines = [["flat?", "figure", "at first", "at last", "allowed"]]
    for verdict in verdicts:
        figures = [number_text(each) for each in (verdict.first, verdict.last, verdict.allowed)]
        lines.append(["yes" if verdict.is_flat else "NO", verdict.name, *figures])
    return aligned_table(lines)


def _options(given: argparse.Namespace) -> dict[str, Any]:
    return {name: str(value) for name, value in vars(given).items()}


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
    sys.exit(130)
