"""D47: tokens, keys and payloads are in no log, error, argument, environment or representation."""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fastworker.cli.app import app
from fastworker.cli.exits import describe, user_error
from fastworker.client.ambient import StandIn
from fastworker.client.blocking import BlockingClient
from fastworker.client.client import Client
from fastworker.config import resolve
from fastworker.config.client import ClientDefaults
from fastworker.errors import FastWorkerError
from fastworker.server.identities import Identities, IssuedToken
from fastworker.server.identity import Identity
from fastworker.server.settings import ControlPlaneSettings
from fastworker.server.tls import OwnDoor
from fastworker.wire.addresses import Address
from fastworker.wire.handshake import DialerHandshake, ListenerHandshake
from fastworker.worker.settings import SubworkerSettings
from tests.bad_input.raw import SETTINGS
from tests.support.cluster import COMMAND, SUBWORKER_READY, Cluster
from tests.support.planes import plane_in_a_thread
from tests.support.process import WAIT_SECONDS

SECRET = "5ecret-5ecret-5ecret-5ecret-5ecret-5ecret"
TOKEN = f"shown.{SECRET}"
PAYLOAD = "p4yload-that-only-the-task-may-see"

HERE = Address("127.0.0.1", 5555)

SPY = '''\
"""A task that looks for secrets, and one that fails with what it was given."""
import os

from fastworker import task


@task
def spy(given: str) -> str:
    return repr(dict(os.environ)) + open("/proc/self/cmdline").read()


@task
def stumble(given: str) -> None:
    raise ValueError("it did not like that")
'''


def all_with_a_secret() -> Iterator[object]:
    """One of everything that holds a token."""
    settings = resolve({}, {"FASTWORKER_TOKEN": TOKEN}, Path("/")).settings
    issued = IssuedToken(TOKEN, Identity("shown"))
    asked = ControlPlaneSettings(tokens={"shown": TOKEN}, issued_tokens=(issued,))
    yield settings
    yield resolve({}, {"FASTWORKER_TOKEN": TOKEN}, Path("/"))
    yield ClientDefaults(("tcp://a:1",), settings, Path("/"))
    yield Client(token=TOKEN)
    yield BlockingClient(token=TOKEN)
    yield issued
    yield asked
    yield Identities(asked.tokens, asked.issued_tokens)
    yield OwnDoor(asked, SECRET)
    yield SubworkerSettings([HERE], TOKEN, "sw1", ())
    yield StandIn(HERE, TOKEN)
    yield DialerHandshake("client", TOKEN, os.urandom)
    yield ListenerHandshake({"shown": TOKEN.encode()}.get, os.urandom)


@pytest.mark.parametrize("holder", list(all_with_a_secret()), ids=lambda one: type(one).__name__)
def test_no_representation_shows_a_token(holder: object) -> None:
    assert SECRET not in repr(holder)
    assert SECRET not in str(holder)


def test_tracebacks_of_the_command_line_show_no_local_variables() -> None:
    assert not app.pretty_exceptions_enable


@pytest.mark.parametrize(
    "token", [f"ab.{SECRET}\x07", SECRET[:20], f".{SECRET}", f"certificate.{SECRET}"]
)
def test_d47_a_token_that_cannot_be_used_is_not_repeated(token: str, tmp_path: Path) -> None:
    from fastworker.config import configured_token

    path = tmp_path / "token"
    path.write_text(token)
    path.chmod(0o600)
    for given in ({"FASTWORKER_TOKEN": token}, {"FASTWORKER_TOKEN_FILE": str(path)}):
        with pytest.raises(FastWorkerError) as caught:
            configured_token(resolve({}, given, tmp_path).settings)
        found = user_error(caught.value)
        assert found is not None
        assert SECRET[:20] not in describe(found)


def test_an_application_that_logs_everything_logs_no_payload(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The WebSocket library would: every frame, at DEBUG."""
    settings = replace(SETTINGS, tokens={"shown": TOKEN})
    caplog.set_level(logging.DEBUG)
    with (
        plane_in_a_thread(settings) as plane,
        BlockingClient(control_plane_address=plane.addresses[0], token=TOKEN) as client,
    ):
        client.cancel(client.delay("nobody.has.it", PAYLOAD))
    assert PAYLOAD not in caplog.text
    assert SECRET not in caplog.text
    theirs = {record.name for record in caplog.records}
    assert not theirs & {"websockets.client", "fastworker.client.websocket"}


def every_process_below(pid: int) -> Iterator[int]:
    """Its children, and theirs."""
    for listing in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, listing.read_text().split()):
            yield child
            yield from every_process_below(child)


def run(cluster: Cluster, token: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments, "--control-plane-address", cluster.address],
        cwd=cluster.folder,
        env={**cluster.environment(), "FASTWORKER_TOKEN": token},
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
    )


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
def test_no_secret_is_in_logs_arguments_environments_or_answers(tmp_path: Path) -> None:
    with Cluster(tmp_path, tasks=SPY, module="spies") as cluster:
        given = {"FASTWORKER_TOKEN": TOKEN}
        places = ("--base-address", cluster.address, "--discovery-address", "tcp://127.0.0.1:0")
        modules = ("--task-modules", "spies", "--log-level", "debug")
        state = ("--store", str(tmp_path / "store"), "--local-worker", "always")
        plane = cluster.start("cp", "run", "control-plane", *places, *modules, *state, extra=given)
        cluster.wait_ready(plane)
        plane.wait_line(SUBWORKER_READY)
        place = ("--control-plane-address", cluster.address)
        subworker = cluster.start("sw1", "run", "subworker", *place, *modules, extra=given)
        subworker.wait_line(SUBWORKER_READY)

        for member in (plane, subworker):
            below = list(every_process_below(member.pid))
            assert below, cluster.logs()
            for pid in below:
                assert SECRET not in Path(f"/proc/{pid}/environ").read_text()
            for pid in (member.pid, *below):
                assert SECRET not in Path(f"/proc/{pid}/cmdline").read_text()

        answers = [
            run(cluster, TOKEN, "submit", "spy", f'["{PAYLOAD}"]', "--wait"),
            run(cluster, TOKEN, "submit", "stumble", f'["{PAYLOAD}"]', "--wait"),
            run(cluster, TOKEN, "status"),
            run(cluster, f"{TOKEN}x", "status"),
            run(cluster, TOKEN[:20], "status"),
        ]
        assert [answer.returncode for answer in answers] == [0, 1, 0, 5, 2]
        said = "\n".join(answer.stdout + answer.stderr for answer in answers)
        said += cluster.logs()
        assert SECRET[:12] not in said
        assert PAYLOAD not in said
