"""The systemd units: their command lines are real ones, and systemd judges them if it is there."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import typer

from fastworker.cli.app import app
from fastworker.cli.exits import USAGE
from fastworker.config import Settings, resolve
from fastworker.config.settings import OPTIONS, variable_name
from fastworker.errors import StoreLocked, StoreUnusable
from fastworker.wire.addresses import parse_address
from tests.support.cluster import ROOT

UNITS = ROOT / "examples" / "deployment" / "systemd"
SERVERS = ["control-plane", "subworker"]
PROGRAM = "/opt/fastworker/bin/fastworker"
MOST_EXPOSED = 2.0
"""Of systemd's own measure, from 0 to 10: below 2 is what it shows with a smile."""


class _Unit(configparser.RawConfigParser):
    """A unit file; what is given several times is kept as several lines."""

    def __init__(self, path: Path) -> None:
        super().__init__(strict=False, delimiters=("=",), comment_prefixes=("#",))
        self.optionxform = str  # type: ignore[assignment,method-assign]
        text = re.sub(r"\\\n\s*", "", path.read_text("utf-8"))
        self.repeated: dict[str, list[str]] = {}
        for line in text.splitlines():
            name, equals, value = line.partition("=")
            if equals and not line.startswith("#"):
                self.repeated.setdefault(name, []).append(value)
        self.read_string(text)


def unit(name: str) -> _Unit:
    return _Unit(UNITS / f"fastworker-{name}.service")


def settings_of(name: str, tmp_path: Path, environ: dict[str, str] | None = None) -> Settings:
    """What the real command line makes of the unit's."""
    program, *rest = shlex.split(unit(name)["Service"]["ExecStart"])
    assert program == PROGRAM and rest[:2] == ["run", name]
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands"):
        command = command.commands[rest.pop(0)]
    flags = command.make_context(name, rest).params
    return resolve(flags, environ or {}, tmp_path).settings


@pytest.mark.parametrize("name", SERVERS)
def test_the_command_line_is_one_that_works(name: str, tmp_path: Path) -> None:
    settings = settings_of(name, tmp_path)
    assert settings.task_modules == (() if name == "control-plane" else ("app.tasks",))
    if name == "control-plane":
        state = unit(name)["Service"]["StateDirectory"]
        assert settings.store == Path("/var/lib") / state / "store"
        assert settings.local_worker == "never"


@pytest.mark.parametrize("name", SERVERS)
def test_it_is_watched_and_has_time_to_drain(name: str, tmp_path: Path) -> None:
    service = unit(name)["Service"]
    assert (service["Type"], service["NotifyAccess"]) == ("notify", "main")
    assert int(service["WatchdogSec"]) > 10
    assert service["KillMode"] == "mixed"  # runners are told by their subworker
    drain = timedelta(seconds=settings_of(name, tmp_path).drain_seconds)
    assert timedelta(seconds=int(service["TimeoutStopSec"])) > drain
    assert service["Restart"] == "always"
    not_again = {int(code) for code in service["RestartPreventExitStatus"].split()}
    hopeless = {USAGE, StoreUnusable.exit_code}
    assert USAGE in not_again <= hopeless and StoreLocked.exit_code not in not_again


@pytest.mark.parametrize("name", SERVERS)
def test_the_secret_is_in_a_file_of_root_and_not_in_the_unit(name: str) -> None:
    service = unit(name)["Service"]
    assert (
        service["EnvironmentFile"] == f"/etc/fastworker/{name}.env"
    )  # without -: it must be there
    assert "token" not in service["ExecStart"].lower()
    assert "FASTWORKER_TOKEN" in (ROOT / "docs" / "how-to" / "deploy.md").read_text("utf-8")


@pytest.mark.parametrize("path", sorted(UNITS.iterdir()), ids=lambda path: path.name)
def test_every_variable_is_a_setting(path: Path) -> None:
    named = set(re.findall(r"\bFASTWORKER_[A-Z_]*[A-Z]\b", path.read_text("utf-8")))
    assert named <= {variable_name(option) for option in OPTIONS}


def test_the_variant_with_tls_listens_with_the_files_it_is_given(tmp_path: Path) -> None:
    dropped_in = _Unit(UNITS / "fastworker-control-plane-tls.conf").repeated
    loaded = dict(each.split(":", 1) for each in dropped_in["LoadCredential"])
    environ = dict(each.split("=", 1) for each in dropped_in["Environment"])
    environ = {name: value.replace("%d", "/run/credentials") for name, value in environ.items()}
    settings = settings_of("control-plane", tmp_path, environ)
    for address in (settings.base_address, settings.discovery_address):
        assert parse_address(address).tls and not parse_address(address).is_loopback
    assert settings.tls_cert is not None and settings.tls_key is not None
    assert {settings.tls_cert.name, settings.tls_key.name} == set(loaded)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
@pytest.mark.parametrize("name", SERVERS)
def test_systemd_takes_the_unit_and_calls_it_safe(name: str, tmp_path: Path) -> None:
    path = tmp_path / f"fastworker-{name}.service"
    text = (UNITS / path.name).read_text("utf-8").replace(PROGRAM, shutil.which("true") or "true")
    path.write_text(
        re.sub(r"^WorkingDirectory=.*$", "WorkingDirectory=/", text, flags=re.MULTILINE)
    )
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(path)], capture_output=True, text=True
    )
    assert path.name not in verified.stderr, verified.stderr
    judged = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(path)],
        capture_output=True,
        text=True,
    )
    if "--offline" in judged.stderr:
        pytest.skip("this systemd judges running units only")
    found = re.search(r"exposure level for \S+: ([\d.]+)", judged.stdout)
    assert found is not None and float(found[1]) < MOST_EXPOSED, judged.stdout
