"""Work that ends with a web request, in a real server whose browsers go away."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from fastworker import Client, InvalidOption, RequestGone
from fastworker.testing import open_runtime
from tests.cancellation.stage import books_of
from tests.client.sample_tasks import count_slowly, diary, echo, sleep
from tests.support.cluster import Cluster
from tests.support.web import running_app

pytestmark = [pytest.mark.process, pytest.mark.slow]

PATIENCE_SECONDS = 20.0

TASKS = '''\
"""Tasks that write down what becomes of them."""
import anyio

from fastworker import task
from fastworker.client.current import current_client

def note(path, line):
    with open(path, "a") as diary:
        diary.write(line + "\\n")

@task
async def work(path: str, mark: str, seconds: float) -> str:
    note(path, f"{mark} started")
    try:
        await anyio.sleep(seconds)
    except BaseException:
        note(path, f"{mark} cancelled")
        raise
    note(path, f"{mark} ended")
    return mark

@task
async def team(path: str, mark: str, seconds: float) -> None:
    async with current_client().task_group() as tg:
        for number in range(2):
            tg.start_soon(work, path, f"{mark}.{number}", seconds)
'''

APP = """\
import anyio
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from bound_tasks import team, work
from fastworker.integrations.fastapi import FastWorker, FastWorkerClient

app = FastAPI()
FastWorker(app)


class Job(BaseModel):
    path: str
    seconds: float


async def submit_deep_inside(job: Job) -> str:
    return await (await work.submit(job.path, "handle", job.seconds)).result()


@app.post("/bound")
async def bound(job: Job, request: Request, client: FastWorkerClient) -> str:
    await work.delay(job.path, "detached", 2.0)
    async with client.bound_to(request):
        await work.delay(job.path, "delayed", job.seconds)
        async with client.task_group() as tg:
            tg.start_soon(team, job.path, "team", job.seconds)
            return await submit_deep_inside(job)


@app.get("/unread")
async def unread(path: str, seconds: float, request: Request, client: FastWorkerClient) -> str:
    async with client.bound_to(request):
        return await (await work.submit(path, "handle", seconds)).result()
"""


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def wait_for(condition: Callable[[], bool], path: Path) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < until, lines_of(path)
        time.sleep(0.02)


@pytest.fixture
def web(tmp_path: Path) -> Any:
    with Cluster(tmp_path, tasks=TASKS, module="bound_tasks") as cluster:
        (tmp_path / "app.py").write_text(APP)
        cluster.control_plane()
        cluster.subworker("one")
        with running_app(cluster) as app:
            yield app


def test_a_browser_that_goes_away_cancels_what_its_request_has_started(
    web: Any, tmp_path: Path
) -> None:
    path = tmp_path / "diary"
    with pytest.raises(httpx.ReadTimeout):
        web.http.post("/bound", json={"path": str(path), "seconds": 60}, timeout=1.5)
    bound = ["delayed", "handle", "team.0", "team.1"]
    wait_for(lambda: all(f"{mark} cancelled" in lines_of(path) for mark in bound), path)
    wait_for(lambda: "detached ended" in lines_of(path), path)
    assert not [line for line in lines_of(path) if line.startswith("detached c")]
    assert "Traceback" not in web.process.log


def test_a_request_without_a_body_is_noticed_too(web: Any, tmp_path: Path) -> None:
    path = tmp_path / "diary"
    with pytest.raises(httpx.ReadTimeout):
        web.http.get("/unread", params={"path": str(path), "seconds": 60}, timeout=1.5)
    wait_for(lambda: "handle cancelled" in lines_of(path), path)
    answer = web.http.get("/unread", params={"path": str(path), "seconds": 0})
    assert answer.json() == "handle"


def test_a_browser_that_stays_gets_its_answer(web: Any, tmp_path: Path) -> None:
    path = tmp_path / "diary"
    answer = web.http.post("/bound", json={"path": str(path), "seconds": 0.1})
    assert (answer.status_code, answer.json()) == (200, "handle")
    wait_for(lambda: "detached ended" in lines_of(path), path)
    assert not [line for line in lines_of(path) if line.endswith("cancelled")]


class Browser:
    """A request whose browser goes away when it is told to."""

    def __init__(self) -> None:
        self.gone = anyio.Event()

    async def receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def is_disconnected(self) -> bool:
        return self.gone.is_set()


class Asked:
    """A request that can only be asked."""

    def __init__(self, browser: Browser) -> None:
        self.is_disconnected = browser.is_disconnected


@contextlib.asynccontextmanager
async def connected_client() -> AsyncIterator[Client]:
    diary.clear()
    with open_runtime() as runtime:
        async with Client() as client:
            await client.wait_connected(PATIENCE_SECONDS)
            with anyio.fail_after(PATIENCE_SECONDS):
                yield client
                await runtime.wait_idle()
            await client.status()
            assert books_of(client) == (True, 0, [])


@pytest.mark.anyio
@pytest.mark.parametrize("kind", ["receive", "is_disconnected"])
async def test_the_block_ends_and_says_that_the_request_has_gone(kind: str) -> None:
    browser = Browser()
    async with connected_client() as client:
        with pytest.raises(RequestGone):
            async with client.bound_to(browser if kind == "receive" else Asked(browser)):
                await client.submit_many(sleep, [("a",), ("b",)])
                browser.gone.set()
                await anyio.sleep_forever()
    assert not [line for line in diary if line.endswith("ended")]


@pytest.mark.anyio
async def test_an_error_of_the_block_is_raised_as_it_is_and_cancels() -> None:
    error = ValueError("mine")
    async with connected_client() as client:
        with pytest.raises(ValueError, match="mine") as caught:
            async with client.bound_to(Browser()):
                await client.submit(sleep, "a")
                raise error
    assert caught.value is error


@pytest.mark.anyio
async def test_a_cancellation_from_outside_is_passed_on() -> None:
    async with connected_client() as client:
        with anyio.move_on_after(0.3) as scope:
            async with client.bound_to(Browser()):
                await client.submit(sleep, "a")
                await anyio.sleep_forever()
        assert scope.cancelled_caught


@pytest.mark.anyio
async def test_after_a_good_block_its_jobs_go_on_and_nothing_is_noted() -> None:
    async with connected_client() as client:
        async with client.bound_to(Browser()):
            job = await client.submit(sleep, "a", 0.3)
            assert await (await client.submit(echo, 1)).result() == 1
        assert await job.result() == "a"


@pytest.mark.anyio
async def test_what_is_no_request_is_refused() -> None:
    async with connected_client() as client:
        with pytest.raises(InvalidOption, match="not a dict"):
            client.bound_to({})  # type: ignore[arg-type]


@pytest.mark.anyio
async def test_task_groups_and_streams_inside_are_found() -> None:
    async with connected_client() as client:
        with pytest.raises(RequestGone):
            browser = Browser()
            async with client.bound_to(browser), client.task_group() as tg:
                tg.start_soon(sleep, "a")
                browser.gone.set()
                async for _ in count_slowly.stream():
                    pass
    assert not [line for line in diary if line.endswith("ended")]
