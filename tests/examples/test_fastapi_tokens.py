"""The tokens example: real HTTP, real processes, and a real browser where there is one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from fastworker import BlockingClient
from tests.support.browser import Browser, open_browser, require_browser, until
from tests.support.cluster import ROOT, Cluster
from tests.support.web import WebApp, running_app

EXAMPLE = ROOT / "examples" / "fastapi_tokens"

FOR_EVER = 10_000
"""Tokens: five minutes."""

pytestmark = [pytest.mark.process, pytest.mark.slow]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    folder = tmp_path_factory.mktemp("tokens")
    tasks = (EXAMPLE / "tasks.py").read_text("utf-8")
    with Cluster(folder, tasks=tasks, module="tasks") as cluster:
        cluster.control_plane()
        cluster.subworker("sw1")
        yield cluster


@pytest.fixture(scope="module")
def web(cluster: Cluster) -> Iterator[WebApp]:
    with running_app(cluster, app_folder=EXAMPLE) as web:
        yield web


@pytest.fixture(scope="module")
def client(cluster: Cluster) -> Iterator[BlockingClient]:
    with BlockingClient(control_plane_address=cluster.address, token=cluster.token) as client:
        yield client


@pytest.fixture
def browser(web: WebApp, tmp_path: Path) -> Iterator[Browser]:
    require_browser("examples/fastapi_tokens")
    with open_browser(tmp_path) as browser:
        browser.go(str(web.http.base_url))
        yield browser


def status_of(client: BlockingClient, task_id: str) -> str:
    view = client.get_task_result(task_id)
    assert view is not None
    return view.status


def ask(browser: Browser, prompt: str, length: int) -> None:
    browser.enter("textarea", prompt)
    browser.enter("input", str(length))
    browser.click("#ask")


def wait_tokens(browser: Browser, count: int) -> str:
    """Until so many tokens are shown; the job."""
    until(lambda: len(browser.text("#answer").split()) >= count, f"{count} tokens")
    task_id = browser.attribute("#state", "data-task")
    assert task_id is not None
    return task_id


def test_an_answer_is_streamed(web: WebApp) -> None:
    answers = []
    for _ in range(2):
        form = {"prompt": "Hello!", "length": "100"}
        with web.http.stream("POST", "/answers", data=form) as answer:
            assert answer.status_code == 200
            lines = [json.loads(line) for line in answer.iter_lines()]
        assert lines[-1] == {"end": "complete"}
        answers.append([line["token"] for line in lines[:-1]])
    assert answers[0] == answers[1] and len(answers[0]) == 100


def test_a_client_that_goes_away_stops_the_task(web: WebApp, client: BlockingClient) -> None:
    form = {"prompt": "Hello!", "length": str(FOR_EVER)}
    with web.http.stream("POST", "/answers", data=form) as answer:
        task_id = answer.headers["X-Task-Id"]
        assert "token" in next(answer.iter_lines())
        assert status_of(client, task_id) == "running"
    until(lambda: status_of(client, task_id) == "cancelled", "the end of the task")


def test_what_makes_no_sense_is_refused(web: WebApp) -> None:
    for form in ({}, {"prompt": "x", "length": "0"}, {"prompt": "x" * 10_001, "length": "1"}):
        answer: httpx.Response = web.http.post("/answers", data=form)
        assert answer.status_code == 422


def test_the_page_shows_a_whole_answer(browser: Browser) -> None:
    ask(browser, "Tell me a story.", 30)
    until(lambda: browser.text("#state") == "complete", "the end of the answer")
    assert len(browser.text("#answer").split()) == 30
    assert browser.attribute("#cancel", "disabled") is not None
    assert browser.errors() == []


def test_cancel_stops_the_task(browser: Browser, client: BlockingClient, cluster: Cluster) -> None:
    ask(browser, "Tell me all you know.", FOR_EVER)
    task_id = wait_tokens(browser, 10)
    assert status_of(client, task_id) == "running"
    browser.click("#cancel")
    until(lambda: browser.text("#state") == "cancelled", "the page to say so")
    until(lambda: status_of(client, task_id) == "cancelled", "the end of the task")
    until(lambda: f"of {FOR_EVER} tokens were made" in cluster.logs(), "its clean-up")
    ask(browser, "Once more.", 5)
    until(lambda: browser.text("#state") == "complete", "the next answer")


def test_closing_the_tab_stops_the_task(
    browser: Browser, web: WebApp, client: BlockingClient
) -> None:
    browser.open_tab()
    browser.go(str(web.http.base_url))
    ask(browser, "Tell me all you know.", FOR_EVER)
    task_id = wait_tokens(browser, 10)
    assert status_of(client, task_id) == "running"
    browser.close_tab()
    until(lambda: status_of(client, task_id) == "cancelled", "the end of the task")


def test_readme_shows_the_commands_these_tests_run() -> None:
    readme = (EXAMPLE / "README.md").read_text("utf-8")
    assert "fastworker run control-plane --task-modules tasks\n" in readme
    assert "fastworker run subworker --task-modules tasks\n" in readme
    assert "uvicorn app:app " in readme
