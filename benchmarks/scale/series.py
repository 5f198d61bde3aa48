"""Figures by series, size and metric: medians of rounds, one table a series."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.report import aligned_table, number_text


@dataclass(slots=True)
class Series:
    """One thing of which there is more and more.

    Args:
        name: as on the command line.
        unit: what a size counts.
    """

    name: str
    unit: str
    rounds: dict[str, dict[int, list[float]]] = field(default_factory=dict)
    """By metric, then by size: one value a round."""

    def add(self, size: int, metrics: Mapping[str, Sequence[float]]) -> None:
        """Take in one round of one size."""
        for metric, values in metrics.items():
            by_size = self.rounds.setdefault(metric, {})
            by_size.setdefault(size, []).append(statistics.median(values))

    def as_document(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {
            "unit": self.unit,
            "metrics": {
                metric: [
                    {"size": size, "median": statistics.median(values), "rounds": values}
                    for size, values in sorted(by_size.items())
                ]
                for metric, by_size in self.rounds.items()
            },
        }

    def table(self) -> str:
        """A line a metric, a column a size."""
        sizes = sorted({size for by_size in self.rounds.values() for size in by_size})
        lines = [[self.name, self.unit, *(f"{size:,}" for size in sizes)]]
        for metric, by_size in self.rounds.items():
            name, _, unit = metric.partition(" (")
            medians = [statistics.median(by_size[at]) if at in by_size else None for at in sizes]
            lines.append([name, unit.removesuffix(")"), *map(number_text, medians)])
        return aligned_table(lines)
