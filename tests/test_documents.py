"""What the documents show runs: README, tutorial and every how-to page, against real processes.

In a how-to page a block says in its first line what it is: ``# tasks.py`` is loaded by the
workers, ``# app.py`` is a program, ``# fastworker.toml`` is in force where the page's programs
run. A ``text`` block after a program is what it prints. In a ``console`` block each line that
begins with ``$`` is run, and what follows is what it prints; ``…`` stands for anything.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

from fastworker.config.settings import DEFAULTS, OPTIONS, flag_name, variable_name
from fastworker.core.tenants import Tenants
from tests.support.cluster import Cluster

ROOT = Path(__file__).parent.parent
HOW_TO = ROOT / "docs" / "how-to"
PROGRAM_SECONDS = 90
"""Longer than any of these programs takes on a busy machine, shorter than a test may take."""

TESTED_ELSEWHERE = {"deploy", "fastapi", "testing", "tls"}
"""By tests/examples, tests/integrations and tests/cli: they need more than a cluster."""

PAGES = sorted(page.stem for page in HOW_TO.glob("*.md") if page.stem not in TESTED_ELSEWHERE)

LONGEST_PAGE_LINES = 80

CALL_APPLICATION = """
import asyncio

async def drive():
    await startup()
    print("total", await total(2, 3))
    await shutdown()

asyncio.run(drive())
"""

CALL_TYPED = """
import asyncio
from fastworker import Client

async def drive():
    async with Client():
        print("total", await typed())

asyncio.run(drive())
"""


class Block(NamedTuple):
    """One fenced block of a document."""

    language: str
    text: str

    def is_file(self, name: str) -> bool:
        return self.text.startswith(f"# {name}\n")


def blocks_of(path: Path) -> list[Block]:
    fenced = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    return [Block(*found.groups()) for found in fenced.finditer(path.read_text("utf-8"))]


def python_blocks(document: str) -> list[str]:
    return [block.text for block in blocks_of(ROOT / document) if block.language == "python"]


def all_tasks() -> str:
    """The tasks of every document as one module: a worker loads one ``tasks``."""
    found = [python_blocks(document)[0] for document in ("README.md", "docs/tutorial.md")]
    return "\n\n".join([*found, *(text for page in PAGES for text in tasks_of(page))])


def tasks_of(page: str) -> list[str]:
    return [b.text for b in blocks_of(HOW_TO / f"{page}.md") if b.is_file("tasks.py")]


def run(cluster: Cluster, command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run it as a user of the cluster would: ``fastworker`` and the tasks can be found."""
    environment = cluster.client_environment()
    environment["PYTHONPATH"] = f"{environment['PYTHONPATH']}:{cluster.folder}"
    environment["FASTWORKER_STORE"] = str(cluster.folder / "store")
    environment["PATH"] = f"{cluster.folder / 'bin'}:{os.environ['PATH']}"
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PROGRAM_SECONDS,
    )


def run_program(cluster: Cluster, source: str, folder: Path) -> str:
    """Run a program as an application would be; what it prints."""
    # The documents speak of the default port.
    source = source.replace("127.0.0.1:5555", cluster.address.removeprefix("tcp://"))
    finished = run(cluster, [sys.executable, "-c", source], folder)
    assert finished.returncode == 0, f"{finished.stderr}\n{cluster.logs()}"
    return finished.stdout


def run_console(cluster: Cluster, text: str, folder: Path) -> None:
    """Run each command of a console block and compare what it prints."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        finished = run(cluster, ["sh", "-c", command], folder)
        pattern = ".*".join(map(re.escape, expected.strip("\n").split("…")))
        printed = finished.stdout.strip("\n")
        assert re.fullmatch(pattern, printed), f"{command}\n{printed}\n{finished.stderr}"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One control plane and one subworker, with the tasks of all documents."""
    folder = tmp_path_factory.mktemp("documents")
    command = folder / "bin" / "fastworker"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m fastworker "$@"\n')
    command.chmod(0o755)
    with Cluster(folder, tasks=all_tasks(), module="tasks") as cluster:
        cluster.control_plane()
        cluster.subworker("sw1")
        yield cluster


def test_no_two_pages_have_a_task_of_one_name() -> None:
    pages: dict[str, str] = {}
    for page in PAGES:
        for each in ast.parse("\n".join(tasks_of(page))).body:
            if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
                assert pages.setdefault(each.name, page) == page, each.name


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize(
    ("document", "call"),
    [("README.md", CALL_APPLICATION), ("docs/tutorial.md", CALL_TYPED)],
)
def test_document_does_what_it_shows(cluster: Cluster, document: str, call: str) -> None:
    _, script, application = python_blocks(document)
    assert run_program(cluster, script, cluster.folder).split()[-1] == "5"
    assert run_program(cluster, application + call, cluster.folder) == "total 5\n"


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_page_does_what_it_shows(cluster: Cluster, tmp_path: Path, page: str) -> None:
    blocks = [*blocks_of(HOW_TO / f"{page}.md"), Block("", "")]
    # Each page begins without the tokens that others have made, and shows its own alone.
    (cluster.folder / "store" / "tokens.json").unlink(missing_ok=True)
    for block in blocks:
        if block.is_file("fastworker.toml"):
            (tmp_path / "fastworker.toml").write_text(block.text)
    executed = 0
    for block, following in pairwise(blocks):
        if block.is_file("app.py"):
            printed = run_program(cluster, block.text, tmp_path)
            assert following.language == "text", "show what the program prints"
            assert printed.splitlines() == following.text.splitlines()
            executed += 1
        elif block.language == "console":
            run_console(cluster, block.text, tmp_path)
            executed += 1
    assert executed, "every page has an example that runs"


@pytest.mark.parametrize("page", PAGES)
def test_page_is_short(page: str) -> None:
    lines = (HOW_TO / f"{page}.md").read_text("utf-8").splitlines()
    assert len(lines) <= LONGEST_PAGE_LINES


def test_python_blocks_that_are_not_run_are_marked_py() -> None:
    for page in PAGES:
        for block in blocks_of(HOW_TO / f"{page}.md"):
            if block.language == "python":
                assert block.is_file("tasks.py") or block.is_file("app.py"), page


def test_the_reference_has_every_setting_as_it_is() -> None:
    reference = (ROOT / "docs" / "reference-settings.md").read_text("utf-8")
    rows = [line for line in reference.splitlines() if re.match(r"\| .* `FASTWORKER_", line)]
    assert rows == [setting_row(name) for name in OPTIONS]


def setting_row(name: str) -> str:
    """The line of the reference's table for one setting."""
    option = OPTIONS[name]
    flag = f"`{flag_name(name)}`" if option.has_flag else "–"
    key = f"`{name}`" if option.in_files else "–"
    default = DEFAULTS[name]
    if default in (None, (), Tenants()):
        shown = "–"
    elif isinstance(default, tuple):
        shown = f"`{','.join(default)}`"
    else:
        shown = f"`{str(default).lower().removesuffix('.0')}`"
    return f"| {flag} | `{variable_name(name)}` | {key} | {shown} | {option.help} |"
