"""What broke something once, and what reaches far, is tried again; and a little is tried anew."""

from __future__ import annotations

import random
import time

import pytest

from tests.fuzzing.dispatching import Broken, no_bugs_logged
from tests.fuzzing.guided import FAILED, fuzz_by_chance
from tests.fuzzing.mutating import CORPUS, minimised, mutate, seeds
from tests.fuzzing.targets import TARGETS, Target

INPUT_SECONDS = 5.0
"""For one input on a busy machine; most take milliseconds."""

TRIED_SECONDS = 0.3
"""Of new inputs for each target; `nox -s fuzz` tries for an hour, and looks at coverage."""

KEPT = [(path.parent.name, path.name) for path in sorted(CORPUS.glob("*/*"))]


def test_every_target_has_a_corpus_and_every_corpus_a_target() -> None:
    assert {name for name, _ in KEPT} == set(TARGETS)
    assert sum(path.stat().st_size for path in CORPUS.glob("*/*")) < 200_000


@pytest.mark.parametrize(("name", "kept"), KEPT)
def test_kept_input_breaks_nothing(name: str, kept: str) -> None:
    started = time.monotonic()
    TARGETS[name].check((CORPUS / name / kept).read_bytes())
    assert time.monotonic() - started < INPUT_SECONDS


@pytest.mark.parametrize("name", TARGETS)
def test_new_inputs_break_nothing(name: str) -> None:
    assert fuzz_by_chance(name, TRIED_SECONDS, seed=1) != FAILED


@pytest.mark.parametrize("name", TARGETS)
def test_the_same_seed_makes_the_same_inputs(name: str) -> None:
    pool = list(seeds(name))
    once, again = (
        [mutate(name, chance.choice(pool), chance) for _ in range(20)]
        for chance in (random.Random(7), random.Random(7))
    )
    assert once == again


def test_what_is_found_is_made_as_small_as_it_can_be() -> None:
    def fails_with_both(data: bytes) -> None:
        assert not (b"a" in data and b"b" in data)

    assert minimised(Target(fails_with_both, b"ab"), b"xxaxxxxbxx" * 20) in (b"ab", b"ba")


def test_an_error_that_is_logged_as_a_bug_is_found() -> None:
    import logging

    with pytest.raises(Broken, match="report it"), no_bugs_logged():
        logging.getLogger("fastworker.server").error("it broke; please report it")
