"""A web app that shows an answer while it is made, and has it stopped when nobody looks any more.

The tokens come from a task in a subworker. This server only passes them on: it holds no more than
a few of them, however long the answer and however slow the browser.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, Form
from fastapi.responses import FileResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from tasks import generate

from fastworker import FastWorkerError, Stream
from fastworker.integrations.fastapi import FastWorker, FastWorkerClient

MAX_PROMPT = 10_000
MAX_LENGTH = 10_000

HERE = Path(__file__).parent
PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}

app = FastAPI(title="Tokens")
FastWorker(app)
app.mount("/static", StaticFiles(directory=HERE / "static"))


@app.get("/", include_in_schema=False)
async def page() -> FileResponse:
    return FileResponse(HERE / "static" / "page.html", headers=PAGE_HEADERS)


@app.post("/answers")
async def answer(
    prompt: Annotated[str, Form(max_length=MAX_PROMPT)],
    length: Annotated[int, Form(ge=1, le=MAX_LENGTH)],
    client: FastWorkerClient,
) -> StreamingResponse:
    """The answer as lines of JSON: ``{"token": …}`` for each, at last ``{"end": …}``."""
    stream = client.stream(generate, prompt, length)
    return StreamingResponse(
        lines(stream),
        media_type="application/x-ndjson",
        headers={
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",
            "X-Task-Id": stream.task_id,
        },
    )


async def lines(stream: Stream[str]) -> AsyncIterator[str]:
    """What the browser gets. If it goes away, the framework cancels this, and so the task."""
    try:
        async with stream:
            async for token in stream:
                yield line(token=token)
        yield line(end="complete")
    except FastWorkerError as error:  # the answer has begun: say it in the stream
        yield line(end=error.code)


def line(**fields: str) -> str:
    """One line of JSON."""
    return json.dumps(fields) + "\n"
