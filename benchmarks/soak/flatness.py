"""When a figure counts as flat: its last quarter compared with its first, after a warm-up. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

WARM_UP_SHARE: Final = 0.25
"""Of the samples: by then imports, pools, caches and the first results have found their size."""
PARTS: Final = 4
FEWEST_SAMPLES: Final = 8
"""Below, a quarter says nothing."""

Sample = Mapping[str, float]


class Allowance(NamedTuple):
    """How much more a figure may be at the end than at the beginning.

    Args:
        prefix: how the names of these figures begin.
        share: of what it was.
        margin: and so much more, in its unit.
        of: what stands for a quarter.
    """

    prefix: str
    share: float
    margin: float
    of: Callable[[Sequence[float]], float] = statistics.median


ALLOWANCES: Final = (
    # Fragments of an allocator; a leak of 50 bytes a job goes beyond it in half an hour.
    Allowance("resident memory", 0.05, 4.0),
    # Short-lived clients and threads of SQLite that happen to be there.
    Allowance("descriptors", 0.0, 4.0),
    # It grows until the next checkpoint: the highest counts.
    Allowance("write-ahead log", 0.5, 8.0, max),
    # Other programs disturb it; what grows with what is stored would be a multiple.
    Allowance("p50", 0.5, 2.0),
    Allowance("p99", 1.0, 20.0),
)


class Verdict(NamedTuple):
    """One figure: what it was, what it became, how much it might have become."""

    name: str
    first: float
    last: float
    allowed: float

    @property
    def is_flat(self) -> bool:
        """Whether it kept within its allowance."""
        return self.last <= self.allowed


def judge(samples: Sequence[Sample]) -> list[Verdict]:
    """Each figure that has an allowance.

    Raises:
        ValueError: too few samples.
    """
    if len(samples) < FEWEST_SAMPLES:
        raise ValueError(f"{len(samples)} samples say nothing; take at least {FEWEST_SAMPLES}")
    steady = samples[int(len(samples) * WARM_UP_SHARE) :]
    quarter = max(1, len(steady) // PARTS)
    names = dict.fromkeys(name for sample in steady for name in sample)
    verdicts = []
    for name in names:
        allowance = next((each for each in ALLOWANCES if name.startswith(each.prefix)), None)
        if allowance is None:
            continue
        first = _of(allowance, steady[:quarter], name)
        last = _of(allowance, steady[-quarter:], name)
        allowed = first * (1 + allowance.share) + allowance.margin
        verdicts.append(Verdict(name, first, last, allowed))
    return verdicts


def _of(allowance: Allowance, part: Sequence[Sample], name: str) -> float:
    """A process that is gone, or a quarter in which no job ended, is no flat line."""
    values = [sample[name] for sample in part if name in sample]
    return allowance.of(values) if values else float("nan")
