"""The checkout holds what it should and nothing else, and its front page keeps its word."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

TOP_LEVEL = {
    ".ci",
    ".gitignore",
    "CONTRIBUTING.md",
    "LICENSE",
    "README.md",
    "SECURITY.md",
    "benchmarks",
    "docs",
    "examples",
    "fastworker",
    "newsfragments",
    "noxfile.py",
    "pyproject.toml",
    "tests",
}
"""A new name at the top needs a reason, and a line in the README's folder map."""

PACKAGE_TOP_LEVEL = {
    "__init__.py",
    "__main__.py",
    "cli",
    "client",
    "config",
    "core",
    "errors.py",
    "integrations",
    "local_token.py",
    "logs.py",
    "options.py",
    "py.typed",
    "runner",
    "server",
    "store",
    "tasks",
    "testing",
    "tls.py",
    "transport",
    "version.py",
    "wire",
    "worker",
}

README = (ROOT / "README.md").read_text("utf-8")
COMMAND_LINES = re.findall(r"^```sh\n(.+)\n```$", README, re.MULTILINE)


def tracked_files() -> list[str]:
    """What git would publish: tracked, or neither tracked nor ignored."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listing.returncode != 0:
        pytest.skip("not a git checkout")
    return [name for name in listing.stdout.split("\0") if (ROOT / name).exists()]


def test_top_level_names_are_the_expected_ones() -> None:
    assert {name.partition("/")[0] for name in tracked_files() if name} <= TOP_LEVEL


def test_package_names_are_the_expected_ones() -> None:
    names = {name.split("/")[1] for name in tracked_files() if name.startswith("fastworker/")}
    assert names <= PACKAGE_TOP_LEVEL


def test_readme_begins_with_two_commands_of_one_line() -> None:
    first_screen = "\n".join(README.splitlines()[:40])
    assert all(command in first_screen for command in COMMAND_LINES[:2])
    main_job, all_tests = COMMAND_LINES[:2]
    assert "pip install -q ." in main_job
    assert "nox" in all_tests


def test_build_server_runs_the_readmes_test_command() -> None:
    assert COMMAND_LINES[1] in (ROOT / ".ci" / "run").read_text("utf-8").splitlines()


def test_documents_never_install_by_name() -> None:
    """The name on the package index belongs to another project."""
    by_name = re.compile(r"(pip|pipx|uv|uvx|poetry)\b[^\n`|]*\b(install|add|run)?\s+fastworker\b")
    wrong = [
        f"{path.relative_to(ROOT)}: {found[0]}"
        for pattern in ("*.md", "docs/**/*.md", "examples/**/*")
        for path in ROOT.glob(pattern)
        if path.is_file() and path.suffix in {".md", ".yaml", ".yml", ".txt", ".toml", ""}
        for found in by_name.finditer(path.read_text("utf-8"))
    ]
    assert wrong == []


def test_every_dependency_has_a_floor() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    groups = [
        project["project"]["dependencies"],
        *project["project"]["optional-dependencies"].values(),
        *project["dependency-groups"].values(),
    ]
    assert [line for group in groups for line in group if ">=" not in line] == []


def test_every_source_file_says_what_lives_there() -> None:
    silent = [
        name
        for name in tracked_files()
        if name.startswith("fastworker/") and name.endswith(".py")
        if not (ROOT / name).read_text("utf-8").lstrip().startswith(('"""', 'r"""'))
    ]
    assert silent == []
