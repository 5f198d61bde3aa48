"""The deployment example: what its files say fits together, and works as real processes.

Neither Docker nor a cluster is needed. Every command line is read from the compose file and the
manifests and given to the real programs, with addresses of this machine in place of theirs.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import Any

import httpx
import pytest
import typer
import yaml
from uvicorn.main import main as uvicorn_command

from fastworker.cli.app import app
from fastworker.cli.starting import control_plane_settings
from fastworker.config import Settings, resolve
from fastworker.config.settings import OPTIONS, variable_name
from fastworker.errors import InvalidOption
from fastworker.wire.addresses import parse_address
from fastworker.wire.handshake import check_token
from tests.support.cluster import ROOT, SUBWORKER_READY, Cluster
from tests.support.process import WAIT_SECONDS, Member

EXAMPLE = ROOT / "examples" / "deployment"
KUSTOMIZATION = yaml.safe_load((EXAMPLE / "kubernetes" / "kustomization.yaml").read_text("utf-8"))
MANIFESTS = [EXAMPLE / "kubernetes" / name for name in KUSTOMIZATION["resources"]]
DOCUMENTS = (EXAMPLE / "README.md", ROOT / "docs" / "how-to" / "deploy.md")
TOKEN = "example." + "t" * 40
STATE = "/var/lib/fastworker"
DISCOVERY, TASKS, WEB = 5550, 5555, 8000


@dataclass(frozen=True)
class Program:
    """One container, whichever file describes it."""

    name: str
    command: list[str]
    environment: dict[str, str]
    replicas: int
    ports: set[int]
    mounts: list[str]
    grace: timedelta
    probes: set[tuple[str, int]] = field(default_factory=set)
    healthcheck: list[str] | None = None

    @property
    def flags(self) -> dict[str, Any]:
        """Its flags as the real command line parses them; anything it refuses raises."""
        name, *rest = self.command
        assert name == "fastworker"
        command: Any = typer.main.get_command(app)
        while hasattr(command, "commands"):
            command = command.commands[rest.pop(0)]
        parsed: dict[str, Any] = command.make_context(name, rest).params
        return parsed

    def settings(self, folder: Path) -> Settings:
        return resolve(self.flags, self.environment, folder).settings


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, in order."""
    text = re.sub(r"^#.*\n", "", (EXAMPLE / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    return [(words[0], words[1]) for line in lines if (words := line.split(maxsplit=1))]


def entrypoint() -> list[str]:
    (given,) = [rest for name, rest in instructions() if name == "ENTRYPOINT"]
    command: list[str] = json.loads(given)  # the shell form is no JSON
    return command


def filled_in(text: str) -> str:
    """The compose file with its variables replaced, as ``docker compose config`` does it."""
    given = {"FASTWORKER_TOKEN": TOKEN}
    return re.sub(
        r"\$\{(\w+)(?::([-?])([^}]*))?\}",
        lambda found: given.get(found[1], found[3] if found[2] == "-" else ""),
        text,
    )


def compose_file() -> Any:
    return yaml.safe_load(filled_in((EXAMPLE / "docker-compose.yml").read_text("utf-8")))


def from_compose() -> dict[str, Program]:
    return {
        name: Program(
            name,
            service.get("entrypoint", entrypoint()) + service["command"],
            service["environment"],
            service.get("deploy", {}).get("replicas", 1),
            set(),  # containers of one compose file reach all ports of each other
            [mount.split(":")[1] for mount in service.get("volumes", [])],
            timedelta(seconds=int(service["stop_grace_period"].removesuffix("s"))),
            healthcheck=service.get("healthcheck", {}).get("test"),
        )
        for name, service in compose_file()["services"].items()
    }


def manifests(kind: str) -> list[Any]:
    loaded = [one for path in MANIFESTS for one in yaml.safe_load_all(path.read_text("utf-8"))]
    return [one for one in loaded if one["kind"] == kind]


def variables(container: Any) -> Iterator[tuple[str, str]]:
    for variable in container["env"]:
        if "value" in variable:
            yield variable["name"], variable["value"]
        else:
            secret = variable["valueFrom"]["secretKeyRef"]
            assert secret == {"name": "fastworker-token", "key": "FASTWORKER_TOKEN"}
            yield variable["name"], TOKEN


def from_manifest(deployment: Any) -> Program:
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
    probes = [container[name]["httpGet"] for name in container if name.endswith("Probe")]
    return Program(
        container["name"],
        container.get("command", entrypoint()) + container["args"],
        dict(variables(container)),
        deployment["spec"]["replicas"],
        set(ports.values()),
        [mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] != "tmp"],
        timedelta(seconds=pod["terminationGracePeriodSeconds"]),
        {(probe["path"], ports[probe["port"]]) for probe in probes},
    )


def from_kubernetes() -> dict[str, Program]:
    programs = map(from_manifest, manifests("Deployment"))
    return {program.name: program for program in programs}


KINDS = {"compose": from_compose, "kubernetes": from_kubernetes}


@pytest.fixture(params=KINDS)
def programs(request: pytest.FixtureRequest) -> dict[str, Program]:
    return KINDS[request.param]()


def test_three_programs_with_their_replicas() -> None:
    compose = {name: program.replicas for name, program in from_compose().items()}
    assert compose == {"web": 1, "control-plane": 1, "subworker": 2}
    kubernetes = {name: program.replicas for name, program in from_kubernetes().items()}
    assert kubernetes == {"control-plane": 1, "subworker": 3, "web": 2}
    folder = {path for path in (EXAMPLE / "kubernetes").iterdir() if path not in MANIFESTS}
    assert {path.name for path in folder} == {"kustomization.yaml"}


def test_every_setting_is_accepted(programs: dict[str, Program], tmp_path: Path) -> None:
    server = programs["control-plane"].settings(tmp_path)
    assert (server.local_worker, server.task_modules) == ("never", ("tasks",))
    assert programs["subworker"].settings(tmp_path).task_modules == ("tasks",)
    name, *rest = programs["web"].command
    assert name == "uvicorn"
    options = uvicorn_command.make_context(name, list(rest)).params
    assert (options["app"], options["host"], options["port"]) == ("app:app", "0.0.0.0", WEB)


def test_every_variable_is_a_setting(programs: dict[str, Program]) -> None:
    known = {variable_name(option) for option in OPTIONS}
    given = {name for program in programs.values() for name in program.environment}
    assert "FASTWORKER_TOKEN" in given and given <= known
    files = [path for path in EXAMPLE.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    named = {
        name
        for path in (*files, *DOCUMENTS)
        for name in re.findall(r"\bFASTWORKER_[A-Z_]*[A-Z]\b", path.read_text("utf-8"))
    }
    assert named <= known


def test_listening_to_others_needs_the_token_and_warns(
    programs: dict[str, Program], tmp_path: Path
) -> None:
    settings = programs["control-plane"].settings(tmp_path)
    assert (settings.base_address, settings.discovery_address) == (
        f"tcp://0.0.0.0:{TASKS}",
        f"tcp://0.0.0.0:{DISCOVERY}",
    )
    asked, warning = control_plane_settings(settings, token_folder=tmp_path, cwd=tmp_path)
    assert dict(asked.tokens) == {"example": TOKEN}
    assert "without TLS" in (warning or "")
    without = {**programs["control-plane"].environment, "FASTWORKER_TOKEN": ""}
    settings = resolve(programs["control-plane"].flags, without, tmp_path).settings
    with pytest.raises(InvalidOption, match="without a token"):
        control_plane_settings(settings, token_folder=tmp_path, cwd=tmp_path)


def test_all_dial_a_port_that_is_served(programs: dict[str, Program], tmp_path: Path) -> None:
    for name, port in {"web": DISCOVERY, "subworker": TASKS}.items():
        settings = resolve({}, programs[name].environment, tmp_path).settings
        (address,) = map(parse_address, settings.control_plane_addresses)
        assert (address.host, address.port) == ("control-plane", port)


def test_services_lead_to_the_containers() -> None:
    services = {one["metadata"]["name"]: one["spec"] for one in manifests("Service")}
    labels = {
        one["spec"]["template"]["spec"]["containers"][0]["name"]: one["spec"]["template"]
        for one in manifests("Deployment")
    }
    assert services["control-plane"]["ports"] == [
        {"name": "discovery", "port": DISCOVERY, "targetPort": "discovery"},
        {"name": "tasks", "port": TASKS, "targetPort": "tasks"},
    ]
    for name, service in services.items():
        template = labels[name]
        assert service["selector"].items() <= template["metadata"]["labels"].items()
        (container,) = template["spec"]["containers"]
        there = {port["name"] for port in container["ports"]}
        assert {port["targetPort"] for port in service["ports"]} == there
    ports = {name: program.ports for name, program in from_kubernetes().items()}
    assert ports == {"control-plane": {DISCOVERY, TASKS}, "subworker": set(), "web": {WEB}}


def test_compose_publishes_the_ports_and_waits_for_health() -> None:
    services = compose_file()["services"]
    assert services["control-plane"]["ports"] == ["127.0.0.1:5550-5560:5550-5560"]
    assert services["web"]["ports"] == [f"127.0.0.1:{WEB}:{WEB}"]
    for name in ("web", "subworker"):
        assert services[name]["depends_on"]["control-plane"] == {"condition": "service_healthy"}
    assert {service["restart"] for service in services.values()} == {"unless-stopped"}


def test_state_is_on_a_volume_and_has_one_owner(
    programs: dict[str, Program], tmp_path: Path
) -> None:
    program = programs["control-plane"]
    store = program.settings(tmp_path).store
    assert store is not None and program.mounts == [STATE]
    assert PurePosixPath(STATE) in PurePosixPath(store).parents
    assert program.replicas == 1
    assert [programs[name].mounts for name in ("web", "subworker")] == [[], []]


def test_volumes_exist() -> None:
    compose = compose_file()
    assert compose["services"]["control-plane"]["volumes"] == [f"state:{STATE}"]
    assert "state" in compose["volumes"]
    (deployment,) = [d for d in manifests("Deployment") if "strategy" in d["spec"]]
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    pod = deployment["spec"]["template"]["spec"]
    (volume,) = [each for each in pod["volumes"] if "emptyDir" not in each]
    (claim,) = manifests("PersistentVolumeClaim")
    assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    mounts = {mount["mountPath"]: mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
    assert mounts[STATE] == volume["name"]


def test_processes_have_time_to_drain(programs: dict[str, Program], tmp_path: Path) -> None:
    for name in ("control-plane", "subworker"):
        drain = timedelta(seconds=programs[name].settings(tmp_path).drain_seconds)
        assert programs[name].grace > drain


def test_image_is_built_from_the_checkout_and_not_run_by_root() -> None:
    lines = instructions()
    bases = [rest.split()[0] for name, rest in lines if name == "FROM"]
    assert set(bases) == {"python:3.13-slim"}
    installed = " ".join(rest for name, rest in lines if name == "RUN" and "pip" in rest)
    assert '"/src[fastapi,uvloop,webhooks]"' in installed
    ignored = (EXAMPLE / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    for name, rest in lines:
        if name == "COPY" and not rest.startswith("--from"):
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists() and f"!{source}" in ignored
    (user,) = [rest for name, rest in lines if name == "USER"]
    owner = re.search(r"install -d -o (\d+) -g (\d+) -m 0700 " + STATE, str(lines))
    assert owner is not None and user == f"{owner[1]}:{owner[2]}"
    for deployment in manifests("Deployment"):
        context = deployment["spec"]["template"]["spec"]["securityContext"]
        assert context["runAsNonRoot"] is True
        assert f"{context['runAsUser']}:{context['runAsGroup']}" == user
    for service in compose_file()["services"].values():
        assert (EXAMPLE / service["build"]["context"]).resolve() == ROOT
        assert ROOT / service["build"]["dockerfile"] == EXAMPLE / "Dockerfile"


def test_programs_can_write_to_their_volume_and_to_tmp_only() -> None:
    for deployment in manifests("Deployment"):
        pod = deployment["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]
        assert {"name": "tmp", "emptyDir": {}} in pod["volumes"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
    for service in compose_file()["services"].values():
        assert service["read_only"] is True and service["tmpfs"] == ["/tmp"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_image_has_no_tools_of_the_build() -> None:
    lines = instructions()
    (last,) = [at for at, (name, _) in enumerate(lines) if name == "FROM"][1:]
    final = lines[last:]
    installed = [rest for name, rest in final if name == "RUN" and re.search(r"apt|pip|gcc", rest)]
    copied = [rest.split()[1] for name, rest in final if name == "COPY" and "--from" in rest]
    assert installed == [] and copied == ["/opt/venv"]


def test_command_of_the_env_example_makes_a_good_token(tmp_path: Path) -> None:
    text = (EXAMPLE / ".env.example").read_text("utf-8")
    (command,) = re.findall(r"^# +(\(umask.*)$", text, re.MULTILINE)
    assert command in (EXAMPLE / "README.md").read_text("utf-8")
    subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True, timeout=WAIT_SECONDS)
    name, _, token = (tmp_path / ".env").read_text("utf-8").strip().partition("=")
    assert name == "FASTWORKER_TOKEN" and check_token(token) == token
    assert (tmp_path / ".env").stat().st_mode & 0o077 == 0
    assert ".env" in (EXAMPLE / ".gitignore").read_text("utf-8").splitlines()


class Deployed:
    """The programs of one kind as processes here: other addresses and folder, same command."""

    def __init__(self, cluster: Cluster, programs: Mapping[str, Program]) -> None:
        self.cluster = cluster
        self.programs = programs
        self.here = {
            f"tcp://0.0.0.0:{TASKS}": cluster.address,
            f"tcp://0.0.0.0:{DISCOVERY}": cluster.discovery_address,
            f"tcp://control-plane:{TASKS}": cluster.address,
            f"tcp://control-plane:{DISCOVERY}": cluster.discovery_address,
            f"http://127.0.0.1:{TASKS}": f"http://127.0.0.1:{cluster.port}",
            f"--port={WEB}": "--port=0",
            "--host=0.0.0.0": "--host=127.0.0.1",
            STATE: str(cluster.folder / "volume"),
            TOKEN: cluster.token,
        }

    def local(self, text: str) -> str:
        for theirs, ours in self.here.items():
            text = text.replace(theirs, ours)
        return text

    def start(self, name: str) -> Member:
        program = self.programs[name]
        module, *arguments = map(self.local, program.command)
        given = {key: self.local(value) for key, value in program.environment.items()}
        member = Member(
            name,
            (sys.executable, "-m", module, *arguments),
            environment={**self.cluster.environment(), **given},
            folder=self.cluster.folder,
        )
        self.cluster.members.append(member)
        return member

    def control_plane(self) -> Member:
        member = self.start("control-plane")
        self.cluster.wait_ready(member)
        return member

    def is_healthy(self, name: str) -> bool:
        """Whether the compose file's own check says so."""
        check = self.programs[name].healthcheck
        assert check is not None and check[:2] == ["CMD", "python"]
        command = [sys.executable, *map(self.local, check[2:])]
        return subprocess.run(command, capture_output=True, timeout=WAIT_SECONDS).returncode == 0

    def check_probes(self, url: str, name: str, ports: Mapping[int, int]) -> None:
        for path, port in self.programs[name].probes:
            with urllib.request.urlopen(
                f"{url}:{ports[port]}{path}", timeout=WAIT_SECONDS
            ) as answer:
                assert answer.status == 200


@pytest.mark.process
@pytest.mark.slow
def test_it_works_and_survives_an_upgrade(programs: dict[str, Program], tmp_path: Path) -> None:
    text = "to be or not to be"
    with Cluster(
        tmp_path, tasks=(EXAMPLE / "tasks.py").read_text("utf-8"), module="tasks"
    ) as cluster:
        (tmp_path / "app.py").write_text((EXAMPLE / "app.py").read_text("utf-8"))
        (tmp_path / "volume").mkdir()
        deployed = Deployed(cluster, programs)
        compose = programs["control-plane"].healthcheck is not None
        assert not compose or not deployed.is_healthy("control-plane")
        control_plane = deployed.control_plane()
        ports = {TASKS: cluster.port, DISCOVERY: cluster.discovery_port}
        deployed.check_probes("http://127.0.0.1", "control-plane", ports)
        assert not compose or deployed.is_healthy("control-plane")

        web = deployed.start("web")
        found = re.search(r"http://[\d.]+:(\d+)", web.wait_line("Uvicorn running on"))
        assert found is not None
        deployed.check_probes("http://127.0.0.1", "web", {WEB: int(found[1])})
        deployed.here[f"http://127.0.0.1:{WEB}"] = found[0]
        assert not compose or deployed.is_healthy("web")

        with httpx.Client(base_url=found[0], timeout=WAIT_SECONDS, trust_env=False) as http:
            accepted = http.post("/texts", json={"text": text})
            assert accepted.status_code == 202, accepted.text
            # Recreate: the old process ends before the new one starts. The job waits in the volume.
            assert control_plane.terminate() == 0
            control_plane = deployed.control_plane()
            subworker = deployed.start("subworker")
            subworker.wait_line(SUBWORKER_READY)
            result = http.get(f"/texts/{accepted.json()}")
            assert result.json() == {"to": 2, "be": 2, "or": 1, "not": 1}, result.text
        assert subworker.terminate() == 0
        assert control_plane.terminate() == 0
