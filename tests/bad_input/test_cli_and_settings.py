"""D45 and D47, and what the command line says to what is wrong: at once, in one sentence."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from fastworker.cli.main import main
from tests.bad_input.raw import TOKEN, running_plane

SECONDS = 2.0
"""A refusal takes milliseconds; the time-out that must not be waited for is three seconds."""

UNKNOWN = "0193e8a0-0000-7000-8000-000000000000"


@pytest.fixture(autouse=True)
def somewhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No settings, tokens or stores of whoever runs the tests; logging as it was before."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    loggers = [logging.getLogger(), logging.getLogger("fastworker")]
    before = [(one.level, one.propagate, list(one.handlers)) for one in loggers]
    yield
    for one, (level, propagate, handlers) in zip(loggers, before, strict=True):
        one.setLevel(level)
        one.propagate = propagate
        one.handlers = handlers


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("FASTWORKER_TOKEN", TOKEN)
    return TOKEN


@pytest.fixture
def closed_port() -> Iterator[str]:
    """An address where nobody listens: bound, so that nobody else takes it."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"tcp://127.0.0.1:{bound.getsockname()[1]}"


def _says(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit code and the one sentence."""
    started = time.monotonic()
    code = main(list(arguments))
    assert time.monotonic() - started < SECONDS
    said = capsys.readouterr()
    assert said.out == "" and "Traceback" not in said.err
    assert said.err.count("\n") == 1, said.err
    return code, said.err.removeprefix("fastworker: ").rstrip("\n")


@pytest.mark.usefixtures("token")
@pytest.mark.parametrize(
    "command", [["status"], ["result", UNKNOWN], ["cancel", UNKNOWN], ["tasks"], ["submit", "add"]]
)
def test_nobody_listening_is_said_at_once(
    command: list[str], closed_port: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = _says(capsys, *command, "--control-plane-address", closed_port)
    assert code == 3
    assert text == (
        f"no control plane can be reached at {closed_port}: Connection refused; "
        "start one with `fastworker run control-plane`, or check the address"
    )


def test_no_token_and_nobody_listening_says_what_to_do(
    closed_port: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = _says(capsys, "status", "--control-plane-address", closed_port)
    assert code == 3
    assert "start one with `fastworker run control-plane`, or set FASTWORKER_TOKEN" in text


@pytest.mark.trio
async def test_wrong_token_is_said_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FASTWORKER_TOKEN", "x" * 40)
    async with running_plane() as plane:
        code, text = await trio.to_thread.run_sync(
            lambda: _says(capsys, "status", "--control-plane-address", plane.addresses[0])
        )
    assert code == 5
    assert "does not know the token 'default'" in text and "x" * 40 not in text


@pytest.mark.usefixtures("token")
@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["submit", "a/b"], "task name 'a/b' is not allowed"),
        (["submit", "add", "[1"], "the arguments are not valid JSON"),
        (["submit", "add", "5"], "the arguments are a JSON number; give a list, such as '[5]'"),
        (["submit", "add", "[" * 100_000], "the arguments are not valid JSON"),
        (["submit", "add", "--priority", "9"], "--priority expects one of critical, high,"),
        (["submit", "add", "--countdown", "nan"], "countdown is a number of seconds"),
        (["submit", "add", "--countdown=-1"], "countdown cannot be negative"),
        (["submit", "add", "--queue", "a b"], "queue name 'a b' is not allowed"),
        (["result", "xyz"], "task_id 'xyz' is not a UUID"),
        (["cancel", ""], "task_id '' is not a UUID"),
        (["status", "x\x1b[2J"], r"task_id 'x\x1b[2J' is not a UUID"),
        (["status", "--control-plane-address", "foo"], "write it as tcp://host:port"),
        (["status", "--token-file", "/nowhere"], "cannot read token file '/nowhere'"),
        (["status", "--config", "/nowhere.toml"], "/nowhere.toml"),
        (["run", "control-plane", "--durability", "x"], "--durability expects one of power,"),
        (["run", "control-plane", "--tls-cert", "/nowhere"], "give both or neither"),
        (["run", "subworker", "--concurrency", "0"], "--concurrency expects a whole number from 1"),
        (["run", "subworker", "--worker-id", "a/b"], "worker name 'a/b' is not allowed"),
        (["run", "subworker", "--queues", "a/b"], "queue name 'a/b' is not allowed"),
        (["run", "subworker", "--task-modules", "../x"], "--task-modules expects module names"),
    ],
)
def test_what_is_wrong_with_a_command_is_named_before_anything_is_done(
    arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = _says(capsys, *arguments)
    assert code == 2
    assert text in said
    assert said.isprintable()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("colour = 'red'\n", "colour"),
        ("concurrency = 'many'\n", "concurrency"),
        ("concurrency = [", "fastworker.toml"),
        ("base_address = 5\n", "base_address"),
        ("\xff\xfe", "fastworker.toml"),
    ],
)
def test_wrong_settings_file_is_named_with_the_key(
    content: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fastworker.toml").write_bytes(content.encode("latin-1"))
    code, said = _says(capsys, "status")
    assert code == 2
    assert text in said


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_token_file_that_others_can_read_is_refused(
    mode: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(mode)
    code, said = _says(capsys, "status", "--token-file", str(file))
    assert code == 2
    assert f"mode {mode:04o}" in said and "chmod 600" in said and TOKEN not in said


@pytest.mark.parametrize("option", ["--base-address", "--discovery-address"])
@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "192.0.2.1"])
def test_listening_for_others_without_a_token_is_refused(
    option: str, host: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = _says(capsys, "run", "control-plane", option, f"tcp://{host}:5999")
    assert code == 2
    assert said.startswith("refusing to listen on tcp://")
    assert "set FASTWORKER_TOKEN or --token-file, or issue tokens with" in said
    assert not (tmp_path / ".fastworker").exists()


@pytest.mark.usefixtures("token")
def test_port_in_use_and_store_that_is_none_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["run", "control-plane", "--log-level", "error"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        code, said = _says(capsys, *run, "--base-address", address)
    assert code == 73
    assert said == (
        f"cannot listen on {address}: Address already in use; is another control plane running "
        "there? choose another address with --base-address"
    )
    file = tmp_path / "file"
    file.write_text("no folder")
    code, said = _says(capsys, *run, "--store", str(file))
    assert (code, said) == (73, f"{file} is not a folder; choose another one with --store")
