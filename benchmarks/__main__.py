"""``python -m benchmarks``: measures the fastworker of this interpreter, or two against each other.

Every round starts fresh processes on a fresh store; rounds of two versions alternate, and which
goes first alternates too, so that a slow minute of the machine falls on both.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.cluster import BenchmarkFailed, Cluster
from benchmarks.machine import described
from benchmarks.report import Results

DURABILITIES: Final = ("power", "process", "memory")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__.partition("\n")[0] if __doc__ else None
    )
    add = parser.add_argument
    add("--jobs", type=_positive, default=10_000, help="jobs of a throughput run (%(default)s)")
    add(
        "--repeat",
        type=_positive,
        default=3,
        help="throughput and idle runs in a round (%(default)s)",
    )
    add("--idle", type=_positive, default=300, help="jobs one at a time (%(default)s)")
    add("--paced-rate", type=float, default=200.0, help="naps a second (%(default)s)")
    add("--paced-seconds", type=float, default=5.0, help="how long (%(default)s)")
    add("--backlog", type=_positive, default=50_000, help="jobs before the subworker (%(default)s)")
    add("--rounds", type=_positive, default=1, help="each with fresh processes (%(default)s)")
    add(
        "--durability",
        default="power,memory",
        type=_durabilities,
        help="of power, process, memory, with commas (%(default)s)",
    )
    add("--against", metavar="PYTHON", help="another interpreter, with another version installed")
    add("--folder", type=Path, help="where state goes (the folder for temporary files)")
    add("--json", type=Path, metavar="FILE", help="write everything there as JSON")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("give at least 1")
    return number


def _durabilities(text: str) -> list[str]:
    words = text.split(",")
    if wrong := [word for word in words if word not in DURABILITIES]:
        raise argparse.ArgumentTypeError(f"{wrong[0]!r} is none of {', '.join(DURABILITIES)}")
    return words


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON; returns the exit code."""
    given = _parser().parse_args(arguments)
    if not Path("/proc/self/stat").exists():
        print("benchmarks: they read /proc, so they need Linux", file=sys.stderr)
        return 2
    try:
        pythons = {"this": sys.executable} | ({"other": given.against} if given.against else {})
        about = {name: _about(python) for name, python in pythons.items()}
        results = _measure_all(given, pythons)
    except BenchmarkFailed as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    print(results.table(), flush=True)
    if given.json is not None:
        given.json.write_text(json.dumps(_document(given, about, results), indent=2) + "\n")
    return 0


def _measure_all(given: argparse.Namespace, pythons: dict[str, str]) -> Results:
    results = Results(list(pythons))
    for number in range(given.rounds):
        for durability in given.durability:
            order = list(pythons.items())
            for name, python in order if number % 2 == 0 else reversed(order):
                _say(f"round {number + 1} of {given.rounds}: {name}, {durability}")
                for what in ("steady", "backlog"):
                    metrics = _measure(given, python, durability, what)
                    results.add(name, durability, metrics)
    return results


def _measure(
    given: argparse.Namespace, python: str, durability: str, what: str
) -> dict[str, list[float]]:
    sizes = {
        name: getattr(given, name)
        for name in ("jobs", "repeat", "idle", "paced_rate", "paced_seconds", "backlog")
    }
    with (
        tempfile.TemporaryDirectory(prefix="benchmark-", dir=given.folder) as folder,
        Cluster(python, Path(folder).resolve(), durability) as cluster,
    ):
        if what == "steady":
            cluster.start_subworker()
        return cluster.measure(what, sizes)


def _about(python: str) -> dict[str, str]:
    """Which version an interpreter has."""
    code = "import fastworker, sys; print(fastworker.__version__, sys.version.split()[0])"
    try:
        asked = subprocess.run(
            [python, "-c", code], capture_output=True, text=True, cwd=tempfile.gettempdir()
        )
    except OSError as error:
        raise BenchmarkFailed(f"cannot run {python}: {error.strerror}") from error
    if asked.returncode != 0:
        raise BenchmarkFailed(f"{python} has no fastworker installed:\n{asked.stderr}")
    version, _, python_version = asked.stdout.strip().partition(" ")
    return {"interpreter": python, "fastworker": version, "python": python_version}


def _document(given: argparse.Namespace, about: Any, results: Results) -> dict[str, Any]:
    return {
        "options": {
            name: str(value) if isinstance(value, Path) else value
            for name, value in vars(given).items()
        },
        "machine": described(),
        "versions": about,
        "results": results.rows(),
    }


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
    sys.exit(130)
