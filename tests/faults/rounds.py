"""How often a fault is injected: a little in CI, what its row asks for in full."""

from __future__ import annotations

import pytest

from tests.faults.report import REPORT


class Rounds:
    """What ``--fault-rounds`` asks for: ``ci``, ``full`` or a number."""

    def __init__(self, given: str) -> None:
        self.given = given
        self._number = None if given in ("ci", "full") else int(given)

    @property
    def is_full(self) -> bool:
        """Whether the promised times hold as they are, without patience for a busy machine."""
        return self.given == "full"

    def of(self, what: str, *, ci: int, full: int) -> int:
        """How many rounds; they are counted in the report under ``what``."""
        count = {"ci": ci, "full": full}.get(self.given, self._number or 0)
        REPORT.counts[what] += count
        return count

    def only_full(self, row: str, *, instead: str | None = None) -> None:
        """Leave a row that takes long out of CI, and say so at the end.

        Args:
            row: of the fault matrix.
            instead: the test that has a little of the same in CI.
        """
        if self.given == "ci":
            REPORT.left_out.append(row if instead is None else f"{row} (in CI: {instead})")
            pytest.skip(f"{row} runs only with --fault-rounds full, or a number")

    def portions(self, what: str, *, ci: int, full: int, each: int) -> list[int]:
        """`of`, cut into parts: a site that lives too long has more jobs than it can check."""
        whole, rest = divmod(self.of(what, ci=ci, full=full), each)
        return [each] * whole + ([rest] if rest else [])
