"""What control plane and subworker are told, and whose token they get."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastworker.cli.starting import control_plane_settings, subworker_settings
from fastworker.config import INSECURE_TOKEN, client_defaults, resolve
from fastworker.core.names import check_name
from fastworker.core.tenants import TenantLimits, Tenants
from fastworker.errors import InvalidOption
from fastworker.local_token import read_local_token
from fastworker.server.identities import IssuedToken
from fastworker.server.identity import Identity, Role
from fastworker.server.settings import ControlPlaneSettings
from fastworker.server.token_file import change_tokens
from fastworker.wire.addresses import parse_address

TOKEN = "web." + "t" * 40


def told(place: Path, **environ: str) -> tuple[ControlPlaneSettings, str | None]:
    given = {f"FASTWORKER_{name.upper()}": value for name, value in environ.items()}
    settings = resolve({}, given, place).settings
    return control_plane_settings(settings, token_folder=place / "run", cwd=place)


def test_without_a_token_each_port_has_a_local_one_that_stays(tmp_path: Path) -> None:
    asked, warning = told(tmp_path)
    assert warning is None
    assert set(asked.tokens) == {"local-5555", "local-5550"}
    assert read_local_token(5550, folder=tmp_path / "run") == asked.tokens["local-5550"]
    assert told(tmp_path)[0] == asked
    assert asked.store == tmp_path / ".fastworker"


def test_a_configured_token_is_the_only_one(tmp_path: Path) -> None:
    asked, warning = told(tmp_path, token=TOKEN, base_address="tcp://0.0.0.0:5555")
    assert dict(asked.tokens) == {"web": TOKEN}
    assert "without TLS" in (warning or "")
    assert not (tmp_path / "run").exists()


def test_insecure_has_the_well_known_token_that_insecure_clients_use(tmp_path: Path) -> None:
    asked, warning = told(tmp_path, insecure="1", base_address="tcp://0.0.0.0:5555")
    assert dict(asked.tokens) == {"default": INSECURE_TOKEN}
    assert "without a token" in (warning or "")
    client = client_defaults({"FASTWORKER_INSECURE": "1"}, tmp_path)
    assert client.token_for(parse_address("tcp://cp:5555")) == INSECURE_TOKEN


def test_issued_tokens_open_a_control_plane_to_others(tmp_path: Path) -> None:
    issued = IssuedToken("web." + "t" * 40, Identity("web", roles=frozenset({Role.SUBMIT})))
    change_tokens(tmp_path / "issued.json", lambda tokens: [issued])
    with pytest.raises(InvalidOption, match="refusing to listen"):
        told(tmp_path, base_address="tcp://0.0.0.0:5555")
    asked, _ = told(tmp_path, base_address="tcp://0.0.0.0:5555", tokens_file="issued.json")
    assert asked.tokens_file == tmp_path / "issued.json"
    assert set(asked.tokens) == {"local-5555", "local-5550"}
    assert told(tmp_path, durability="memory", tokens_file="issued.json")[0].tokens_file
    (tmp_path / "issued.json").chmod(0o644)
    with pytest.raises(InvalidOption, match="chmod 600"):
        told(tmp_path, tokens_file="issued.json")


def test_any_free_port_needs_a_token(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match="port 0"):
        told(tmp_path, base_address="tcp://127.0.0.1:0")
    assert told(tmp_path, base_address="tcp://127.0.0.1:0", token=TOKEN)[0].tokens


def test_memory_has_no_store_and_a_state_folder_is_heeded(tmp_path: Path) -> None:
    assert told(tmp_path, durability="memory")[0].store is None
    assert told(tmp_path, state_dir="/var/lib/fw")[0].store == Path("/var/lib/fw")
    assert told(tmp_path, state_dir="/var/lib/fw", store="/s")[0].store == Path("/s")


def test_an_unreadable_certificate_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidOption, match="cannot read tls_cert"):
        told(tmp_path, tls_cert="none.pem", tls_key="none.pem")


def test_tls_settings_that_do_not_fit_together_are_named(tmp_path: Path) -> None:
    authority = tmp_path / "authority.pem"
    authority.touch()
    with pytest.raises(InvalidOption, match="give --tls-cert and --tls-key, too"):
        told(tmp_path, tls_ca=str(authority))
    with pytest.raises(InvalidOption, match="give --tls-cert and --tls-key, or write it with tcp"):
        told(tmp_path, base_address="wss://127.0.0.1:5555")
    with pytest.raises(InvalidOption, match="cannot read tls_ca"):
        told(tmp_path, tls_ca="none.pem")


def test_certificates_of_everybody_are_as_good_as_a_token_to_listen_for_others(
    tmp_path: Path,
) -> None:
    for name in ("c.pem", "k.pem", "a.pem"):
        (tmp_path / name).touch(mode=0o600)
    files = {name: str(tmp_path / f"{name[4]}.pem") for name in ("tls_cert", "tls_key")}
    wide = "wss://0.0.0.0:5555"
    with pytest.raises(InvalidOption, match="without a token"):
        told(tmp_path, base_address=wide, **files)
    asked, warning = told(tmp_path, base_address=wide, tls_ca=str(tmp_path / "a.pem"), **files)
    assert asked.tls_ca == tmp_path / "a.pem"
    assert warning is None


def test_every_setting_reaches_the_control_plane(tmp_path: Path) -> None:
    asked, _ = told(
        tmp_path,
        token=TOKEN,
        advertise="cp.example",
        durability="process",
        local_worker="never",
        task_modules="a,b.c",
        callback_allow="hooks.example",
        drain_seconds="3",
        concurrency="4",
        threads="5",
        processes="6",
        task_processes="7",
        max_jobs_per_runner="1000",
        max_runner_memory="1KiB",
        tags="gpu,ssd",
        reload="true",
        async_runtime="trio",
        max_queued_jobs="5000",
        max_queued_bytes="1MiB",
        tenants="acme:weight=3",
        max_connections="100",
        max_connections_per_address="10",
        insecure="true",
    )
    assert asked == ControlPlaneSettings(
        advertise="cp.example",
        store=tmp_path / ".fastworker",
        durability="process",
        tokens={"web": TOKEN},
        tokens_file=tmp_path / ".fastworker" / "tokens.json",
        local_worker="never",
        task_modules=("a", "b.c"),
        callback_allow=("hooks.example",),
        drain_seconds=3.0,
        insecure=True,
        concurrency=4,
        threads=5,
        processes=6,
        task_processes=7,
        max_jobs_per_runner=1000,
        max_runner_bytes=1024,
        tags=("gpu", "ssd"),
        reload=True,
        async_runtime="trio",
        max_queued_jobs=5000,
        max_queued_bytes=1024**2,
        tenants=Tenants({"acme": TenantLimits(weight=3)}),
        max_connections=100,
        max_connections_per_address=10,
    )


def test_what_a_subworker_is_told(tmp_path: Path) -> None:
    environ = {
        "FASTWORKER_CONTROL_PLANE_ADDRESS": "tcp://cp:5555,tcp://cp:5556",
        "FASTWORKER_TOKEN": TOKEN,
        "FASTWORKER_QUEUES": "mail",
        "FASTWORKER_BASE_ADDRESS": "tcp://sw1:5601",
    }
    asked = subworker_settings(resolve({}, environ, tmp_path).settings, environ)
    assert [str(address) for address in asked.control_plane] == ["tcp://cp:5555", "tcp://cp:5556"]
    assert asked.token_for(parse_address("tcp://cp:5555")) == TOKEN
    assert asked.queues == ("mail",)
    assert check_name("worker", asked.label)
    named = resolve({"worker_id": "sw1"}, environ, tmp_path).settings
    assert subworker_settings(named, environ).label == "sw1"


def test_discovery_is_reachable_wherever_the_base_address_is(tmp_path: Path) -> None:
    asked, _ = told(tmp_path, token=TOKEN, base_address="tcp://0.0.0.0:7555")
    assert asked.discovery_address == "tcp://0.0.0.0:5550"
    asked, _ = told(
        tmp_path,
        token=TOKEN,
        base_address="tcp://0.0.0.0:7555",
        discovery_address="tcp://127.0.0.1:7550",
    )
    assert asked.discovery_address == "tcp://127.0.0.1:7550"
