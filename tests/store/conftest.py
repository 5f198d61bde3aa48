"""Every store that keeps the contract, one after another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fastworker.core.records import Saves
from fastworker.store.contract import Store
from fastworker.store.opening import open_store
from tests.store.builders import LANE, OTHER_LANE


@pytest.fixture(params=["memory", "power", "process"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    store = open_store(tmp_path / "store", request.param)
    store.load()
    store.save(Saves(lanes=[LANE, OTHER_LANE]))
    yield store
    store.close()
