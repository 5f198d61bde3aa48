"""A web app that makes thumbnails: upload pictures, watch the jobs, fetch the results.

Nothing is kept here: a job and its result live in the control plane, so this server can be
restarted, or run several times, without anybody noticing.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
from fastapi import FastAPI, HTTPException, UploadFile
from fastapi.responses import FileResponse, Response, StreamingResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel
from tasks import make_thumbnail, make_thumbnail_of_file, pictures_folder

from fastworker import Call, FastWorkerError, TaskHandle, TaskStatus, call
from fastworker.integrations.fastapi import FastWorker, FastWorkerClient

MAX_PICTURES = 8
ARGUMENT_BYTES = 1_000_000
"""A picture up to this size travels as an argument (1 MiB is the limit); eight of them fit into
one `submit_many` (8 MiB). Larger ones are put into the shared folder, and their name travels."""

MAX_PICTURE_BYTES = 25_000_000
LOOK_SECONDS = 1.0
"""The end of a job is pushed; whether it still waits or runs already is asked this often."""

RESULT_SECONDS = 10.0
"""How long a request for a thumbnail waits for it."""

STILL_THE_SAME = ": no change\n\n"
"""A comment in the stream: proxies keep it open, and a browser that has gone is noticed."""

HERE = Path(__file__).parent
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}

app = FastAPI(title="Thumbnails")
FastWorker(app)
app.mount("/static", StaticFiles(directory=HERE / "static"))


class Job(BaseModel):
    """One accepted picture."""

    id: str
    name: str
    events: str
    thumbnail: str


@app.get("/", include_in_schema=False)
async def page() -> FileResponse:
    return FileResponse(HERE / "static" / "page.html", headers=PAGE_HEADERS)


@app.post("/jobs", status_code=202)
async def submit(pictures: list[UploadFile], client: FastWorkerClient) -> list[Job]:
    """Submit a job for each picture: all are accepted, or none."""
    if len(pictures) > MAX_PICTURES:
        raise HTTPException(413, f"{len(pictures)} pictures; send at most {MAX_PICTURES} at once")
    calls = [await call_for(picture) for picture in pictures]
    handles = await client.submit_many(calls)
    names = [picture.filename or "" for picture in pictures]
    return [
        Job(
            id=handle.id,
            name=name,
            events=f"/jobs/{handle.id}/events",
            thumbnail=f"/thumbnails/{handle.id}",
        )
        for handle, name in zip(handles, names, strict=True)
    ]


@app.get("/jobs/{job_id}/events")
async def events(job_id: uuid.UUID, client: FastWorkerClient) -> StreamingResponse:
    """The status of a job as server-sent events, each time it changes, until it has ended."""
    handle = client.handle(str(job_id))
    status = await handle.status()  # an unknown job is a 404 here; later is too late for that
    return StreamingResponse(
        status_events(handle, status),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


@app.get("/thumbnails/{job_id}")
async def thumbnail(job_id: uuid.UUID, client: FastWorkerClient) -> Response:
    """The thumbnail; waits a while for a job that has not ended."""
    try:
        png = await client.result(str(job_id), timeout=RESULT_SECONDS)
    except ValueError as error:  # what the task raised
        raise HTTPException(422, str(error)) from error
    return Response(png, media_type="image/png", headers={"X-Content-Type-Options": "nosniff"})


async def call_for(picture: UploadFile) -> Call:
    """The call that makes this picture's thumbnail."""
    content = await picture.read(MAX_PICTURE_BYTES + 1)
    if len(content) > MAX_PICTURE_BYTES:
        raise HTTPException(413, f"{picture.filename!r} has more than {MAX_PICTURE_BYTES} bytes")
    if len(content) <= ARGUMENT_BYTES:
        return call(make_thumbnail, content)
    folder, name = anyio.Path(pictures_folder()), uuid.uuid4().hex
    await folder.mkdir(parents=True, exist_ok=True)
    await (folder / name).write_bytes(content)
    return call(make_thumbnail_of_file, name)


async def status_events(handle: TaskHandle[Any], status: TaskStatus) -> AsyncIterator[str]:
    """One event for each status seen; the last has the error, if there is one."""
    try:
        while not status.is_terminal:
            yield event("status", id=handle.id, status=status)
            while (now := await status_after(handle, LOOK_SECONDS)) is status:
                yield STILL_THE_SAME
            status = now
        ended = await handle.wait()
        yield event("end", id=handle.id, status=ended.status, error=ended.error)
    except FastWorkerError as error:  # the answer has begun: say it in the stream
        yield event("problem", id=handle.id, error=error.code)


async def status_after(handle: TaskHandle[Any], seconds: float) -> TaskStatus:
    """The status a while from now, or as soon as the job has ended."""
    try:
        return (await handle.wait(seconds)).status
    except TimeoutError:
        return await handle.status()


def event(kind: str, **data: str | None) -> str:
    """A server-sent event with JSON data."""
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n"
