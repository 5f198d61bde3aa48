"""What the terminal shows at the end: what could not be injected, what was measured, how much.

One list for the whole run, filled by the tests and printed by the hook in ``conftest.py``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Report:
    """Everything to be shown at the end of a run."""

    missing: dict[str, str] = field(default_factory=dict)
    """Why a row could not be injected on this machine."""
    left_out: list[str] = field(default_factory=list)
    """Rows that run only with ``--fault-rounds full``."""
    figures: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    """How often each fault was injected."""

    def to_plain(self) -> dict[str, Any]:
        """All of it, for another process."""
        return {**asdict(self), "counts": dict(self.counts)}

    def add(self, plain: Mapping[str, Any]) -> None:
        """Take over what another process has reported."""
        self.missing.update(plain["missing"])
        self.left_out += plain["left_out"]
        self.figures += plain["figures"]
        self.counts.update(plain["counts"])

    def lines(self) -> list[str]:
        """What to show, in order; nothing if no fault test ran."""
        shown = [f"measured: {line}" for line in self.figures]
        if self.counts:
            counted = ", ".join(f"{what} {count:,}" for what, count in sorted(self.counts.items()))
            shown.append(f"injected: {counted}")
        if self.left_out:
            rows = ", ".join(sorted(set(self.left_out)))
            shown.append(f"only with --fault-rounds full: {rows}")
        for row, reason in sorted(self.missing.items()):
            shown.append(f"not injectable here: {row} ({reason})")
        if shown:
            shown.append(f"rows not injectable on this machine: {len(self.missing)}")
        return shown


REPORT = Report()


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that this share of all values does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def spread(values: Sequence[float]) -> str:
    """Median, p99 and most, in words; the values are seconds."""
    shares = ((0.5, "p50"), (0.99, "p99"), (1.0, "most"))
    parts = (f"{name} {percentile(values, share):.3f} s" for share, name in shares)
    return f"{len(values)}×: {', '.join(parts)}"
