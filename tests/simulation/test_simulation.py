"""Nothing accepted is lost, whatever breaks: the whole system under seeded faults.

A failure prints the command that repeats its seed; run alone, a seed also leaves its trace.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.simulation.scenario import run_seed

pytestmark = pytest.mark.slow

ENOUGH_SEEDS = 50
"""From so many on, every rare path is expected to have been taken."""

RARE_PATHS = (
    # what is injected
    "break after",
    "break before",
    "client away",
    "client killed",
    "connection cut",
    "control plane restarted",
    "crash after",
    "crash at a cascade",
    "crash before",
    "everything paused",
    "frame repeated",
    "runner killed",
    "silence",
    "store full",
    "store full for outcomes",
    "subworker drained",
    "subworker isolated",
    "subworker killed",
    # what it must lead to
    "assigned again",
    "attempt: drain",
    "attempt: lease_expired",
    "attempt: retried",
    "attempt: runner_died",
    "cancel: cancelled",
    "cancel: finished_first",
    "cancel: unknown",
    "cancelled before its submission",
    "cancelled on arrival: its parent was",
    "cancelled with its parent while it ran",
    "cancelled with its parent while it waited",
    "cascade left over by a restart",
    "child submitted again",
    "child submitted at the end",
    "claims after a reconnection",
    "claims after a restart",
    "deduplicated",
    "detached: outlived its cancelled parent",
    "duplicate job",
    "ended: cancelled",
    "ended: dead",
    "ended: expired",
    "ended: failure",
    "ended: past its time limit",
    "ended: success",
    "group accepted",
    "handed back: lease_lost",
    "indeterminate",
    "lease revived",
    "leased while others of its line waited",
    "never sent",
    "owned: cancelled since its client had gone",
    "owned: kept, its client came back in time",
    "owned: kept, its client came back in time after a restart",
    "queue paused",
    "queue resumed",
    "refused: storage_full",
    "said to be a first try and stored",
    "stale claim",
    "stale outcome refused",
    "started again: its lease had expired",
    "started again: its policy asked for it",
    "started again: its runner was dead",
    "started again: its worker had ended",
    "submission repeated",
    "submitted again after a crash",
    "submitted again when in doubt",
    "withdrawn in time",
    "withdrawn too late",
)


class Campaign(NamedTuple):
    """All runs together."""

    seeds: range
    failures: list[str]
    counters: Counter[str]


@pytest.fixture(scope="module")
def campaign(seeds: range, tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    counters: Counter[str] = Counter()
    failures: list[str] = []
    folder: Path = tmp_path_factory.mktemp("simulation")
    for seed in seeds:
        record, found = run_seed(seed)
        counters += record.counters
        if found or len(seeds) == 1:
            trace = folder / f"seed-{seed}.txt"
            trace.write_text("\n".join(record.lines) + "\n", "utf-8")
            print(f"trace of seed {seed}: {trace}", file=sys.stderr)
        if found:
            command = f"python -m pytest tests/simulation --simulation-seed {seed}"
            failures.append("\n    ".join([f"seed {seed}: {command}", *found]))
    return Campaign(seeds, failures, counters)


def test_guarantees_hold_under_faults(campaign: Campaign) -> None:
    failures = campaign.failures
    assert not failures, f"{len(failures)} of {len(campaign.seeds)} seeds:\n" + "\n".join(failures)


def test_every_rare_path_was_taken(campaign: Campaign) -> None:
    if len(campaign.seeds) < ENOUGH_SEEDS:
        pytest.skip(f"needs {ENOUGH_SEEDS} seeds")
    counted = "\n".join(f"{times:8d} {path}" for path, times in sorted(campaign.counters.items()))
    print(counted)
    missing = [path for path in RARE_PATHS if not campaign.counters[path]]
    assert missing == [], f"never taken:\n{counted}"
