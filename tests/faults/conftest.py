"""Rounds, seeds and the report of the fault matrix.

``--fault-rounds``: ``ci`` (default: a small, bounded selection), ``full`` (what each row asks for,
by ``nox -s faults``) or a number of rounds for every test. ``--fault-seed`` repeats one.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.faults.report import REPORT, Report
from tests.faults.rounds import Rounds
from tests.faults.site import FaultSite, NewSite

HERE = Path(__file__).parent
CI_PATIENCE = 3.0
"""Promised times, multiplied where a busy build server measures them."""
FULL_TIMEOUT_SECONDS = 4 * 3600
"""A safety net for a row in full, instead of the short one of every test."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--fault-rounds", default="ci", help="ci, full, or how many rounds of every fault"
    )
    parser.addoption(
        "--fault-seed", type=int, default=None, help="run with this seed, as a failure names it"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE not in item.path.parents:
            continue
        item.add_marker(pytest.mark.process)
        item.add_marker(pytest.mark.slow)
        if item.config.getoption("--fault-rounds", default="ci") != "ci":
            item.add_marker(pytest.mark.timeout(FULL_TIMEOUT_SECONDS))


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> Rounds:
    """How often to inject."""
    return Rounds(request.config.getoption("--fault-rounds", default="ci"))


@pytest.fixture
def seed(request: pytest.FixtureRequest, rounds: Rounds) -> int:
    """A new one for every test, shown when it fails."""
    given = request.config.getoption("--fault-seed", default=None)
    seed = random.randrange(2**32) if given is None else int(given)
    print(f"repeat with: {request.node.nodeid} --fault-rounds {rounds.given} --fault-seed {seed}")
    return seed


@pytest.fixture
def patience(rounds: Rounds) -> float:
    """The factor on every promised time."""
    return 1.0 if rounds.is_full else CI_PATIENCE


@pytest.fixture
def sites(tmp_path: Path, seed: int, patience: float) -> NewSite:
    """Makes places with nothing started yet; ``with sites() as site`` checks the logs, too."""
    numbers = itertools.count()

    @contextmanager
    def new_site() -> Iterator[FaultSite]:
        number = next(numbers)
        folder = tmp_path / f"site{number}"
        folder.mkdir()
        with FaultSite(folder, seed + number, patience=patience) as site:
            yield site

    return new_site


@pytest.fixture
def site(sites: NewSite) -> Iterator[FaultSite]:
    """The only place of a test; at the end nothing runs and no log has a traceback."""
    with sites() as site:
        yield site
        site.close()
        print(site.logs()[-20_000:])  # shown with a test that failed


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where several processes share the tests: give the report to the one that shows it."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["faults"] = REPORT.to_plain()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take over the report of a process that has ended."""
    REPORT.add(getattr(node, "workeroutput", {}).get("faults", Report().to_plain()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    lines = REPORT.lines()
    if lines:
        terminalreporter.section("faults")
        for line in lines:
            terminalreporter.line(line)
