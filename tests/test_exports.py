"""The public door: all names resolve, and importing it loads nothing heavy."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import fastworker
from fastworker import errors

HEAVY = ("trio", "anyio", "typer", "rich", "pydantic", "websockets", "cbor2", "sqlite3")


def loaded_after(statement: str) -> set[str]:
    program = f"import sys; {statement}; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent.parent,
    )
    return set(run.stdout.split())


@pytest.mark.parametrize(
    "statement", ["import fastworker", "from fastworker import task, TaskPriority, TaskError"]
)
def test_importing_loads_nothing_heavy(statement: str) -> None:
    assert loaded_after(statement).isdisjoint(HEAVY)


def test_the_heavy_modules_would_be_noticed() -> None:
    assert "cbor2" in loaded_after("import fastworker.wire.values")


@pytest.mark.parametrize("name", fastworker.__all__)
def test_every_public_name_resolves_and_is_listed(name: str) -> None:
    assert getattr(fastworker, name) is not None
    assert name in dir(fastworker)


def test_every_error_is_public() -> None:
    classes = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert classes <= set(fastworker.__all__)


def test_type_checkers_are_told_the_same_names_from_the_same_places() -> None:
    tree = ast.parse(Path(fastworker.__file__).read_text("utf-8"))
    typed = {
        (alias.name, node.module)
        for branch in tree.body
        if isinstance(branch, ast.If)
        for node in branch.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert {name for name, _ in typed} == set(fastworker.__all__)
    for name, module in typed:
        assert module is not None
        assert getattr(importlib.import_module(module), name) is getattr(fastworker, name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Clint'"):
        fastworker.Clint  # noqa: B018
