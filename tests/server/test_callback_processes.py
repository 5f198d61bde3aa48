"""Callbacks through real processes: restarts with another list, and what the command line shows."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue

import pytest

from fastworker import BlockingClient, Forbidden, JobCallback, verify_webhook
from tests.support.cluster import Cluster

pytestmark = [pytest.mark.process, pytest.mark.slow]

PATIENCE_SECONDS = 30.0
LOOK_AGAIN_SECONDS = 0.05
ELSEWHERE = ("192.0.2.1", 9)
"""Nothing is sent there: asking for the way to it tells this machine's own address."""


def own_address() -> str | None:
    """An address of this machine that is not the loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(ELSEWHERE)
        except OSError:
            return None
        address: str = probe.getsockname()[0]
    return None if address.startswith("127.") else address


@contextmanager
def web_application(host: str, token: str) -> Iterator[tuple[str, Queue[JobCallback]]]:
    """Checks webhooks and answers 204; its address, and what it has believed."""
    believed: Queue[JobCallback] = Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            believed.put(verify_webhook(body, dict(self.headers), token=token))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer((host, 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{server.server_port}/jobs", believed
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def shown(cluster: Cluster, *flags: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "fastworker", "callbacks", *flags],
        env=cluster.client_environment(),
        cwd=cluster.folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=True,
    ).stdout


def test_the_list_of_the_control_plane_that_delivers_is_what_counts(tmp_path: Path) -> None:
    host = own_address()
    if host is None:
        pytest.skip("this machine has no address but the loopback")
    with Cluster(tmp_path) as cluster, web_application(host, cluster.token) as (url, believed):
        plane = cluster.control_plane("--callback-allow", host)
        cluster.subworker("sw1")
        with BlockingClient(control_plane_address=cluster.address, token=cluster.token) as client:
            client.delay_with_callback("add", url, 2, 3)
            assert believed.get(timeout=PATIENCE_SECONDS).result == 5
            job = client.delay_with_callback("nobody.has.it", url, callback_data="order 7")
            plane.terminate()
            cluster.control_plane()
            with pytest.raises(Forbidden, match="--callback-allow"):
                client.delay_with_callback("nobody.has.it", url)
            client.cancel(job)
            while not client.callback_deliveries()[0].attempts:
                time.sleep(LOOK_AGAIN_SECONDS)
            (row,) = json.loads(shown(cluster, "--json"))
            assert (row["task_id"], row["problem"]) == (job, "not allowed")
            assert (row["address"], row["given_up_at"]) == (url.removesuffix("/jobs"), None)
            assert "not allowed" in shown(cluster)
            assert client.callback_deliveries(given_up=True) == []
            assert believed.empty()
            cluster.members[-1].terminate()
            cluster.control_plane("--callback-allow", url.split("/")[2])
            callback = believed.get(timeout=PATIENCE_SECONDS)
            assert (callback.task_id, callback.callback_data) == (job, "order 7")
