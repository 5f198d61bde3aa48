"""Every row of the bad-input matrix has its tests: the table in README.md names them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NOT_BUILT = "not built yet"
ROWS = [f"D{number:02}" for number in (*range(1, 36), 39)]


def table() -> dict[str, tuple[str, str]]:
    """Row → live tests, other tests."""
    found = {}
    for line in (HERE / "README.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if re.fullmatch(r"D\d\d", cells[0]):
            found[cells[0]] = cells[2], cells[3]
    return found


@pytest.mark.parametrize("row", ROWS)
def test_row_has_tests_that_exist(row: str) -> None:
    live, others = table()[row]
    if live == NOT_BUILT:
        assert row == "D33"
        return
    assert all(name.startswith("test_live_") for name in live.split(", "))
    for name in f"{live}, {others}".split(", "):
        file, _, function = name.partition("::")
        source = (HERE / f"{file}.py").read_text()
        assert re.search(rf"^(async )?def {function}\(", source, re.MULTILINE), name
