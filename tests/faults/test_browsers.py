"""Browsers that leave in the middle of a request: nothing of it stays behind in the web app."""

from __future__ import annotations

import os
import random
import socket
from pathlib import Path
from typing import Final

import httpx

from tests.faults.report import REPORT
from tests.faults.rounds import Rounds
from tests.faults.site import wait_until
from tests.support.cluster import Cluster
from tests.support.process import WAIT_SECONDS
from tests.support.web import WebApp, running_app

LONGEST_STAY_SECONDS: Final = 0.04
"""Of a browser: longer than a request takes on an idle machine."""

APP = """
import asyncio

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from cluster_tasks import add
from fastworker.integrations.fastapi import FastWorker, FastWorkerClient

app = FastAPI()
FastWorker(app)

@app.get("/plain")
async def plain() -> int:
    return await (await add.submit(2, 3)).result()

@app.get("/bound")
async def bound(request: Request, client: FastWorkerClient) -> int:
    async with client.bound_to(request):
        return await (await add.submit(2, 3)).result()

@app.get("/streamed")
async def streamed() -> StreamingResponse:
    async def sums():
        for number in range(5):
            yield f"{await (await add.submit(number, 3)).result()}\\n"

    return StreamingResponse(sums())

@app.get("/left")
async def left() -> int:
    return len(asyncio.all_tasks())
"""


def leave(address: tuple[str, int], path: str, seconds: float) -> None:
    """Ask for a page, and be gone after so many seconds."""
    with socket.create_connection(address) as browser:
        browser.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        browser.settimeout(max(seconds, 0.0001))
        try:
            browser.recv(1)
        except TimeoutError:
            return


def tasks_left(web: WebApp) -> int:
    return int(web.http.get("/left").text)


def descriptors(web: WebApp) -> int:
    return len(os.listdir(f"/proc/{web.process.pid}/fd"))


def test_c04_browsers_leave_at_any_moment(tmp_path: Path, rounds: Rounds, seed: int) -> None:
    chance = random.Random(seed)
    (tmp_path / "app.py").write_text(APP)
    with Cluster(tmp_path) as cluster:
        cluster.control_plane()
        cluster.subworker("sw1")
        with running_app(cluster) as web:
            url = httpx.URL(web.http.base_url)
            address = url.host, url.port or 80
            for path in ("/plain", "/bound", "/streamed"):
                assert web.http.get(path).status_code == 200
            tasks, files = tasks_left(web), descriptors(web)
            for _ in range(rounds.of("C04 browsers that left", ci=60, full=3_000)):
                path = chance.choice(("/plain", "/bound", "/streamed"))
                leave(address, path, chance.uniform(0, LONGEST_STAY_SECONDS))
            what = "task or connection left behind"
            wait_until(lambda: tasks_left(web) <= tasks, seconds=WAIT_SECONDS, what=what)
            wait_until(lambda: descriptors(web) <= files, seconds=WAIT_SECONDS, what=what)
            assert web.http.get("/plain").json() == 5
            assert "Traceback" not in web.process.log, web.process.log
            REPORT.figures.append(f"C04 a web app has {tasks} tasks and {files} descriptors again")
