"""The deployment example with TLS: its variants change what they say, and fit together."""

from __future__ import annotations

import copy
import re
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from fastworker import BlockingClient
from fastworker.config import resolve
from fastworker.wire.addresses import parse_address
from tests.examples.test_deployment import (
    DISCOVERY,
    EXAMPLE,
    TASKS,
    Deployed,
    Program,
    compose_file,
    from_compose,
    from_manifest,
    manifests,
)
from tests.support.certificates import Authority
from tests.support.cluster import SUBWORKER_READY, Cluster
from tests.support.process import WAIT_SECONDS

OVERLAY = EXAMPLE / "kubernetes-tls"
COMPOSE = yaml.safe_load((EXAMPLE / "docker-compose.tls.yml").read_text("utf-8"))
CERTIFICATES = "/etc/fastworker/tls"


def patched(document: Any, patch: list[dict[str, Any]]) -> Any:
    """A JSON patch (RFC 6902) applied as kustomize does it: what is not there cannot be changed."""
    found = copy.deepcopy(document)
    for change in patch:
        *path, last = change["path"].strip("/").split("/")
        box = found
        for step in path:
            box = box[int(step) if isinstance(box, list) else step]
        if isinstance(box, list) and last == "-":
            assert change["op"] == "add"
            box.append(change["value"])
        else:
            key = int(last) if isinstance(box, list) else last
            present = key < len(box) if isinstance(box, list) else key in box
            assert present == (change["op"] == "replace"), change
            box[key] = change["value"]
    return found


def deployments() -> list[Any]:
    """The deployments with their patches."""
    overlay = yaml.safe_load((OVERLAY / "kustomization.yaml").read_text("utf-8"))
    assert overlay["resources"] == ["../kubernetes"]
    found = {each["metadata"]["name"]: each for each in manifests("Deployment")}
    for patch in overlay["patches"]:
        assert patch["target"]["kind"] == "Deployment"
        name = patch["target"]["name"]
        found[name] = patched(
            found[name], yaml.safe_load((OVERLAY / patch["path"]).read_text("utf-8"))
        )
    return list(found.values())


def from_kubernetes_tls() -> dict[str, Program]:
    return {each.name: each for each in map(from_manifest, deployments())}


def from_compose_tls() -> dict[str, Program]:
    programs = from_compose()
    for name, service in COMPOSE["services"].items():
        programs[name].environment.update(service["environment"])
    return programs


@pytest.fixture(params=[from_compose_tls, from_kubernetes_tls])
def programs(request: pytest.FixtureRequest) -> dict[str, Program]:
    found: dict[str, Program] = request.param()
    return found


def test_all_dial_with_tls_what_listens_with_a_certificate(
    programs: dict[str, Program], tmp_path: Path
) -> None:
    server = resolve({}, programs["control-plane"].environment, tmp_path).settings
    listening = list(map(parse_address, (server.base_address, server.discovery_address)))
    assert [(each.port, each.tls) for each in listening] == [(TASKS, True), (DISCOVERY, True)]
    assert str(server.tls_cert) == f"{CERTIFICATES}/tls.crt"
    assert str(server.tls_key) == f"{CERTIFICATES}/tls.key"
    for name, port in {"web": DISCOVERY, "subworker": TASKS}.items():
        settings = resolve({}, programs[name].environment, tmp_path).settings
        (address,) = map(parse_address, settings.control_plane_addresses)
        assert (address.host, address.port, address.tls) == ("control-plane", port, True)
        assert str(settings.tls_ca) == f"{CERTIFICATES}/ca.crt"
        assert settings.tls_key is None


def test_probes_of_the_control_plane_speak_https_and_no_others_do() -> None:
    for deployment in deployments():
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        probes = [container[name]["httpGet"] for name in container if name.endswith("Probe")]
        expected = "HTTPS" if container["name"] == "control-plane" else None
        assert {probe.get("scheme") for probe in probes} <= {expected}
    (check,) = [
        service["healthcheck"]["test"]
        for service in COMPOSE["services"].values()
        if "healthcheck" in service
    ]
    plain = compose_file()["services"]["control-plane"]["healthcheck"]["test"]
    address = f"https://127.0.0.1:{TASKS}/readyz"
    assert check[:3] == plain[:3] and address in check[3]
    compile(check[3], "healthcheck", "exec")


def test_certificates_are_mounted_where_the_settings_look_and_the_key_for_one_only() -> None:
    for deployment in deployments():
        pod = deployment["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        (mount,) = [each for each in container["volumeMounts"] if each["name"] == "tls"]
        assert (mount["mountPath"], mount["readOnly"]) == (CERTIFICATES, True)
        (volume,) = [each for each in pod["volumes"] if each["name"] == "tls"]
        assert volume["secret"]["secretName"] == "fastworker-tls"
        if container["name"] == "control-plane":
            assert "items" not in volume["secret"] and volume["secret"]["defaultMode"] == 0o440
            assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsGroup"]
        else:
            assert volume["secret"]["items"] == [{"key": "ca.crt", "path": "ca.crt"}]
    for name, service in COMPOSE["services"].items():
        given = dict(mount.split(":")[:2] for mount in service["volumes"])
        assert all(mount.endswith(":ro") for mount in service["volumes"])
        named = [
            value
            for key, value in service["environment"].items()
            if key.startswith("FASTWORKER_TLS")
        ]
        assert sorted(given.values()) == sorted(named)
        assert any("key" in mount for mount in given) == (name == "control-plane")


@pytest.mark.process
@pytest.mark.slow
def test_it_works_with_certificates(tmp_path: Path) -> None:
    """As processes of this machine, with exactly the variables and the check of the variant."""
    (tmp_path / "tls").mkdir()
    (tmp_path / "volume").mkdir()
    authority = Authority(tmp_path / "tls", "ca")
    authority.file.rename(tmp_path / "tls" / "ca.crt")
    issued = authority.issue("localhost", "127.0.0.1")
    for given, name in ((issued.certificate, "tls.crt"), (issued.key, "tls.key")):
        assert given is not None
        given.rename(tmp_path / "tls" / name)
    tasks = (EXAMPLE / "tasks.py").read_text("utf-8")
    with Cluster(tmp_path, tasks=tasks, module="tasks") as cluster:
        deployed = Deployed(cluster, from_compose_tls())
        for theirs, ours in list(deployed.here.items()):
            for scheme, secure in {"tcp://": "wss://", "http://": "https://"}.items():
                deployed.here[theirs.replace(scheme, secure)] = ours.replace(scheme, secure)
        deployed.here[CERTIFICATES] = str(tmp_path / "tls")
        control_plane = deployed.start("control-plane")
        control_plane.wait_line("listening on wss://")
        check = COMPOSE["services"]["control-plane"]["healthcheck"]["test"]
        command = [sys.executable, *map(deployed.local, check[2:])]
        assert subprocess.run(command, timeout=WAIT_SECONDS).returncode == 0
        subworker = deployed.start("subworker")
        subworker.wait_line(SUBWORKER_READY)
        with BlockingClient(
            control_plane_address=cluster.address.replace("tcp://", "wss://"),
            token=cluster.token,
            tls=ssl.create_default_context(cafile=str(tmp_path / "tls" / "ca.crt")),
        ) as client:
            assert client.submit("count_words", "to be to").result(timeout=30) == {"to": 2, "be": 1}
        assert subworker.terminate() == 0
        assert control_plane.terminate() == 0


def test_pages_name_the_variants_as_they_are() -> None:
    for path in (EXAMPLE / "README.md", EXAMPLE.parent.parent / "docs" / "how-to" / "deploy.md"):
        text = path.read_text("utf-8")
        assert "-f docker-compose.tls.yml" in text and "kubernetes-tls" in text
        assert not re.search(r"apply -f kubernetes", text)
