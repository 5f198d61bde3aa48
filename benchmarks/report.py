"""Values by version, durability and metric; their medians, ratios and the table."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Results:
    """All values that were measured, in the order in which they were.

    Args:
        versions: their names; the ratio is that of the first to the second.
    """

    versions: Sequence[str]
    rounds: dict[tuple[str, str], dict[str, list[float]]] = field(default_factory=dict)
    """By durability and metric, then by version: the median of each round."""

    def add(self, version: str, durability: str, metrics: dict[str, list[float]]) -> None:
        """Take in one round of one version."""
        for metric, values in metrics.items():
            by_version = self.rounds.setdefault((durability, metric), {})
            by_version.setdefault(version, []).append(statistics.median(values))

    def rows(self) -> list[dict[str, Any]]:
        """One record a durability and metric; ``ratio`` if two versions were measured."""
        return [
            {
                "durability": durability,
                "metric": metric,
                "rounds": by_version,
                "median": {name: statistics.median(seen) for name, seen in by_version.items()},
                "ratio": self._ratio(by_version),
            }
            for (durability, metric), by_version in self.rounds.items()
        ]

    def _ratio(self, by_version: dict[str, list[float]]) -> float | None:
        """The median of the rounds' ratios: what disturbs one round disturbs both its sides."""
        if len(self.versions) != 2 or not all(name in by_version for name in self.versions):
            return None
        pairs = zip(*(by_version[name] for name in self.versions), strict=False)
        ratios = [mine / other for mine, other in pairs if other]
        return statistics.median(ratios) if ratios else None

    def table(self) -> str:
        """Medians of the rounds, as text."""
        headers = ["durability", "metric", *self.versions]
        headers += ["ratio"] if len(self.versions) == 2 else []
        lines = [headers]
        for row in self.rows():
            medians = [number_text(row["median"].get(name)) for name in self.versions]
            ratio = [number_text(row["ratio"])] if len(self.versions) == 2 else []
            lines.append([row["durability"], row["metric"], *medians, *ratio])
        return aligned_table(lines)


def aligned_table(lines: Sequence[Sequence[str]]) -> str:
    """Text in columns: two of words, then numbers."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(_aligned(line, widths) for line in lines)


def _aligned(line: Sequence[str], widths: Sequence[int]) -> str:
    cells = [
        cell.ljust(width) if at < 2 else cell.rjust(width)
        for at, (cell, width) in enumerate(zip(line, widths, strict=True))
    ]
    return "  ".join(cells).rstrip()


def number_text(value: float | None) -> str:
    """As tables show it; ``-`` where there is none."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"
