"""``python -m benchmarks.peers``: this fastworker and other task queues under the same workloads.

Needs the harness with the others' environments set up, and psutil in this interpreter. In every
round each workload is run by one peer after the other; rounds alternate their order. Ratios are
those to the best of the others in the same round, above 1 where ours is better.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.cluster import BenchmarkFailed
from benchmarks.machine import described
from benchmarks.peers.harness import OURS, Harness
from benchmarks.peers.merging import Round, problems_of, rows, table

WORKLOADS = "W1,W1x2,W2,W3,W4,W5,W6,W7"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers",
        description=__doc__,
        epilog="Options that are not listed go to run.py of the harness: --tasks 1000 --reps 2.",
    )
    add = parser.add_argument
    add("--harness", type=Path, required=True, help="its folder, with run.py in it")
    add("--peers", default="saq,celery,huey-sqlite", help="other peers, with commas (%(default)s)")
    add("--this", default=",".join(OURS), help="of ours, with commas (%(default)s)")
    add("--workloads", default=WORKLOADS, help="with commas (%(default)s)")
    add("--rounds", type=int, default=3, help="how often all of it (%(default)s)")
    home = Path("~/.cache/fastworker-peers").expanduser()
    add("--environments", type=Path, default=home, help="of the others (%(default)s)")
    add("--folder", type=Path, help="where state goes (the folder for temporary files)")
    add("--json", type=Path, metavar="FILE", help="write everything there as JSON")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON; returns the exit code: 1 if one of ours failed."""
    given, options = _parser().parse_known_args(arguments)
    if importlib.util.find_spec("psutil") is None:
        print("benchmarks.peers: the harness needs psutil in this environment", file=sys.stderr)
        return 2
    ours = [name for name in given.this.split(",") if name]
    names = [*ours, *(name for name in given.peers.split(",") if name)]
    try:
        rounds = _measure(given, names, options)
    except BenchmarkFailed as error:
        print(f"benchmarks.peers: {error}", file=sys.stderr)
        return 1
    found = rows(rounds)
    print(table(found), flush=True)
    for line in problems_of(rounds):
        print(line)
    if given.json is not None:
        document = {"machine": described(), "results": found, "rounds": rounds}
        given.json.write_text(json.dumps(document, indent=1) + "\n")
    failed = [row for row in found if any(row["median"].get(name) is None for name in ours)]
    return 1 if failed else 0


def _measure(given: argparse.Namespace, names: list[str], options: list[str]) -> list[Round]:
    workloads = given.workloads.split(",")
    rounds: list[Round] = []
    with tempfile.TemporaryDirectory(prefix="peers-", dir=given.folder) as folder:
        harness = Harness(given.harness.resolve(), given.environments, Path(folder).resolve())
        for number in range(given.rounds):
            order = names if number % 2 == 0 else names[::-1]
            print(f"round {number + 1} of {given.rounds}", file=sys.stderr, flush=True)
            rounds.append(harness.run(order, workloads, *options))
    return rounds


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
    sys.exit(130)
