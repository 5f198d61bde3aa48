"""All checks of this project: `nox` runs what the build server runs.

Needs nothing but Python 3.11 or later and nox itself. The sets of tools are the dependency groups
of pyproject.toml. Interpreters are looked for on PATH and in pyenv's folder; one that is missing
is reported and its session skipped, since only the Python that runs nox can be taken for granted.

    nox                     everything
    nox -s tests-3.12       one session
    nox -s tests-3.12 -- tests/wire -k codec      and what pytest is to do
    nox -s faults           the fault matrix in full: hours, and best with nothing beside it
    nox -s faults -- -k c07 one row of it
    nox -s soak             half an hour of steady load; what grows fails it
    nox -s soak -- --seconds 28800        a night of it
    nox -s fuzz             an hour of fuzzing, guided by coverage
    nox -s fuzz -- --seconds 60 frames dispatch   so long, and only these
"""

from __future__ import annotations

import functools
import glob
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nox

ROOT = Path(__file__).parent
PROJECT = nox.project.load_toml("pyproject.toml")
REPORTS = ROOT / ".nox" / "reports"

RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"
"""The full suite, slow tests too, runs on this Python; the others leave the slow ones out."""
SUPPORTED = ("3.11", "3.12", "3.13")
VERSIONS = tuple(dict.fromkeys((RUNNING, *SUPPORTED)))

SHARED = ("-n", "2", "--dist", "loadfile")
"""Most tests wait for other processes: two share the work, each with whole files."""
WAITING = ("-n", "3", "--dist", "load")
"""For tests that mostly wait: the fault matrix in full takes about an hour, instead of four."""

PROBE = "import ssl, sqlite3, sys, venv; print('%d.%d' % sys.version_info[:2])"
PROBE_SECONDS = 30
"""Long enough for a cold disk; an interpreter that needs more is of no use."""

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"
nox.options.error_on_missing_interpreters = True


def group(name: str) -> list[str]:
    """The requirements of one dependency group."""
    return list(nox.project.dependency_groups(PROJECT, name))


def candidates(version: str) -> Iterator[str]:
    """Where a Python of this version may be, best first."""
    if version == RUNNING:
        yield getattr(sys, "_base_executable", None) or sys.executable
    if found := shutil.which(f"python{version}"):
        yield found
    pyenv = os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv")
    yield from sorted(glob.glob(f"{pyenv}/versions/{version}.*/bin/python{version}"), reverse=True)


@functools.cache
def interpreter(version: str) -> str | None:
    """The path of a Python of this version that really runs, or None.

    It is asked for its version, because a pyenv shim exists whether or not it leads anywhere.
    """
    for path in candidates(version):
        try:
            answer = subprocess.run(
                [path, "-c", PROBE], capture_output=True, text=True, timeout=PROBE_SECONDS
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        if answer.returncode == 0 and answer.stdout.strip() == version:
            return path
    return None


def run_pytest(session: nox.Session, *arguments: str, report: str | None = None) -> None:
    """Run tests; how many passed goes into a report, which the build server adds up."""
    REPORTS.mkdir(parents=True, exist_ok=True)
    path = REPORTS / f"{report or session.name}.xml"
    session.run("python", "-m", "pytest", f"--junitxml={path}", *arguments)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and likely mistakes: ruff."""
    session.install(*group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", "--diff", ".")


@nox.session
def typing(session: nox.Session) -> None:
    """Types: mypy, strict, over the package; both checkers over calls; pyright over the public."""
    session.install(".", *group("typing"))
    session.run("mypy", *session.posargs)
    run_pytest(session, "tests/typing")
    # basedpyright brings pyright and its node in wheels: nothing is fetched when it runs. It reads
    # the installed package, so run it where the checkout does not shadow that.
    with session.chdir(session.create_tmp()):
        session.run("python", str(ROOT / ".ci" / "public_types.py"))


def run_tests(session: nox.Session, version: str) -> None:
    session.install("-e", ".", *group("test"))
    chosen = [] if version == RUNNING else ["-m", "not slow"]
    run_pytest(session, *(session.posargs or [*SHARED, *chosen]))


def define_tests(version: str) -> None:
    """One session a Python, also for those that are not there, so that they are reported."""
    path = interpreter(version)

    def tests(session: nox.Session) -> None:
        run_tests(session, version)

    def missing(session: nox.Session) -> None:
        session.skip(f"MISSING INTERPRETER: no Python {version} on PATH or in ~/.pyenv/versions")

    if path is None:
        missing.__doc__ = f"Python {version} is not on this machine."
        nox.session(name=f"tests-{version}", venv_backend="none")(missing)
    else:
        tests.__doc__ = f"The tests on Python {version}."
        nox.session(name=f"tests-{version}", python=path)(tests)


for _version in VERSIONS:
    define_tests(_version)


@nox.session(default=False)
def lowest(session: nox.Session) -> None:
    """The tests with the lowest version of every direct dependency that pyproject.toml allows,
    and of what the control plane sends webhooks with."""
    project = PROJECT["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["webhooks"]]
    floors = [line.replace(">=", "==") for line in wanted]
    constraints = Path(session.create_tmp()).resolve() / "floors.txt"
    constraints.write_text("\n".join(floors) + "\n", encoding="utf-8")
    session.install("-e", ".", *group("test"), "--constraint", str(constraints))
    # Old versions meet new ones of what they need in turn, and are warned: that is not ours.
    warnings = ("-W", "default::DeprecationWarning")
    run_pytest(session, *warnings, *(session.posargs or ["-m", "not slow"]))


@nox.session(default=False)
def faults(session: nox.Session) -> None:
    """The fault matrix in full, with the promised times as they are; a little of it is in tests.

    Root, strace, nft and a C compiler let it inject everything; the end says what was not possible.
    """
    session.install("-e", ".", *group("test"))
    rounds = () if any("--fault-rounds" in given for given in session.posargs) else ("full",)
    everything = ["tests/faults", *(f"--fault-rounds={each}" for each in rounds)]
    if session.posargs:
        run_pytest(session, *everything, *session.posargs)
        return
    run_pytest(session, *everything, "-m", "quiet")
    run_pytest(session, *everything, "-m", "not quiet", *WAITING, report="faults-others")


@nox.session(default=False)
def fuzz(session: nox.Session) -> None:
    """Everything that reads bytes is given bytes nobody thought of; a little of it is in tests."""
    session.install("-e", ".", *group("test"), *group("fuzz"))
    session.run("python", "-m", "tests.fuzzing", *session.posargs)


@nox.session(default=False)
def soak(session: nox.Session) -> None:
    """Half an hour of steady load: memory, descriptors, write-ahead log and latency stay flat."""
    session.install("-e", ".")
    session.run("python", "-m", "benchmarks.soak", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """The documents; any warning is an error."""
    session.install(".", *group("docs"))
    session.run(
        "sphinx-build", "-W", "--keep-going", "-q", "-b", "html", "docs", "docs/_build/html"
    )


@nox.session
def package(session: nox.Session) -> None:
    """Build the wheel, install it in an environment that has nothing else, and run it."""
    session.install(*group("package"))
    dist = Path(session.create_tmp()).resolve() / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(dist), str(ROOT), silent=True)
    (wheel,) = dist.glob("*.whl")

    bare = Path(session.create_tmp()).resolve() / "bare"
    shutil.rmtree(bare, ignore_errors=True)
    session.run("python", "-m", "venv", str(bare))
    python = str(bare / "bin" / "python")
    session.run(python, "-m", "pip", "install", "--quiet", str(wheel), external=True)
    session.run(python, "-m", "pip", "check", external=True)
    with session.chdir(bare):  # away from the checkout, which would shadow what was installed
        session.run(str(bare / "bin" / "fastworker"), "version", external=True)
