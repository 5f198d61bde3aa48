"""Quotas and shares of tenants in settings: the three ways to write them, and what is refused."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest

from fastworker.cli.main import main
from fastworker.config import resolve
from fastworker.config.tenants import LIMITS
from fastworker.core.tenants import TenantLimits, Tenants
from fastworker.errors import InvalidOption

ACME = TenantLimits(
    weight=3,
    max_queued_jobs=1000,
    max_queued_bytes=64 * 1024**2,
    max_connections=20,
    max_submissions_per_second=2.5,
)
EXPECTED = Tenants({"acme": ACME, "*": TenantLimits(max_queued_jobs=10)})

WORDS = (
    "acme:weight=3,max-queued-jobs=1000,max-queued-bytes=64MiB,max-connections=20,"
    "max-submissions-per-second=2.5"
)

TABLES = """
[tenants.acme]
weight = 3
max_queued_jobs = 1000
max_queued_bytes = "64MiB"
max_connections = 20
max_submissions_per_second = 2.5

[tenants."*"]
max_queued_jobs = 10
"""


def read(given: object, cwd: Path = Path("/")) -> Tenants:
    return resolve({"tenants": given}, {}, cwd).settings.tenants


def refusal(given: object) -> str:
    with pytest.raises(InvalidOption) as caught:
        read(given)
    return str(caught.value)


def test_every_limit_has_a_key() -> None:
    assert list(LIMITS) == [one.name for one in fields(TenantLimits)]


def test_a_file_has_a_table_for_each_tenant(tmp_path: Path) -> None:
    (tmp_path / "fastworker.toml").write_text(TABLES)
    found = resolve({}, {}, tmp_path)
    assert (found.settings.tenants, found.origins["tenants"]) == (EXPECTED, "fastworker.toml")


def test_a_flag_is_repeated_and_a_variable_has_spaces() -> None:
    rest = "*:max-queued-jobs=10"
    assert read([WORDS, rest]) == read(f"{WORDS}  {rest}") == EXPECTED
    environ = {"FASTWORKER_TENANTS": f"{WORDS}\n{rest}"}
    assert resolve({}, environ, Path("/")).settings.tenants == EXPECTED


def test_limits_of_the_star_hold_for_every_other_tenant() -> None:
    assert EXPECTED.limits("acme") == ACME
    assert EXPECTED.limits("unnamed").max_queued_jobs == 10
    assert Tenants().limits("unnamed") == TenantLimits()


def test_a_tenants_name_may_have_a_colon() -> None:
    assert read("acme:eu:weight=2").limits("acme:eu").weight == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("acme", "'acme' has no limits; write acme:weight=3"),
        ("acme:wieght=3", "tenant 'acme': unknown key 'wieght'; did you mean 'weight'?"),
        ("acme:colour=3", "tenant 'acme': unknown key 'colour'; there are weight, max_queued"),
        ("acme:weight", "tenant 'acme': 'weight' is not KEY=VALUE"),
        ("acme:weight=0", "tenant 'acme': weight expects a whole number from 1 to 1000, not '0'"),
        ("acme:weight=1,weight=2", "tenant 'acme': weight is given twice"),
        ("acme:max-queued-bytes=much", "max_queued_bytes expects a size such as 512MiB"),
        ("acme:max-queued-bytes=0", "max_queued_bytes of 0 would accept nothing"),
        ("acme:max-submissions-per-second=nan", "expects a number of jobs a second from 0.001"),
        ("acme:max-submissions-per-second=0", "expects a number of jobs a second from 0.001"),
        ("a/b:weight=1", "tenant name 'a/b' is not allowed"),
        ("acme:weight=1 acme:weight=2", "tenant 'acme' is given twice"),
    ],
)
def test_what_is_wrong_is_named_with_its_origin(text: str, says: str) -> None:
    said = refusal(text)
    assert said.startswith("--tenants expects limits by tenant, such as acme:weight=3")
    assert says in said


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("tenants = 3", "in a file they are tables: [tenants.acme]"),
        ('tenants = "acme:weight=3"', "in a file they are tables: [tenants.acme]"),
        ("tenants.acme = 3", "tenant 'acme' is not a table of limits"),
        ('tenants.acme.weight = "3"', "tenant 'acme': weight expects a whole number"),
        ("tenants.acme.weight = true", "tenant 'acme': weight expects a whole number"),
        ('tenants.acme."max-connections" = 3', "did you mean 'max_connections'?"),
    ],
)
def test_a_wrong_table_is_named_with_its_file(tmp_path: Path, line: str, says: str) -> None:
    (tmp_path / "fastworker.toml").write_text(line)
    with pytest.raises(InvalidOption) as caught:
        resolve({}, {}, tmp_path)
    assert str(caught.value).startswith("fastworker.toml: tenants expects")
    assert says in str(caught.value)


def test_the_command_line_shows_them_and_ends_with_2_at_a_wrong_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = ["--tenants", WORDS, "--tenants", "*:max-queued-jobs=10"]
    assert main(["config", "show", "--json", *flags]) == 0
    shown = json.loads(capsys.readouterr().out)["tenants"]
    assert shown["*"] == {"max_queued_jobs": 10}
    assert shown["acme"]["max_submissions_per_second"] == 2.5
    assert main(["run", "control-plane", "--tenants", "acme:weight=x"]) == 2
    assert "tenant 'acme': weight expects" in capsys.readouterr().err
