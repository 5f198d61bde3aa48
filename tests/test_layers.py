"""Imports point from doing to deciding: the table of layers, checked in every file's syntax tree.

An import inside a function or under ``TYPE_CHECKING`` counts like any other: it ties two layers
together all the same. The one exception is ``fastworker/__init__.py``, the public door.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "fastworker"

EVERYWHERE = ("errors", "version")

MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "errors": (),
    "version": (),
    "core": (),
    "wire": ("core.records", "core.ids", "core.names"),
    "store": ("core",),
    "local_token": (),
    "logs": (),
    "tls": (),
    "options": ("core.records", "core.ids", "core.names", "core.keys"),
    "config": (
        *("core.records", "core.names", "core.tenants"),
        *("wire.addresses", "wire.handshake", "local_token", "tls"),
    ),
    # A task's own `delay`, `submit` and `stream` go through the process's one started client.
    "tasks": (
        *("core.records", "core.names", "core.lengths", "options"),
        *("client.current", "client.handles", "client.streams"),
    ),
    "transport": ("wire", "core.ids", "tls"),
    # `store.opening` turns a location into something that fulfils the contract, and says no more.
    "server": (
        *("core", "wire", "transport"),
        *("store.contract", "store.thread", "store.opening", "tls"),
    ),
    "worker": ("core.records", "core.ids", "wire", "transport", "logs"),
    "runner": (
        "core.records",
        "core.ids",
        "core.lengths",
        "tasks",
        "wire",
        "client.ambient",
        "logs",
    ),
    "client": (
        *("core.records", "core.ids", "core.names", "core.keys", "core.lengths"),
        *("wire", "tasks", "options", "config", "tls"),
    ),
    # The whole system in one process, for tests of applications; nothing but its fixtures uses it.
    "testing": (
        *("client", "server", "worker", "runner"),
        *("core", "wire", "transport", "tasks"),
    ),
    "integrations": (
        *("client", "server", "worker", "core", "wire", "tasks", "options", "config"),
        "testing",
    ),
    "cli": ("",),
    "__main__": ("cli",),
}
"""By layer: what it may import beside itself (module prefixes under ``fastworker``; "" is all)."""

LIGHT = ("trio", "typer", "rich", "pydantic", "websockets", "anyio", "cbor2", "sqlite3")
"""What ``import fastworker`` must not load, so that importing it costs an application nothing."""


class Import(NamedTuple):
    importer: str
    imported: str
    line: int


def module_name(path: Path) -> str:
    parts = list(path.relative_to(PACKAGE).with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts)


def modules() -> dict[str, Path]:
    return {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported_names(node: ast.Import | ast.ImportFrom, package: list[str]) -> Iterator[str]:
    """The full names an import statement may mean: the module, and each name in it."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    base = package[: len(package) - node.level + 1] if node.level else []
    source = ".".join([*base, *([node.module] if node.module else [])])
    yield from (f"{source}.{alias.name}" for alias in node.names)


def imports_in(source: str, *, module: str, is_package: bool) -> Iterator[Import]:
    """Every import of our own modules in one file, wherever in the file it stands."""
    whole = ["fastworker", *(module.split(".") if module else [])]
    package = whole if is_package else whole[:-1]
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        for name in imported_names(node, package):
            root, _, imported = name.partition(".")
            if root == "fastworker":
                yield Import(module, imported, node.lineno)


def is_allowed(found: Import) -> bool:
    layer = found.importer.partition(".")[0]
    if found.imported.partition(".")[0] == layer:
        return True
    return any(
        not prefix or found.imported == prefix or found.imported.startswith(prefix + ".")
        for prefix in (*EVERYWHERE, *MAY_IMPORT[layer])
    )


def violations() -> list[str]:
    found = []
    for module, path in modules().items():
        if not module:
            continue  # fastworker/__init__.py gives out the names of every layer
        is_package = path.name == "__init__.py"
        for item in imports_in(path.read_text("utf-8"), module=module, is_package=is_package):
            if not is_allowed(item):
                place = f"{path.relative_to(ROOT)}:{item.line}"
                found.append(f"{place} imports fastworker.{item.imported}")
    return found


def test_every_module_belongs_to_a_layer() -> None:
    layers = {module.partition(".")[0] for module in modules() if module}
    assert layers <= set(MAY_IMPORT), "give a new layer a row in MAY_IMPORT"


def test_imports_point_from_doing_to_deciding() -> None:
    assert violations() == []


@pytest.mark.parametrize(
    ("module", "source", "allowed"),
    [
        ("core.jobs", "from fastworker.errors import FastWorkerError", True),
        ("core.jobs", "import fastworker.wire.codec", False),
        ("core.jobs", "from ..wire import codec", False),
        ("core.jobs", "def f():\n    from fastworker.store import contract", False),
        ("core.jobs", "if TYPE_CHECKING:\n    from fastworker.server import roster", False),
        ("server.roster", "from fastworker.store.contract import Store", True),
        ("server.roster", "from fastworker.store import sqlite", False),
        ("wire.codec", "from fastworker.core import records", True),
        ("wire.codec", "from fastworker.core import dispatcher", False),
        ("worker.session", "from fastworker.cli import main", False),
        ("worker.session", "import fastworker", False),
        ("cli.run", "from fastworker.server import app", True),
    ],
)
def test_the_rule_sees_every_form_of_import(module: str, source: str, allowed: bool) -> None:
    (found,) = imports_in(source, module=module, is_package=False)
    assert is_allowed(found) is allowed


def test_only_config_reads_the_environment() -> None:
    readers = [
        str(path.relative_to(ROOT))
        for module, path in modules().items()
        if module.partition(".")[0] != "config"
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv", "environb"}
    ]
    assert readers == []


def test_importing_the_package_loads_nothing_heavy() -> None:
    program = "import fastworker, sys; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert set(LIGHT).isdisjoint(loaded.stdout.split())
