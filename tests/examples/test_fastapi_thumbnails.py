"""The thumbnails example: real HTTP, real processes, real pictures."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.support.cluster import ROOT, Cluster
from tests.support.web import WebApp, running_app

EXAMPLE = ROOT / "examples" / "fastapi_thumbnails"
UPRIGHT_AFTER_TURN = 6
"""The EXIF orientation of a camera held upright."""

pytestmark = [pytest.mark.process, pytest.mark.slow]


def example_cluster(folder: Path) -> Cluster:
    return Cluster(folder, tasks=(EXAMPLE / "tasks.py").read_text("utf-8"), module="tasks")


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebApp]:
    with example_cluster(tmp_path_factory.mktemp("thumbnails")) as cluster:
        # A task that fails is logged with its traceback; that is no failure of a process.
        cluster.expected_tracebacks = True
        cluster.control_plane()
        cluster.subworker("sw1")
        with running_app(cluster, app_folder=EXAMPLE) as web:
            yield web


def picture(kind: str, size: tuple[int, int], mode: str = "RGB", **options: Any) -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, (200, 40, 40, 0)[: len(mode)]).save(file, kind, **options)
    return file.getvalue()


def noise(side: int) -> bytes:
    """A picture that no format makes smaller."""
    file = io.BytesIO()
    pixels = random.Random(7).randbytes(3 * side * side)
    Image.frombytes("RGB", (side, side), pixels).save(file, "PNG")
    return file.getvalue()


def submit(web: WebApp, **pictures: bytes) -> dict[str, dict[str, str]]:
    files = [("pictures", (name, content)) for name, content in pictures.items()]
    answer = web.http.post("/jobs", files=files)
    assert answer.status_code == 202, answer.text
    jobs = {job["name"]: job for job in answer.json()}
    assert list(jobs) == list(pictures)
    return jobs


def events_of(lines: Iterator[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The events of a stream, as they come; comments are passed over."""
    kind = ""
    for line in lines:
        name, _, value = line.partition(": ")
        if name == "event":
            kind = value
        elif name == "data":
            yield kind, json.loads(value)


def follow(web: WebApp, job: dict[str, str]) -> list[tuple[str, dict[str, Any]]]:
    """All events of a job, to the end of the stream."""
    answer = web.http.get(job["events"])
    assert answer.headers["content-type"].startswith("text/event-stream")
    return list(events_of(iter(answer.text.splitlines())))


def thumbnail(answer: httpx.Response) -> Image.Image:
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/png")
    return Image.open(io.BytesIO(answer.content))


def test_pictures_become_thumbnails(web: WebApp) -> None:
    exif = Image.Exif()
    exif[0x0112] = UPRIGHT_AFTER_TURN
    jobs = submit(
        web,
        photo=picture("JPEG", (1200, 800), exif=exif),
        logo=picture("PNG", (512, 128), "RGBA"),
        tiny=picture("GIF", (16, 16)),
    )
    for job in jobs.values():
        *before, (kind, end) = follow(web, job)
        assert (kind, end) == ("end", {"id": job["id"], "status": "success", "error": None})
        assert all(kind == "status" for kind, _ in before)
    made = {name: thumbnail(web.http.get(job["thumbnail"])) for name, job in jobs.items()}
    assert {name: image.size for name, image in made.items()} == {
        "photo": (171, 256),
        "logo": (256, 64),
        "tiny": (16, 16),
    }
    assert made["logo"].mode == "RGBA" and made["photo"].mode == "RGB"


def test_picture_too_large_for_an_argument_goes_through_the_folder(web: WebApp) -> None:
    large = noise(700)
    assert len(large) > 1_048_576
    job = submit(web, large=large)["large"]
    assert thumbnail(web.http.get(job["thumbnail"])).size == (256, 256)


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"no picture at all", "known format"), (noise(64)[:5000], "cannot be read")],
    ids=["text", "cut short"],
)
def test_broken_picture_says_what_is_wrong(web: WebApp, content: bytes, says: str) -> None:
    job = submit(web, broken=content)["broken"]
    kind, end = follow(web, job)[-1]
    assert (kind, end["status"]) == ("end", "failure")
    assert says in end["error"]
    answer = web.http.get(job["thumbnail"])
    assert answer.status_code == 422
    assert says in answer.json()["detail"] and "Traceback" not in answer.text


def test_status_is_streamed_while_the_job_waits(tmp_path: Path) -> None:
    with example_cluster(tmp_path) as cluster:
        cluster.control_plane()
        with running_app(cluster, app_folder=EXAMPLE) as web:
            job = submit(web, dot=picture("PNG", (1, 1)))["dot"]
            with web.http.stream("GET", job["events"]) as answer:
                events = events_of(answer.iter_lines())
                assert next(events) == ("status", {"id": job["id"], "status": "queued"})
                cluster.subworker("sw1")
                assert list(events)[-1][1]["status"] == "success"


def test_requests_that_make_no_sense_are_refused(web: WebApp) -> None:
    unknown = "01890a5d-ac96-774b-bcce-b302099a8057"
    for path in (f"/jobs/{unknown}/events", f"/thumbnails/{unknown}"):
        answer = web.http.get(path)
        assert (answer.status_code, answer.json()["error"]) == (404, "unknown_job")
    assert web.http.get("/thumbnails/nonsense").status_code == 422
    assert web.http.post("/jobs").status_code == 422
    many = [("pictures", (f"{n}.gif", b"")) for n in range(9)]
    assert web.http.post("/jobs", files=many).status_code == 413


def test_page_needs_nothing_from_elsewhere(web: WebApp) -> None:
    page = web.http.get("/")
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert "<form" in page.text and "://" not in page.text and "style=" not in page.text
    for name in ("page.js", "page.css", "icon.svg"):
        assert f"/static/{name}" in page.text
        assert web.http.get(f"/static/{name}").status_code == 200


def test_readme_shows_the_commands_these_tests_run() -> None:
    readme = (EXAMPLE / "README.md").read_text("utf-8")
    assert "fastworker run control-plane --task-modules tasks\n" in readme
    assert "fastworker run subworker --task-modules tasks\n" in readme
    assert "uvicorn app:app " in readme
