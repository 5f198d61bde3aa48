"""Rounds and seeds: ``--survival-rounds 100`` runs every test here a hundred times."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.survival.chaos import Site


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--survival-rounds", type=int, default=1, help="how often each survival test runs"
    )
    parser.addoption(
        "--survival-seed", type=int, default=None, help="run with this seed, as a failure names it"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "survival_round" in metafunc.fixturenames:
        rounds = metafunc.config.getoption("--survival-rounds", default=1)
        metafunc.parametrize("survival_round", range(rounds))


@pytest.fixture
def seed(survival_round: int, request: pytest.FixtureRequest) -> int:
    """A new one for every test and round, shown when it fails."""
    given = request.config.getoption("--survival-seed", default=None)
    return random.randrange(2**32) if given is None else int(given)


@pytest.fixture
def site(tmp_path: Path, seed: int) -> Iterator[Site]:
    """A place with nothing started yet; at the end nothing runs and no log has a traceback."""
    print(f"repeat with --survival-seed {seed}")
    with Site(tmp_path, seed) as site:
        yield site
        site.close()
        print(site.logs())  # shown with a test that failed
