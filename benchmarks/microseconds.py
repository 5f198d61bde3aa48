"""``python -m benchmarks.microseconds``: where each microsecond of a job goes, by process.

Every process is sampled as it uses the processor (`sampler/`), while one kind of load runs. A
function's share of the samples, times the processor time for a job, is what it costs a job: by
itself, and with all that it calls. Sampling slows everything a little: compare functions with
each other, not with figures of other runs.
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
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks import load
from benchmarks.cluster import BenchmarkFailed, Cluster
from benchmarks.machine import described
from benchmarks.report import aligned_table, number_text
from benchmarks.sampler import sitecustomize as sampler
from benchmarks.scale.probing import probing

LOADS: Final = {
    "bulk": load.bulk,
    "submit": load.concurrent_submit,
    "delay": load.concurrent_delay,
    "idle": load.idle_latency,
}


class Profile(NamedTuple):
    """One process during the load.

    Args:
        micros: of its processor time, for a job.
        samples: stacks, the innermost function last.
    """

    process: str
    micros: float
    samples: Sequence[tuple[str, ...]]

    def rows(self) -> list[dict[str, Any]]:
        """What each function costs a job, dearest first."""
        alone = Counter(stack[-1] for stack in self.samples)
        within = Counter(name for stack in self.samples for name in set(stack))
        each = self.micros / max(1, len(self.samples))
        return [
            {
                "process": self.process,
                "function": name,
                "own (µs/job)": alone[name] * each,
                "with callees (µs/job)": count * each,
            }
            for name, count in sorted(within.items(), key=lambda item: (-alone[item[0]], -item[1]))
        ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Sample, print the table, write the JSON; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.microseconds", description=__doc__)
    add = parser.add_argument
    add("--load", choices=LOADS, default="bulk", help="what runs (%(default)s)")
    add("--jobs", type=int, default=50_000, help="of the load (%(default)s)")
    add("--top", type=int, default=15, help="functions shown of a process (%(default)s)")
    add("--durability", default="power", help="as the control plane's flag (%(default)s)")
    add("--folder", type=Path, help="where state goes (the folder for temporary files)")
    add("--json", type=Path, metavar="FILE", help="write all functions there as JSON")
    add("--stacks", type=Path, metavar="FILE", help="write stacks there, for flame graphs")
    given = parser.parse_args(arguments)
    if not Path("/proc/self/stat").exists():
        print("benchmarks.microseconds: it reads /proc, so it needs Linux", file=sys.stderr)
        return 2
    try:
        profiles = _sample(given)
    except BenchmarkFailed as error:
        print(f"benchmarks.microseconds: {error}", file=sys.stderr)
        return 1
    print(_table(profiles, given.top), flush=True)
    if given.json is not None:
        functions = [row for profile in profiles for row in profile.rows()]
        document = {"machine": described(), "load": given.load, "functions": functions}
        given.json.write_text(json.dumps(document, indent=1) + "\n")
    if given.stacks is not None:
        given.stacks.write_text("".join(_collapsed(profiles)))
    return 0


def _sample(given: argparse.Namespace) -> list[Profile]:
    with tempfile.TemporaryDirectory(prefix="samples-", dir=given.folder) as folder:
        samples = Path(folder).resolve() / "samples"
        samples.mkdir()
        state = samples.with_name("cluster")
        state.mkdir()
        cluster = Cluster(sys.executable, state, given.durability)
        path = (str(Path(sampler.__file__).parent), os.environ.get("PYTHONPATH", ""))
        cluster.environment["PYTHONPATH"] = os.pathsep.join(filter(None, path))
        cluster.environment[sampler.TARGET_VARIABLE] = str(samples)
        with cluster:
            cluster.start_subworker()
            return asyncio.run(_measure(cluster, samples, given.load, given.jobs))


async def _measure(cluster: Cluster, samples: Path, what: str, jobs: int) -> list[Profile]:
    async with probing(cluster) as probe:
        await probe.warm_up()
        sampler.start(str(samples))
        began = time.monotonic()
        try:
            await LOADS[what](probe.client, probe.meter, jobs)
        finally:
            sampler.stop()
        ended = time.monotonic()
    return [
        Profile(
            who,
            probe.metrics[f"{what}: CPU of {who} (µs/job)"][0],
            [stack for pid in pids for stack in _stacks(samples / f"{pid}.samples", began, ended)],
        )
        for who, pids in probe.meter.pids.items()
    ]


def _stacks(file: Path, began: float, ended: float) -> Iterator[tuple[str, ...]]:
    """The samples between two moments; a process that used no time has no file, or none."""
    if not file.exists():
        return
    for line in file.read_text().splitlines():
        at, _, names = line.partition("\t")
        if began <= float(at) <= ended:
            yield tuple(names.split(";"))


def _table(profiles: Sequence[Profile], top: int) -> str:
    lines = [["process", "function", "own µs/job", "with callees"]]
    for profile in profiles:
        title = f"everything, {len(profile.samples)} samples"
        lines.append([profile.process, title, "", number_text(profile.micros)])
        lines += [_line(row) for row in profile.rows()[:top]]
    return aligned_table(lines)


def _line(row: Mapping[str, Any]) -> list[str]:
    figures = (row["own (µs/job)"], row["with callees (µs/job)"])
    return ["", row["function"], *map(number_text, figures)]


def _collapsed(profiles: Sequence[Profile]) -> Iterator[str]:
    for profile in profiles:
        for stack, count in Counter(profile.samples).items():
            yield f"{profile.process};{';'.join(stack)} {count}\n"


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
    sys.exit(130)
