"""Real processes over TLS: control plane, subworkers, the local one, and commands."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from fastworker.tls import CertificateFiles
from tests.support.certificates import Authority
from tests.support.cluster import COMMAND, SUBWORKER_READY, Cluster
from tests.support.process import WAIT_SECONDS, Member
from tests.test_documents import HOW_TO, blocks_of

pytestmark = [pytest.mark.process, pytest.mark.slow]

LISTENING = r"control plane .* listening on"


def flags(files: CertificateFiles, *, mutual: bool = False) -> tuple[str, ...]:
    """What shows these certificates."""
    assert files.certificate is not None and files.key is not None
    own = ("--tls-cert", str(files.certificate), "--tls-key", str(files.key))
    return (*own, "--tls-ca", str(files.authorities)) if mutual else own


def start_secured(cluster: Cluster, *more: str) -> Member:
    """Start a control plane with TLS and wait until it listens."""
    member = cluster.control_plane(*more, ready=False)
    line = member.wait_line(LISTENING)
    assert f"wss://127.0.0.1:{cluster.port}" in line
    return member


def place(cluster: Cluster) -> tuple[str, str]:
    return ("--control-plane-address", f"wss://127.0.0.1:{cluster.port}")


def run(cluster: Cluster, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run one command, with nothing but its flags."""
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=cluster.folder,
        env=cluster.environment(),
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
    )


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def test_a_cluster_over_mutual_tls_runs_jobs_of_a_command(
    cluster: Cluster, authority: Authority
) -> None:
    start_secured(cluster, *flags(authority.issue("127.0.0.1"), mutual=True))
    token = ("--token-file", str(cluster.token_file))
    worker = authority.issue("worker.example", stem="worker")
    subworker = cluster.start(
        "sw1",
        *("run", "subworker", *place(cluster), *token, "--task-modules", cluster.module),
        *flags(worker, mutual=True),
    )
    subworker.wait_line(SUBWORKER_READY)
    shown = (*place(cluster), *token, *flags(worker, mutual=True))
    finished = run(cluster, "submit", "add", "[2, 3]", "--wait", *shown)
    assert (finished.returncode, finished.stdout.strip()) == (0, "5"), finished.stderr

    bare = (*place(cluster), *token, "--tls-ca", str(authority.file))
    refused = run(cluster, "status", *bare)
    assert refused.returncode == 5
    assert refused.stderr.startswith("fastworker: wss://")
    assert "shows a certificate" in refused.stderr and len(refused.stderr.splitlines()) == 1
    assert run(cluster, "subworker", *bare).returncode == 5


def test_the_local_worker_needs_no_certificate(cluster: Cluster, authority: Authority) -> None:
    files = flags(authority.issue("queue.example"), mutual=True)
    start_secured(cluster, "--local-worker", "always", *files).wait_line(
        r"local.*connected|connected to"
    )
    member = authority.issue("app.example", stem="app")
    shown = (*place(cluster), "--token-file", str(cluster.token_file), *flags(member, mutual=True))
    named = run(cluster, "status", *shown)
    assert named.returncode == 5
    assert "is for another name" in named.stderr


def test_wrong_schemes_and_authorities_have_their_exit_codes(
    cluster: Cluster, authority: Authority
) -> None:
    start_secured(cluster, *flags(authority.issue("127.0.0.1")))
    token = ("--token-file", str(cluster.token_file))
    plain = run(cluster, "status", "--control-plane-address", cluster.address, *token)
    assert plain.returncode == 3
    assert "wss://" in plain.stderr
    unknown = run(cluster, "status", *place(cluster), *token)
    assert unknown.returncode == 5
    assert "--tls-ca" in unknown.stderr
    known = run(cluster, "status", *place(cluster), *token, "--tls-ca", str(authority.file))
    assert known.returncode == 0, known.stderr


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_the_page_does_what_it_shows(cluster: Cluster) -> None:
    blocks = blocks_of(HOW_TO / "tls.md")
    (script,) = [block.text for block in blocks if block.is_file("certificates.sh")]
    subprocess.run(["sh", "-c", script], cwd=cluster.folder, capture_output=True, check=True)
    command = cluster.folder / "bin" / "fastworker"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.join(COMMAND)} "$@"\n')
    command.chmod(0o755)
    environment = {
        "PATH": f"{command.parent}:{os.environ['PATH']}",
        "XDG_RUNTIME_DIR": str(cluster.folder),
        "FASTWORKER_BASE_ADDRESS": cluster.address,
        "FASTWORKER_DISCOVERY_ADDRESS": cluster.discovery_address,
        "FASTWORKER_TASK_MODULES": cluster.module,
        "FASTWORKER_LOCAL_WORKER": "never",
    }
    for block in blocks:
        if block.language == "console":
            for shown in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
                line, _, expected = shown.partition("\n")
                line = line.replace("localhost:5555", f"localhost:{cluster.port}")
                do_as_shown(cluster, line, expected.strip(), environment)


def do_as_shown(cluster: Cluster, line: str, expected: str, environment: dict[str, str]) -> None:
    """Run a line of a console; what ends in ``&`` goes on until a control plane starts again."""
    if line.endswith("&"):
        _, *arguments = shlex.split(line.removesuffix("&"))
        if "control-plane" in arguments:
            cluster.close()
        member = cluster.start("in the background", *arguments, extra=environment)
        member.wait_line(LISTENING if "control-plane" in arguments else SUBWORKER_READY)
        return
    finished = subprocess.run(
        ["sh", "-c", line],
        cwd=cluster.folder,
        env={**cluster.environment(), **environment},
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
    )
    pattern = ".*".join(map(re.escape, expected.split("…")))
    said = f"{line}\n{finished.stdout}\n{finished.stderr}"
    assert finished.returncode == 0, said
    assert re.fullmatch(pattern, finished.stdout.strip()), said
