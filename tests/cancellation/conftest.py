"""How many moments of a call are tried: ``--cancellation-moments all``, or at most so many."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator

import pytest

CI_MOMENTS = 30
"""Of one call; a call that has more is cancelled at a selection of them."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--cancellation-moments",
        default=str(CI_MOMENTS),
        help="cancel a call at most at so many of its checkpoints; all: at every one",
    )


@pytest.fixture
def limit(request: pytest.FixtureRequest) -> int:
    """At how many moments a call is cancelled at most."""
    # Without this folder among pytest's arguments the option is not known.
    given = request.config.getoption("--cancellation-moments", default=str(CI_MOMENTS))
    return sys.maxsize if given == "all" else int(given)


@pytest.fixture(scope="module", autouse=True)
def _only_new_objects() -> Iterator[None]:
    """`leftovers.held_locks` looks at all objects: those of before would take most of its time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
