"""Where settings come from, what is refused, and what is said."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from fastworker.config import (
    Settings,
    available_processors,
    check_listen_safety,
    client_defaults,
    configured_token,
    resolve,
    runtime_folder,
)
from fastworker.config.settings import DEFAULTS, OPTIONS, variable_name
from fastworker.core.tenants import TenantLimits, Tenants
from fastworker.errors import AuthenticationFailed, ControlPlaneUnavailable, InvalidOption
from fastworker.local_token import write_local_token
from fastworker.wire.addresses import parse_address

TOKEN = "web." + "s" * 40


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def refusal(flags: dict[str, object], environ: dict[str, str], cwd: Path) -> str:
    with pytest.raises(InvalidOption) as caught:
        resolve(flags, environ, cwd)
    message = str(caught.value)
    assert "\n" not in message.rstrip()
    return message


def test_defaults_are_those_of_the_mission(tmp_path: Path) -> None:
    settings = resolve({}, {}, tmp_path).settings
    assert settings == Settings()
    assert settings.base_address == "tcp://127.0.0.1:5555"
    assert settings.discovery_address == "tcp://127.0.0.1:5550"
    assert (settings.durability, settings.local_worker) == ("power", "auto")
    assert (settings.concurrency, settings.threads, settings.processes) == (100, 32, 1)
    assert settings.drain_seconds == 25.0
    assert settings.state_folder(tmp_path) == tmp_path / ".fastworker"


def test_every_source_wins_over_the_next(tmp_path: Path) -> None:
    write(tmp_path, "pyproject.toml", "[tool.fastworker]\nthreads = 2\nprocesses = 2\n")
    found = resolve({}, {}, tmp_path)
    assert (found.settings.threads, found.origins["threads"]) == (
        2,
        "pyproject.toml [tool.fastworker]",
    )
    write(tmp_path, "fastworker.toml", "threads = 3\n")
    found = resolve({}, {}, tmp_path)
    assert (found.settings.threads, found.origins["threads"]) == (3, "fastworker.toml")
    found = resolve({}, {"FASTWORKER_THREADS": "4"}, tmp_path)
    assert (found.settings.threads, found.origins["threads"]) == (4, "FASTWORKER_THREADS")
    found = resolve({"threads": "5"}, {"FASTWORKER_THREADS": "4"}, tmp_path)
    assert (found.settings.threads, found.origins["threads"]) == (5, "--threads")
    assert (found.settings.processes, found.origins["concurrency"]) == (2, "default")


def test_a_named_file_replaces_the_one_of_the_folder(tmp_path: Path) -> None:
    write(tmp_path, "fastworker.toml", "threads = 3\nprocesses = 3\n")
    (tmp_path / "etc").mkdir()
    named = write(tmp_path / "etc", "other.toml", 'threads = 6\nstore = "state"\n')
    found = resolve({}, {"FASTWORKER_CONFIG": str(named)}, tmp_path)
    assert (found.settings.threads, found.settings.processes) == (6, 1)
    assert found.settings.store == tmp_path / "etc" / "state"
    assert found.origins["threads"] == str(named)
    assert resolve({"config": "etc/other.toml"}, {}, tmp_path).settings.threads == 6
    assert "cannot read settings file" in refusal({"config": "none.toml"}, {}, tmp_path)


SAMPLES = {
    "base_address": ("tcp://127.0.0.1:1", "tcp://127.0.0.1:1"),
    "discovery_address": ("ws://[::1]:2", "ws://[::1]:2"),
    "control_plane_address": ("tcp://a:1, wss://b:2", ("tcp://a:1", "wss://b:2")),
    "advertise": ("queue.example:5555", "queue.example:5555"),
    "worker_id": ("sw1", "sw1"),
    "task_modules": ("app.tasks,mail", ("app.tasks", "mail")),
    "store": ("state", Path("/work-here/state")),
    "state_dir": ("/var/lib/x", Path("/var/lib/x")),
    "durability": ("MEMORY", "memory"),
    "queues": ("a,b,a", ("a", "b")),
    "concurrency": ("7", 7),
    "threads": ("8", 8),
    "processes": ("2", 2),
    "task_processes": ("3", 3),
    "max_jobs_per_runner": ("1000", 1000),
    "max_runner_memory": ("512MiB", 512 * 1024 * 1024),
    "tags": ("gpu, ssd", ("gpu", "ssd")),
    "async_runtime": ("trio", "trio"),
    "local_worker": ("never", "never"),
    "drain_seconds": ("0.5", 0.5),
    "keep_results_seconds": ("60", 60.0),
    "keep_results_count": ("10", 10),
    "keep_results_bytes": ("1000", 1000),
    "keep_failures_seconds": ("120", 120.0),
    "max_queued_jobs": ("5000", 5000),
    "max_queued_bytes": ("1GiB", 1024**3),
    "tenants": ("acme:weight=3", Tenants({"acme": TenantLimits(weight=3)})),
    "max_connections": ("100", 100),
    "max_connections_per_address": ("10", 10),
    "token": (TOKEN, TOKEN),
    "token_file": ("t", Path("/work-here/t")),
    "tokens_file": ("ts.json", Path("/work-here/ts.json")),
    "callback_allow": ("hooks.example,10.0.0.1:80", ("hooks.example", "10.0.0.1:80")),
    "reload": ("yes", True),
    "tls_cert": ("c.pem", Path("/work-here/c.pem")),
    "tls_key": ("k.pem", Path("/work-here/k.pem")),
    "tls_ca": ("a.pem", Path("/work-here/a.pem")),
    "insecure": ("1", True),
    "log_level": ("debug", "debug"),
    "log_format": ("json", "json"),
    "collect_logs": ("no", False),
}


def test_every_option_has_a_variable() -> None:
    assert set(SAMPLES) == set(OPTIONS) == set(DEFAULTS)
    environ = {variable_name(name): text for name, (text, _) in SAMPLES.items()}
    del environ["FASTWORKER_TOKEN_FILE"]
    found = resolve({}, environ, Path("/work-here")).settings
    expected = {name: value for name, (_, value) in SAMPLES.items()} | {"token_file": None}
    assert {one.name: getattr(found, one.name) for one in dataclasses.fields(found)} == expected
    assert found.control_plane_addresses == ("tcp://a:1", "wss://b:2")


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("1000", 1000), ("1.5 GB", 1_500_000_000), ("2gib", 2 * 1024**3), ("10KB", 10_000)],
)
def test_a_size_has_a_unit_or_is_in_bytes(text: str, size: int) -> None:
    assert resolve({"max_runner_memory": text}, {}, Path("/")).settings.max_runner_memory == size


@pytest.mark.parametrize("text", ["-1", "512 MiBs", "much", "1e9", "9999TB", "MiB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    assert "512MiB" in refusal({"max_runner_memory": text}, {}, Path("/"))


def test_processes_may_be_auto() -> None:
    assert resolve({"processes": "Auto"}, {}, Path("/")).settings.processes == "auto"
    assert "auto, or a whole number" in refusal({"processes": "many"}, {}, Path("/"))
    assert "auto, or a whole number" in refusal({"processes": "0"}, {}, Path("/"))


def test_processors_are_those_of_the_container(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("0::/jobs/web\n")
    (tmp_path / "jobs" / "web").mkdir(parents=True)
    (tmp_path / "jobs" / "web" / "cpu.max").write_text("max 100000\n")
    everything = available_processors(cgroups=tmp_path, own_cgroups=tmp_path / "none")
    assert available_processors(cgroups=tmp_path, own_cgroups=own) == everything >= 1
    (tmp_path / "jobs" / "cpu.max").write_text("50000 100000\n")
    assert available_processors(cgroups=tmp_path, own_cgroups=own) == 1


def test_processors_are_those_of_an_older_kernels_container(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("4:cpu,cpuacct:/web\n")
    group = tmp_path / "cpu,cpuacct" / "web"
    group.mkdir(parents=True)
    (group / "cpu.cfs_quota_us").write_text("100000\n")
    (group / "cpu.cfs_period_us").write_text("100000\n")
    assert available_processors(cgroups=tmp_path, own_cgroups=own) == 1


def test_an_unknown_key_of_a_file_is_refused_with_a_suggestion(tmp_path: Path) -> None:
    write(tmp_path, "fastworker.toml", "thread = 3\n")
    message = refusal({}, {}, tmp_path)
    assert message == "fastworker.toml: unknown setting 'thread'; did you mean 'threads'?"
    write(tmp_path, "fastworker.toml", '"base-address" = "tcp://127.0.0.1:1"\n')
    assert "did you mean 'base_address'?" in refusal({}, {}, tmp_path)
    write(tmp_path, "fastworker.toml", '"\\u001b[2J" = 1\n')
    assert "\x1b" not in refusal({}, {}, tmp_path)


def test_an_unknown_variable_is_ignored(tmp_path: Path) -> None:
    assert resolve({}, {"FASTWORKER_PORT_5555_TCP": "x"}, tmp_path).settings == Settings()


@pytest.mark.parametrize(
    ("line", "key", "expected"),
    [
        ('concurrency = "4"', "concurrency", "a whole number from 1 to 10000, not '4'"),
        ("concurrency = true", "concurrency", "a whole number"),
        ("threads = 0", "threads", "a whole number from 1"),
        ("drain_seconds = nan", "drain_seconds", "seconds from 0 to 86400"),
        ("drain_seconds = -1", "drain_seconds", "seconds from 0"),
        ('durability = "disk"', "durability", "one of power, process, memory, not 'disk'"),
        ("task_modules = [1]", "task_modules", "module names"),
        ('task_modules = ["a/b"]', "task_modules", "module names"),
        ('queues = ["a b"]', "queues", "queue name 'a b' is not allowed"),
        ('base_address = "127.0.0.1:5"', "base_address", "has no scheme"),
        ('insecure = "yes"', "insecure", "true or false"),
        ('store = "postgresql://x/y"', "store", "a folder"),
        ("log_level = 3", "log_level", "one of debug"),
    ],
)
def test_a_wrong_value_is_named_with_key_origin_and_expectation(
    tmp_path: Path, line: str, key: str, expected: str
) -> None:
    write(tmp_path, "fastworker.toml", line + "\n")
    message = refusal({}, {}, tmp_path)
    assert message.startswith(f"fastworker.toml: {key} expects ")
    assert expected in message


@pytest.mark.parametrize("value", ["", "x", "1.5", "-1", "1" * 400, "٣"])
def test_wrong_text_of_a_flag_is_refused(tmp_path: Path, value: str) -> None:
    message = refusal({"threads": value}, {}, tmp_path)
    assert message.startswith("--threads expects a whole number")
    assert len(message) < 200


def test_an_empty_variable_is_not_given(tmp_path: Path) -> None:
    assert resolve({}, {"FASTWORKER_THREADS": "", "FASTWORKER_TOKEN": " "}, tmp_path).settings == (
        Settings()
    )


@pytest.mark.parametrize("content", [b"threads = ", b"\xff\xfe", b"a = " + b"[" * 5000])
def test_a_broken_file_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "fastworker.toml").write_bytes(content)
    assert "fastworker.toml" in refusal({}, {}, tmp_path)


def test_a_token_in_a_settings_file_is_refused_and_not_repeated(tmp_path: Path) -> None:
    write(tmp_path, "fastworker.toml", f'token = "{TOKEN}"\n')
    message = refusal({}, {}, tmp_path)
    assert "token_file" in message
    assert TOKEN not in message


def test_tls_needs_both_files(tmp_path: Path) -> None:
    assert "needs tls_key" in refusal({"tls_cert": "c.pem"}, {}, tmp_path)


def test_token_of_a_file_is_read_stripped(tmp_path: Path) -> None:
    path = write(tmp_path, "token", TOKEN + "\n")
    path.chmod(0o600)
    found = resolve({}, {"FASTWORKER_TOKEN_FILE": str(path)}, tmp_path).settings
    assert configured_token(found) == TOKEN
    assert TOKEN not in repr(resolve({}, {"FASTWORKER_TOKEN": TOKEN}, tmp_path))


def test_a_token_file_by_flag_wins_over_the_variable(tmp_path: Path) -> None:
    path = write(tmp_path, "token", "file." + TOKEN)
    path.chmod(0o600)
    found = resolve({"token_file": str(path)}, {"FASTWORKER_TOKEN": TOKEN}, tmp_path)
    assert configured_token(found.settings) == "file." + TOKEN
    both = {"FASTWORKER_TOKEN": TOKEN, "FASTWORKER_TOKEN_FILE": str(path)}
    assert configured_token(resolve({}, both, tmp_path).settings) == TOKEN


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620])
def test_a_token_file_others_can_open_is_refused(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path, "token", TOKEN)
    path.chmod(mode)
    with pytest.raises(InvalidOption, match=f"mode {mode:04o}.*chmod 600"):
        configured_token(resolve({"token_file": str(path)}, {}, tmp_path).settings)


@pytest.mark.parametrize("token", ["short", "x" * 31, "x" * 5000, "é" * 40, "a" * 20 + "\n" * 20])
def test_a_token_that_cannot_be_one_is_refused_unseen(tmp_path: Path, token: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        configured_token(resolve({}, {"FASTWORKER_TOKEN": token}, tmp_path).settings)
    assert "FASTWORKER_TOKEN" in str(caught.value)
    assert token not in str(caught.value)


def test_runtime_folder_prefers_the_users_own(tmp_path: Path) -> None:
    assert runtime_folder({"XDG_RUNTIME_DIR": str(tmp_path)}) == tmp_path / "fastworker"
    assert runtime_folder({"XDG_RUNTIME_DIR": "relative"}).name.startswith("fastworker-")
    assert runtime_folder({}).parent == Path("/tmp")


def test_client_finds_the_local_token_of_a_loopback_port(tmp_path: Path) -> None:
    environ = {"XDG_RUNTIME_DIR": str(tmp_path)}
    defaults = client_defaults(environ, tmp_path)
    assert defaults.control_plane_addresses == ("tcp://127.0.0.1:5550",)
    address = parse_address("tcp://localhost:5550")
    with pytest.raises(ControlPlaneUnavailable, match="fastworker run control-plane"):
        defaults.token_for(address)
    write_local_token(5550, "local-5550." + TOKEN, folder=tmp_path / "fastworker")
    assert defaults.token_for(address) == "local-5550." + TOKEN
    with pytest.raises(AuthenticationFailed, match="FASTWORKER_TOKEN"):
        defaults.token_for(parse_address("tcp://queue.example:5550"))


def test_client_prefers_the_control_planes_address_and_the_given_token(tmp_path: Path) -> None:
    environ = {
        "FASTWORKER_CONTROL_PLANE_ADDRESS": "tcp://cp:5555",
        "FASTWORKER_DISCOVERY_ADDRESS": "tcp://cp:5550",
        "FASTWORKER_TOKEN": TOKEN,
    }
    defaults = client_defaults(environ, tmp_path)
    assert defaults.control_plane_addresses == ("tcp://cp:5555",)
    assert defaults.token_for(parse_address("tcp://cp:5555")) == TOKEN


def test_listening_for_others_needs_a_token_and_warns_without_tls() -> None:
    near, wide = parse_address("tcp://127.0.0.1:5555"), parse_address("tcp://0.0.0.0:5550")

    def check(*, token: bool = False, tls: bool = False, insecure: bool = False) -> str | None:
        return check_listen_safety([near, wide], has_token=token, has_tls=tls, insecure=insecure)

    with pytest.raises(InvalidOption, match=r"refusing to listen on tcp://0\.0\.0\.0:5550 without"):
        check()
    assert "without a token" in (check(insecure=True) or "")
    assert "without TLS" in (check(token=True) or "")
    assert check(token=True, tls=True) is None
    assert check_listen_safety([near], has_token=False, has_tls=False, insecure=False) is None
