"""Several rounds as one: medians of the rounds, and our ratios to the best of the others."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from benchmarks.peers.harness import OURS
from benchmarks.report import aligned_table, number_text


class Figure(NamedTuple):
    """One figure of a workload."""

    workload: str
    key: str
    what: str
    more_is_better: bool


FIGURES: Final = (
    Figure("W1", "tasks_per_s", "throughput (tasks/s)", True),
    Figure("W1x2", "tasks_per_s", "throughput, two workers (tasks/s)", True),
    Figure("W2", "submit_per_s", "submit only (tasks/s)", True),
    Figure("W3", "p50_ms", "idle latency, p50 (ms)", False),
    Figure("W3", "p99_ms", "idle latency, p99 (ms)", False),
    Figure("W4", "p50_ms", "latency at 200/s, p50 (ms)", False),
    Figure("W4", "p99_ms", "latency at 200/s, p99 (ms)", False),
    Figure("W5", "seconds", "1,000 naps of 0.1 s, 100 at once (s)", False),
    Figure("W6", "first_result_s", "launch to first result (s)", False),
    Figure("W6", "pss_mb", "memory of all processes, PSS (MiB)", False),
    Figure("W7", "drained_per_s", "backlog drained (tasks/s)", True),
)

Round = Mapping[str, Any]


def value_of(answer: Mapping[str, Any], key: str) -> float | None:
    """A figure of one run; None where it failed, was skipped, or lost or mistook a result."""
    if "error" in answer or answer.get("problems"):
        return None
    found = answer.get(key)
    value = found.get("median") if isinstance(found, Mapping) else found
    return None if value is None else float(value)


def problems_of(rounds: Sequence[Round]) -> list[str]:
    """What went wrong, a line each: such a run has no figure."""
    lines = []
    for number, one in enumerate(rounds, 1):
        for peer, answers in one["runs"].items():
            for workload, answer in answers.items():
                wrong = answer.get("error") or answer.get("problems") or answer.get("skipped")
                if wrong:
                    lines.append(f"round {number}, {workload}, {peer}: {wrong}")
    return lines


def rows(rounds: Sequence[Round]) -> list[dict[str, Any]]:
    """One record a figure: each peer's rounds and their median, and our ratios.

    A ratio is that of one of ours to the best of the others in the same round, above 1 where ours
    is better; the median of the rounds' ratios is given.
    """
    found = []
    for figure in FIGURES:
        seen: dict[str, list[float | None]] = {}
        for at, one in enumerate(rounds):
            for peer, answers in one["runs"].items():
                if figure.workload in answers:
                    values = seen.setdefault(peer, [None] * len(rounds))
                    values[at] = value_of(answers[figure.workload], figure.key)
        if seen:
            found.append(_row(figure, seen))
    return found


def _row(figure: Figure, seen: Mapping[str, Sequence[float | None]]) -> dict[str, Any]:
    given = {peer: [value for value in seen[peer] if value is not None] for peer in seen}
    others = [peer for peer in seen if peer not in OURS]
    ratios: dict[str, float | None] = {}
    for ours in OURS:
        if ours in seen and others:
            each = [_ratio(figure, seen, ours, others, at) for at in range(len(seen[ours]))]
            known = [ratio for ratio in each if ratio is not None]
            ratios[ours] = statistics.median(known) if known else None
    return {
        "workload": figure.workload,
        "figure": figure.what,
        "rounds": seen,
        "median": {peer: statistics.median(got) if got else None for peer, got in given.items()},
        "ratio to the best peer": ratios,
    }


def _ratio(
    figure: Figure,
    seen: Mapping[str, Sequence[float | None]],
    ours: str,
    others: Sequence[str],
    at: int,
) -> float | None:
    mine = seen[ours][at]
    theirs = [value for peer in others if (value := seen[peer][at]) is not None]
    if not mine or not theirs:
        return None
    if figure.more_is_better:
        return mine / max(theirs) if max(theirs) else None
    return min(theirs) / mine


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """Medians of all peers, and ours as multiples of the best other one."""
    peers = list(dict.fromkeys(peer for row in found for peer in row["median"]))
    ours = [peer for peer in peers if peer in OURS]
    lines = [["workload", "figure", *peers, *(f"ratio of {name}" for name in ours)]]
    for row in found:
        medians = [number_text(row["median"].get(peer)) for peer in peers]
        ratios = [number_text(row["ratio to the best peer"].get(peer)) for peer in ours]
        lines.append([row["workload"], row["figure"], *medians, *ratios])
    return aligned_table(lines)
