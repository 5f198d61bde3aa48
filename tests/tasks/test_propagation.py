"""Context variables that travel with jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar, copy_context
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, Response

from fastworker import (
    CallerError,
    Client,
    InvalidName,
    InvalidOption,
    NotSerializable,
    call,
    propagate,
)
from fastworker.client.calls import job_of
from fastworker.core.records import DEFAULT_OPTIONS
from fastworker.tasks.propagation import forget_propagated, propagated_values, set_propagated
from fastworker.testing import Runtime
from fastworker.wire.options import MAX_CONTEXT_BYTES
from fastworker.wire.values import open_map
from tests.tasks import context_tasks as tasks


def options_of(*args: Any) -> Any:
    return job_of(call("any", *args), lambda name: None).specs[0].options


def test_a_job_without_variables_has_no_options() -> None:
    assert options_of() is DEFAULT_OPTIONS


def test_what_is_set_at_the_submission_travels() -> None:
    def submit() -> Any:
        tasks.request_id.set("r1")
        tasks.private.set("stays")
        return options_of()

    options = copy_context().run(submit)

    assert open_map(options.context) == {"request_id": "r1"}
    assert options_of() is DEFAULT_OPTIONS


@pytest.mark.parametrize("name", ["context-asyncio", "context-trio", "context-thread"])
def test_the_code_of_a_job_finds_the_values(fastworker_runtime: Runtime, name: str) -> None:
    async def main() -> None:
        async with fastworker_runtime.client() as client:
            tasks.request_id.set("r1")
            tasks.tenant.set(("shop", 7))
            tasks.private.set("stays")
            assert await (await client.submit(name)).result() == ["r1", ("shop", 7), "unset"]

    async def later() -> None:
        async with fastworker_runtime.client() as client:
            assert await (await client.submit(name)).result() == ["none", None, "unset"]

    asyncio.run(main())
    asyncio.run(later())


def test_they_travel_on_to_jobs_of_jobs(fastworker_runtime: Runtime) -> None:
    async def main() -> None:
        async with fastworker_runtime.client():
            tasks.request_id.set("r1")
            assert await (await tasks.parent.submit()).result() == ["r1", None, "unset"]

    asyncio.run(main())


def test_a_blocking_client_takes_those_of_its_caller(fastworker_runtime: Runtime) -> None:
    def run() -> Any:
        tasks.request_id.set("r2")
        with fastworker_runtime.blocking_client() as client:
            return client.submit("context-thread").result(timeout=10)

    assert copy_context().run(run)[0] == "r2"


@pytest.mark.anyio
async def test_every_job_of_a_bulk_has_them(fastworker_client: Client) -> None:
    tasks.request_id.set("r3")
    handles = await fastworker_client.submit_many([call("context-thread"), call("context-trio")])
    assert [seen[0] for seen in await fastworker_client.results(handles)] == ["r3", "r3"]


@pytest.mark.anyio
async def test_what_a_middleware_sets_is_in_the_jobs_of_its_request(
    fastworker_client: Client,
) -> None:
    app = FastAPI()

    @app.middleware("http")
    async def name_request(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        tasks.request_id.set(request.headers["x-request-id"])
        return await call_next(request)

    @app.get("/")
    async def read() -> Any:
        return await (await tasks.parent.submit()).result(timeout=10)

    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        for name in ("r5", "r6"):
            answer = await http.get("/", headers={"x-request-id": name})
            assert answer.json() == [name, None, "unset"]


def test_a_value_that_cannot_travel_is_named() -> None:
    def submit() -> None:
        tasks.tenant.set({"connection": open})
        options_of()

    with pytest.raises(NotSerializable, match=r"shop\.tenant.*connection"):
        copy_context().run(submit)


def test_a_value_that_is_too_big_is_named() -> None:
    def submit() -> None:
        tasks.request_id.set("small")
        tasks.tenant.set("x" * MAX_CONTEXT_BYTES)
        options_of()

    with pytest.raises(InvalidOption, match=r"'shop\.tenant' takes 8\d\d\d"):
        copy_context().run(submit)


def test_names_nobody_knows_here_are_passed_over() -> None:
    def receive() -> dict[str, Any]:
        set_propagated({"request_id": "r4", "of another application": 1})
        return propagated_values()

    assert copy_context().run(receive) == {"request_id": "r4"}


def test_what_cannot_be_propagated_is_refused() -> None:
    propagate(tasks.request_id)  # again: nothing happens
    with pytest.raises(InvalidOption, match="another context variable travels as 'request_id'"):
        propagate(ContextVar("request_id"))
    with pytest.raises(InvalidName):
        propagate(ContextVar("two words"))
    with pytest.raises(CallerError):
        propagate("request_id")  # type: ignore[arg-type]
    other: ContextVar[int] = ContextVar("request_id")
    propagate(other, "other")
    forget_propagated("other")
    assert propagated_values() == {}
