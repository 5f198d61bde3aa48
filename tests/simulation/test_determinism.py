"""One seed gives one trace, byte for byte; otherwise no failure could be looked at twice."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio
from trio.testing import MockClock

from tests.simulation import determinism
from tests.simulation.scenario import run_seed

ROOT = Path(__file__).parent.parent.parent
SEED = 7
PROCESS_SECONDS = 60

DIGEST_PROGRAM = """
import sys
from tests.simulation.scenario import run_seed
print(run_seed(int(sys.argv[1]))[0].digest())
"""


def test_same_seed_gives_the_same_trace() -> None:
    first, _ = run_seed(SEED)
    second, _ = run_seed(SEED)
    assert first.lines == second.lines
    assert len(first.lines) > 100


def test_another_seed_gives_another_trace() -> None:
    assert run_seed(SEED)[0].digest() != run_seed(SEED + 1)[0].digest()


def test_trace_does_not_depend_on_the_process() -> None:
    digests = {_digest_in_a_process(hash_seed) for hash_seed in ("1", "2")}
    assert len(digests) == 1, "something acts in the order of a set of text or bytes"


def _digest_in_a_process(hash_seed: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-c", DIGEST_PROGRAM, str(SEED)],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PROCESS_SECONDS,
        check=True,
    )
    return ended.stdout


def test_trio_has_the_switches() -> None:
    internals = determinism.trio_internals()
    assert isinstance(internals._r, random.Random)
    assert internals._ALLOW_DETERMINISTIC_SCHEDULING in (False, True)


def test_order_of_runnable_tasks_depends_on_the_seed_alone() -> None:
    """The switches do what they are there for, in this version of Trio."""
    orders = {tuple(_order_of_tasks(seed)) for seed in (1, 1, 1, 2, 3)}
    assert _order_of_tasks(1) == _order_of_tasks(1)
    assert len(orders) == 3


def _order_of_tasks(seed: int) -> list[int]:
    order: list[int] = []

    async def note(number: int) -> None:
        await trio.lowlevel.checkpoint()
        order.append(number)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(note, number)

    clock = MockClock(autojump_threshold=0)
    with determinism.one_seed(seed, clock):
        trio.run(main, clock=clock)
    return order


def test_a_trio_without_the_switches_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(determinism.trio, "_core", SimpleNamespace(_run=SimpleNamespace(_r=None)))
    with pytest.raises(RuntimeError, match="_ALLOW_DETERMINISTIC_SCHEDULING"):
        determinism.trio_internals()


def test_everything_is_put_back_after_a_run() -> None:
    before = os.urandom, os.getpid, time.time, random.Random.__init__
    run_seed(SEED)
    assert (os.urandom, os.getpid, time.time, random.Random.__init__) == before
    assert random.Random().random() != random.Random().random()
