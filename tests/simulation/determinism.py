"""One seed, one run: every source of chance and time that a run could see is taken over here.

Trio decides the order of runnable tasks by a private generator and has a private switch that makes
that order depend on nothing else; `test_determinism.py` fails clearly should either be renamed.
Sets of text and bytes are walked in an order that belongs to the process, and nothing here can
change that: the same test runs a seed under two hash seeds.
"""

from __future__ import annotations

import os
import random
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import trio
from trio.testing import MockClock

TRIO_SWITCHES = ("_r", "_ALLOW_DETERMINISTIC_SCHEDULING")
"""In `trio._core._run`: the generator of the scheduler, and whether order depends on it alone."""

PID = 4242
HOST = "simulated"

EPOCH = 1_800_000_000.0
"""The time of day at which every run begins."""


def trio_internals() -> Any:
    """The module of Trio's scheduler.

    Raises:
        RuntimeError: this Trio has no such switches; runs cannot be repeated with it.
    """
    module = trio._core._run  # type: ignore[attr-defined]
    missing = [name for name in TRIO_SWITCHES if not hasattr(module, name)]
    if missing:
        raise RuntimeError(
            f"trio {trio.__version__} has no trio._core._run.{' and no '.join(missing)}: "
            "find what makes its scheduling repeatable now, and change tests/simulation"
        )
    return module


@contextmanager
def one_seed(seed: int, clock: MockClock) -> Iterator[None]:
    """Everything that is random or tells the time follows the seed and the clock meanwhile."""
    entropy = random.Random(f"entropy {seed}")
    internals = trio_internals()

    def init(self: random.Random, x: Any = None) -> None:
        # Without a seed of its own it takes one from the run.
        self.seed(entropy.getrandbits(64) if x is None else x)

    def urandom(count: int, /) -> bytes:
        return entropy.randbytes(count)

    def wall() -> float:
        return EPOCH + clock.current_time()

    before = random.getstate()
    with ExitStack() as stack:
        for target, name, replacement in (
            (internals, "_r", random.Random(f"scheduler {seed}")),
            (internals, "_ALLOW_DETERMINISTIC_SCHEDULING", True),
            (os, "urandom", urandom),
            (os, "getpid", lambda: PID),
            (secrets, "token_bytes", lambda count=32: urandom(count)),
            (random.Random, "__init__", init),
            (socket, "gethostname", lambda: HOST),
            (time, "time", wall),
            (time, "monotonic", clock.current_time),
        ):
            stack.enter_context(patch.object(target, name, replacement))
        random.seed(f"module {seed}")
        try:
            yield
        finally:
            random.setstate(before)
