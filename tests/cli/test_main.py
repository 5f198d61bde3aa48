"""What the command line answers: exit codes, one sentence, data apart from messages."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fastworker.cli.main import main

TOKEN = "t" * 40


@pytest.fixture(autouse=True)
def empty_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    for name in ("TOKEN", "TOKEN_FILE", "CONFIG", "CONTROL_PLANE_ADDRESS", "DISCOVERY_ADDRESS"):
        monkeypatch.delenv(f"FASTWORKER_{name}", raising=False)


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 2) -> str:
    assert main(arguments) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    return err


def test_help_is_one_screen_and_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) <= 30
    words = (
        "run control-plane subworker submit status result cancel tasks workers demo version token"
    )
    for command in [*words.split(), "config"]:
        assert f"\n  {command} " in out
    assert "..." not in out.split("Commands:")[1]


@pytest.mark.parametrize(
    "command", ["run control-plane", "control-plane", "run subworker", "subworker", "run dev"]
)
def test_help_of_a_server_command_shows_its_flags(
    capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert main([*command.split(), "--help"]) == 0
    out = capsys.readouterr().out
    for flag in ("--task-modules", "--concurrency", "--token-file", "--drain-seconds", "--config"):
        assert flag in out


def test_version_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("fastworker ")
    assert err == ""
    assert main(["version", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"version"}


def test_version_needs_nothing_heavy() -> None:
    code = (
        "import sys; from fastworker.cli.main import main; main(['version']); "
        "print([m for m in ('typer', 'trio', 'rich', 'pydantic') if m in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert run.stdout.splitlines()[-1] == "[]"


def test_an_unknown_command_or_flag_is_usage(capsys: pytest.CaptureFixture[str]) -> None:
    refusal(capsys, "nothing")
    refusal(capsys, "run", "control-plane", "--base_address", "x")
    refusal(capsys, "submit")


def test_config_show_tells_value_and_origin_but_never_the_token(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTWORKER_TOKEN", TOKEN)
    assert main(["config", "show", "--origin", "--threads", "3", "--queues", "a,b"]) == 0
    out = capsys.readouterr().out
    assert TOKEN not in out
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()}
    assert rows["token"] == ["set", "FASTWORKER_TOKEN"]
    assert rows["threads"] == ["3", "--threads"]
    assert rows["queues"] == ["a,", "b", "--queues"]
    assert rows["concurrency"] == ["100", "default"]
    assert main(["config", "show", "--origin", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["token"] == {"value": "set", "origin": "FASTWORKER_TOKEN"}


def test_wrong_settings_are_one_sentence_and_2(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    err = refusal(capsys, "run", "control-plane", "--threads", "x")
    assert err == ("fastworker: --threads expects a whole number from 1 to 10000, not 'x'\n")
    (tmp_path / "fastworker.toml").write_text("thread = 1\n")
    assert "did you mean 'threads'?" in refusal(capsys, "config", "show")


def test_a_world_readable_token_file_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = tmp_path / "token"
    path.write_text(TOKEN)
    path.chmod(0o644)
    for command in ("control-plane", "subworker"):
        assert "chmod 600" in refusal(capsys, "run", command, "--token-file", str(path))


def test_listening_for_others_without_a_token_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    err = refusal(capsys, "control-plane", "--base-address", "tcp://0.0.0.0:5555")
    assert re.search(r"refusing to listen on tcp://0.0.0.0:5555.* without a token", err)
    assert list(tmp_path.iterdir()) == []


def test_reload_without_its_library_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "watchfiles", None)
    for command in ("dev", "subworker", "control-plane"):
        err = refusal(capsys, "run", command, "--reload")
        assert "pip install fastworker[reload]" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["add", "[2, 3"], "not valid JSON"),
        (["add", "3"], "a JSON number; give a list, such as '[3]'"),
        (["add", "[" * 100_000], "not valid JSON"),
        (["add", "--priority", "urgent"], "critical, high, normal, low"),
        (["add", "--expires=-1"], "expires cannot be negative"),
    ],
)
def test_wrong_arguments_of_submit_are_refused_before_dialling(
    capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert says in refusal(capsys, "submit", *arguments)


@pytest.mark.skipif(sys.platform == "win32", reason="the refusal is for Windows")
def test_windows_is_refused_with_a_sentence(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    for command in ("control-plane", "subworker", "dev"):
        assert "only clients" in refusal(capsys, "run", command)
