"""The error tree: drawn as it is, one code each, and a sentence for whoever reads it."""

from __future__ import annotations

import importlib
import pkgutil
import re

import pytest

import fastworker
from fastworker import errors
from fastworker.errors import FastWorkerError

SENTENCE = "job 0190 is SUCCESS and cannot be cancelled; read its result instead"


def all_errors() -> list[type[FastWorkerError]]:
    """The classes of errors.py, in the order they are written."""
    return [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, FastWorkerError)
    ]


def drawn_tree() -> dict[str, str | None]:
    """Parent by name, as the docstring draws it."""
    parents: dict[str, str | None] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        drawn = re.match(r" {4}((?:│   |    )*)(?:[├└]── )?([A-Z]\w+)", line)
        if drawn is None:
            continue
        depth = len(drawn[1]) // 4 + ("── " in line)
        del above[depth:]
        parents[drawn[2]] = above[-1] if above else None
        above.append(drawn[2])
    return parents


def errors_everywhere() -> set[type[FastWorkerError]]:
    """All subclasses in the package, errors.py or not."""
    for module in pkgutil.walk_packages(fastworker.__path__, "fastworker."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found: set[type[FastWorkerError]] = set()
    waiting = [FastWorkerError]
    while waiting:
        error = waiting.pop()
        found.add(error)
        waiting += error.__subclasses__()
    return {error for error in found if error.__module__.startswith("fastworker.")}


def test_the_tree_is_drawn_as_it_is() -> None:
    real = {
        error.__name__: None if error is FastWorkerError else error.__bases__[0].__name__
        for error in all_errors()
    }
    assert drawn_tree() == real


def test_no_two_errors_have_one_code() -> None:
    # A class outside errors.py may keep its parent's code: to others it is its parent.
    by_code: dict[str, list[str]] = {}
    for error in errors_everywhere():
        if "code" in vars(error):
            by_code.setdefault(error.code, []).append(error.__name__)
    assert {code: names for code, names in by_code.items() if len(names) > 1} == {}


@pytest.mark.parametrize("error", all_errors(), ids=lambda error: error.__name__)
class TestEachError:
    def test_renders_to_the_sentence_it_was_given(self, error: type[FastWorkerError]) -> None:
        assert str(error(SENTENCE)) == SENTENCE

    def test_code_is_its_own_word_for_the_wire(self, error: type[FastWorkerError]) -> None:
        assert "code" in vars(error)
        assert re.fullmatch(r"[a-z]+(_[a-z]+)*", error.code)

    def test_says_what_it_means(self, error: type[FastWorkerError]) -> None:
        summary = (error.__doc__ or "").strip().splitlines()[0]
        assert summary[0].isupper()
        assert summary.endswith((".", ";")) or len(summary) > 80
