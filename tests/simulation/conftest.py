"""How many seeds a run of the simulation takes, and which.

python -m pytest tests/simulation --simulation-seeds 5000
python -m pytest tests/simulation --simulation-seed 1234        only that one, with its trace
"""

from __future__ import annotations

from pathlib import Path

import pytest

FOLDER = Path(__file__).parent

DEFAULT_SEEDS = 80


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fastworker simulation")
    group.addoption("--simulation-seeds", type=int, default=DEFAULT_SEEDS, help="how many seeds")
    group.addoption("--simulation-seed", type=int, default=None, help="only this one")


@pytest.fixture(scope="session")
def seeds(pytestconfig: pytest.Config) -> range:
    """The seeds of this run."""
    # Without this folder among pytest's arguments the options are not known.
    one = pytestconfig.getoption("--simulation-seed", None)
    if one is not None:
        return range(one, one + 1)
    return range(pytestconfig.getoption("--simulation-seeds", DEFAULT_SEEDS))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A long run may take as long as it takes; one that does not end is ended by the store."""
    if config.getoption("--simulation-seeds", DEFAULT_SEEDS) > DEFAULT_SEEDS:
        for item in items:
            if item.path.is_relative_to(FOLDER):
                item.add_marker(pytest.mark.timeout(0))
