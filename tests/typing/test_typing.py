"""mypy and pyright agree on what is a right call, and refuse each wrong one."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
RIGHT, WRONG = HERE / "calls.py", HERE / "wrong_calls.py"
WRONG_LINES = {
    number
    for number, line in enumerate(WRONG.read_text("utf-8").splitlines(), 1)
    if line.endswith("# wrong")
}


@pytest.fixture(scope="module")
def mypy_lines(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[int]]:
    """The lines of the two files that mypy finds errors in."""
    pytest.importorskip("mypy")
    # Only what is said of the two files counts: the package has a check of its own.
    run = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent"),
            *("--config-file=", "--explicit-package-bases", "--no-error-summary"),
            *("--cache-dir", str(tmp_path_factory.mktemp("mypy"))),
            *map(str, (RIGHT, WRONG)),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    found: dict[str, set[int]] = {RIGHT.name: set(), WRONG.name: set()}
    for line in run.stdout.splitlines():
        error = re.match(r"(.+\.py):(\d+): error:", line)
        assert error is not None or ": note:" in line, run.stdout + run.stderr
        if error is not None:
            found[Path(error[1]).name].add(int(error[2]))
    assert not run.stderr, run.stderr
    return found


@pytest.fixture(scope="module")
def pyright_lines() -> dict[str, set[int]]:
    """The lines of the two files that pyright finds errors in."""
    pyright = next(
        (name for name in ("basedpyright", "pyright") if importlib.util.find_spec(name)), None
    )
    if pyright is None:
        pytest.skip("neither basedpyright nor pyright is installed")
    run = subprocess.run(
        [
            *(sys.executable, "-m", pyright, "--outputjson", "--level", "error"),
            *("--pythonpath", sys.executable),
            *map(str, (RIGHT, WRONG)),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    found: dict[str, set[int]] = {RIGHT.name: set(), WRONG.name: set()}
    for each in json.loads(run.stdout)["generalDiagnostics"]:
        found[Path(each["file"]).name].add(each["range"]["start"]["line"] + 1)
    return found


def test_mypy_takes_every_right_call_and_no_wrong_one(mypy_lines: dict[str, set[int]]) -> None:
    assert mypy_lines == {RIGHT.name: set(), WRONG.name: WRONG_LINES}


def test_pyright_takes_every_right_call_and_no_wrong_one(
    pyright_lines: dict[str, set[int]],
) -> None:
    assert pyright_lines == {RIGHT.name: set(), WRONG.name: WRONG_LINES}
