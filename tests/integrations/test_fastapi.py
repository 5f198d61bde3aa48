"""The FastAPI integration: errors with a client that raises them, life and death with real ones."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, StreamingResponse

from fastworker import (
    CallerError,
    Client,
    ClientNotReady,
    Conflict,
    ControlPlaneUnavailable,
    Forbidden,
    Indeterminate,
    JobDead,
    Overloaded,
    ResultExpired,
    StorageFull,
    TaskError,
    UnknownJob,
)
from fastworker.integrations.fastapi import (
    FastWorker,
    FastWorkerClient,
    get_client,
    install_error_handlers,
    lifespan,
)
from tests.support.cluster import ROOT, TASKS, Cluster, free_port
from tests.support.web import running_app

JOB = "01890a5d-ac96-774b-bcce-b302099a8057"
SECRET = "10.0.0.7 said no"
TOKEN = "test." + "x" * 40


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class StubClient:
    """Fails as it is told."""

    def __init__(self, error: Exception, cause: Exception | None = None) -> None:
        self.error, self.cause = error, cause

    async def result(self, task_id: str) -> None:
        raise self.error from self.cause


def stub_app(stub: StubClient, **settings: Any) -> FastAPI:
    app = FastAPI(**settings)
    FastWorker(app)
    app.dependency_overrides[get_client] = lambda: stub

    @app.get("/result")
    async def result(client: FastWorkerClient) -> Any:
        return await client.result(JOB)

    return app


async def get(app: FastAPI, path: str = "/result") -> httpx.Response:
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        return await http.get(path)


def about_job(error: Any) -> Any:
    error.task_id = JOB
    return error


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("error", "status", "code", "retry_after"),
    [
        (ControlPlaneUnavailable(SECRET), 503, "control_plane_unavailable", "5"),
        (Indeterminate(SECRET), 503, "indeterminate", None),
        (Overloaded(SECRET, retry_after=2.1), 503, "overloaded", "3"),
        (Overloaded(SECRET, retry_after=0.0), 503, "overloaded", "1"),
        (StorageFull(SECRET), 503, "storage_full", None),
        (Forbidden(SECRET), 403, "forbidden", None),
        (UnknownJob(SECRET), 404, "unknown_job", None),
        (ResultExpired(SECRET), 410, "result_expired", None),
        (Conflict(SECRET), 409, "conflict", None),
        (TaskError(SECRET, remote_traceback=SECRET), 500, "task_error", None),
        (JobDead(SECRET), 500, "job_dead", None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_error_becomes_its_answer(
    error: Exception, status: int, code: str, retry_after: str | None
) -> None:
    answer = await get(stub_app(StubClient(about_job(error))))
    body = answer.json()
    assert (answer.status_code, body["error"], body["task_id"]) == (status, code, JOB)
    assert answer.headers.get("Retry-After") == retry_after
    assert set(body) == {"error", "detail", "task_id"} and body["detail"].endswith(".")
    assert SECRET not in answer.text


@pytest.mark.anyio
async def test_wait_that_ends_first_is_504() -> None:
    answer = await get(stub_app(StubClient(TimeoutError(SECRET))))
    assert answer.status_code == 504
    assert answer.json()["error"] == "timeout"
    assert SECRET not in answer.text


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [ValueError, TimeoutError])
async def test_what_a_task_raised_is_500(
    kind: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    cause = TaskError(SECRET, type_name=kind.__name__, remote_traceback="Traceback", task_id=JOB)
    with caplog.at_level(logging.WARNING, "fastworker.integrations"):
        answer = await get(stub_app(StubClient(kind(SECRET), cause)))
    assert answer.status_code == 500
    assert answer.json() == {
        "error": "task_error",
        "detail": f"The job did not succeed: {kind.__name__}.",
        "task_id": JOB,
    }
    assert SECRET in caplog.text and "Traceback" not in caplog.text


@pytest.mark.anyio
async def test_what_the_jobs_of_a_task_group_raised_is_500() -> None:
    failed = ValueError(SECRET)
    failed.__cause__ = TaskError(SECRET, type_name="ValueError", task_id=JOB)
    late = ExceptionGroup("inner", [ControlPlaneUnavailable(SECRET)])
    answer = await get(stub_app(StubClient(ExceptionGroup("errors", [failed, late]))))
    assert (answer.status_code, answer.json()["error"]) == (500, "task_error")
    assert answer.json()["detail"] == "The job did not succeed: ValueError."


@pytest.mark.anyio
async def test_errors_that_are_not_ours_stay_the_apps() -> None:
    with pytest.raises(ValueError, match="own"):
        await get(stub_app(StubClient(ValueError("own"))))
    with pytest.raises(ExceptionGroup):
        await get(stub_app(StubClient(ExceptionGroup("", [TaskError(""), ValueError("own")]))))
    answer = await get(stub_app(StubClient(HTTPException(418, "teapot"))))
    assert (answer.status_code, answer.json()) == (418, {"detail": "teapot"})


@pytest.mark.anyio
@pytest.mark.parametrize("kind", [UnknownJob, ValueError])
async def test_handlers_of_the_app_win(kind: type[Exception]) -> None:
    async def mine(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse("mine", 418)

    app = stub_app(StubClient(kind(), TaskError("")), exception_handlers={kind: mine})
    assert (await get(app)).status_code == 418


def test_installing_twice_does_nothing_more() -> None:
    app = FastAPI()
    install_error_handlers(app)
    install_error_handlers(app)
    assert len(app.user_middleware) == 1


@pytest.mark.anyio
async def test_answer_that_has_begun_is_not_begun_again() -> None:
    app = stub_app(StubClient(ValueError()))

    async def lines() -> AsyncIterator[str]:
        yield "one"
        raise ValueError("late") from TaskError(SECRET)

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(lines())

    with pytest.raises(ValueError, match="late"):
        await get(app, "/stream")


@pytest.mark.anyio
async def test_client_lives_around_the_apps_own_lifespan() -> None:
    seen: list[bool] = []

    @asynccontextmanager
    async def own(app: FastAPI) -> AsyncIterator[dict[str, str]]:
        seen.append(app.state.fastworker.client.is_started)
        yield {"own": "kept"}
        seen.append(app.state.fastworker.client.is_started)

    app = FastAPI(lifespan=own)
    # Nobody listens there: starting the app waits for no control plane.
    address = f"tcp://127.0.0.1:{free_port()}"
    client = FastWorker(app, control_plane_address=address, token=TOKEN).client
    for _ in range(2):  # as a test client does that is used twice
        with anyio.fail_after(5):
            async with app.router.lifespan_context(app) as state:
                assert state == {"own": "kept", "fastworker_client": client}
        assert not client.is_started
    assert seen == [True] * 4


@pytest.mark.anyio
async def test_lifespan_can_be_used_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTWORKER_TOKEN", TOKEN)
    app = FastAPI(lifespan=lifespan)
    async with app.router.lifespan_context(app) as state:
        assert state is not None
        client = state["fastworker_client"]
        assert isinstance(client, Client) and client.is_started
    assert not client.is_started


@pytest.mark.anyio
async def test_without_a_running_lifespan_a_sentence_says_so() -> None:
    app = FastAPI()
    FastWorker(app)

    @app.get("/result")
    async def result(client: FastWorkerClient) -> None: ...

    with pytest.raises(ClientNotReady, match="run its lifespan"):
        await get(app)


def test_one_app_has_one_fastworker() -> None:
    app = FastAPI()
    FastWorker(app)
    with pytest.raises(CallerError, match="already"):
        FastWorker(app)


def test_missing_fastapi_is_one_clear_sentence() -> None:
    program = (
        "import sys; sys.modules['fastapi'] = None\n"
        "try: import fastworker.integrations.fastapi\n"
        "except ModuleNotFoundError as error: print(error)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "needs FastAPI, which is not installed" in run.stdout, run.stderr


# --- real processes ------------------------------------------------------------------------------

ROUTES = """
from cluster_tasks import add, fail
from fastworker import TaskPriority
from fastworker.integrations.fastapi import FastWorkerClient

@app.post("/sums", status_code=202)
async def submit(x: int, y: int) -> str:
    return await add.delay(x, y)

@app.post("/failures", status_code=202)
async def submit_failure() -> str:
    return await fail.delay("on purpose")

@app.get("/jobs/{task_id}")
async def result(task_id: str, client: FastWorkerClient) -> int:
    return await client.result(task_id, timeout=20)
"""

THREE_LINES = """
from fastapi import FastAPI
from fastworker.integrations.fastapi import FastWorker

app = FastAPI()
FastWorker(app, submit_timeout=0.5)
"""

FOUNDING = """
from fastapi import FastAPI
from fastworker import Client

app = FastAPI()
client = Client()

@app.on_event("startup")
async def startup():
    await client.start()

@app.on_event("shutdown")
async def shutdown():
    client.stop()

@app.post("/orders")
async def order(x: int, y: int):
    return {"task_id": await client.delay("add", x, y)}

@app.get("/orders/{task_id}")
async def ordered(task_id: str):
    found = await client.get_task_result(task_id)
    return {"status": found.status, "result": found.result}

@app.get("/wait/{task_id}")
async def wait(task_id: str):
    return await client.result(task_id, timeout=20)
"""


@pytest.mark.process
def test_jobs_from_routes_until_the_control_plane_dies(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        (tmp_path / "app.py").write_text(THREE_LINES + ROUTES)
        control_plane = cluster.control_plane()
        cluster.subworker("sw1")
        with running_app(cluster) as web:
            submitted = web.http.post("/sums", params={"x": 2, "y": 3})
            assert submitted.status_code == 202
            assert web.http.get(f"/jobs/{submitted.json()}").json() == 5

            failing = web.http.post("/failures").json()
            failed = web.http.get(f"/jobs/{failing}")
            assert failed.status_code == 500
            assert failed.json()["detail"] == "The job did not succeed: ValueError."
            assert web.http.get(f"/jobs/{JOB}").status_code == 404

            control_plane.kill()
            web.process.wait_line("not connected")
            refused = web.http.post("/sums", params={"x": 2, "y": 3})
            assert refused.status_code == 503, refused.text
            assert refused.json()["error"] == "control_plane_unavailable"
            assert refused.headers["Retry-After"] == "5"
            assert web.process.terminate() in (0, -15)  # uvicorn raises its signal again


@pytest.mark.process
def test_founding_snippet_with_start_and_stop_handlers(tmp_path: Path) -> None:
    with Cluster(tmp_path) as cluster:
        (tmp_path / "app.py").write_text(FOUNDING)
        with running_app(cluster) as web:  # before there is anything to connect to
            cluster.control_plane()
            cluster.subworker("sw1")
            task_id = web.http.post("/orders", params={"x": 2, "y": 3}).json()["task_id"]
            assert web.http.get(f"/wait/{task_id}").json() == 5
            found = web.http.get(f"/orders/{task_id}").json()
            assert found == {"status": "success", "result": 5}
            assert web.process.terminate() in (0, -15)
            assert "Application shutdown complete" in web.process.log


HOW_TO = ROOT / "docs" / "how-to" / "fastapi.md"
APPLICATIONS = re.findall(r"^```python\n(.*?)^```$", HOW_TO.read_text("utf-8"), re.M | re.S)


@pytest.mark.process
@pytest.mark.parametrize("application", APPLICATIONS, ids=["integration", "by hand"])
def test_how_to_page_does_what_it_shows(tmp_path: Path, application: str) -> None:
    with Cluster(tmp_path, tasks=TASKS, module="tasks") as cluster:
        (tmp_path / "app.py").write_text(application)
        cluster.control_plane()
        cluster.subworker("sw1")
        with running_app(cluster) as web:
            submitted = web.http.post("/sums", params={"x": 2, "y": 3})
            assert submitted.status_code == 202
            if "/sums/{task_id}" in application:
                assert web.http.get(f"/sums/{submitted.json()}").json() == 5
