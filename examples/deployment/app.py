"""A small web app to deploy: takes texts, has their words counted by subworkers.

It keeps nothing: any of its replicas can answer for any job.
"""

from __future__ import annotations

import uuid

from fastapi import FastAPI
from pydantic import BaseModel, Field
from tasks import count_words

from fastworker.integrations.fastapi import FastWorker, FastWorkerClient

MAX_CHARACTERS = 200_000
"""Even in four-byte characters, less than the 1 MiB that arguments may have."""

RESULT_SECONDS = 10.0
"""How long a request for a result waits for it; 504 after that, and the job goes on."""

app = FastAPI(title="Word counts")
FastWorker(app)


class Text(BaseModel):
    """What to count the words of."""

    text: str = Field(max_length=MAX_CHARACTERS)


@app.post("/texts", status_code=202)
async def submit(text: Text) -> str:
    """Submit a job; its id."""
    return await count_words.delay(text.text)


@app.get("/texts/{job_id}")
async def result(job_id: uuid.UUID, client: FastWorkerClient) -> dict[str, int]:
    """The counted words; waits a while for a job that has not ended."""
    counted: dict[str, int] = await client.result(str(job_id), timeout=RESULT_SECONDS)
    return counted


@app.get("/alive")
async def alive() -> str:
    """For probes. Says nothing of the control plane: without it, a restart would not help."""
    return "ok"
