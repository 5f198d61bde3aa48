"""`client.bound_to(request)`: work that ends with a web request.

Whoever submits looks here (`submitted`), which costs a look at a context variable. So calls on
tasks, streams and task groups inside the block are found, in whatever function they are.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from contextvars import ContextVar, Token
from dataclasses import replace
from types import TracebackType
from typing import Any, Final, Protocol

import anyio

from fastworker.client.calls import OWNED_SECONDS
from fastworker.client.connection import Connection
from fastworker.client.local_group import LocalGroup
from fastworker.client.submissions import Jobs, Spec
from fastworker.errors import InvalidOption, RequestGone
from fastworker.wire.messages import Cancel, Message

IDS_PER_CANCEL: Final = 1_000
"""As many jobs as one submission holds."""

OWNED_SPECS: Final = 256
"""Of tasks and options that are submitted again and again."""

RECHECK_SECONDS: Final = 0.5
"""For requests that can only be asked whether their browser is there."""


class WebRequest(Protocol):
    """What a request has to have: Starlette's and FastAPI's do."""

    async def is_disconnected(self) -> bool:
        """Whether its browser has gone."""
        ...


class Bound:
    """A block that ends when its request's browser goes away; made by `Client.bound_to`."""

    def __init__(self, request: WebRequest, connection: Callable[[], Connection | None]) -> None:
        if not hasattr(request, "is_disconnected"):
            raise InvalidOption(
                f"bound_to takes the request of a web framework, such as Starlette's, not a "
                f"{type(request).__name__}"
            )
        self._request = request
        self._connection = connection
        self._local = LocalGroup()
        self._ids: list[bytes] = []
        self._gone = False
        self._token: Token[Bound | None] | None = None

    def add(self, jobs: Jobs) -> Jobs:
        """Note jobs that are about to be submitted; they are given up with their client, too."""
        self._ids += jobs.ids
        return owned_jobs(jobs, OWNED_SECONDS)

    async def __aenter__(self) -> None:
        await _read_body(self._request)
        await self._local.enter()
        self._local.start_soon(self._watch, name="fastworker request")
        self._token = _bound.set(self)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        if self._token is not None:
            _bound.reset(self._token)
        if error is not None:
            self._cancel_jobs()
        self._local.scope.cancel()
        rest = await self._local.leave(error)
        if any(one is error for one in rest):
            return False
        for one in rest:
            raise one
        if self._gone:
            raise RequestGone("the browser has gone before the answer was there")
        return True

    async def _watch(self) -> None:
        await _wait_gone(self._request)
        self._gone = True
        self._cancel_jobs()
        self._local.scope.cancel()

    def _cancel_jobs(self) -> None:
        connection = self._connection()
        if connection is None or not connection.is_usable:
            return
        ids, self._ids = self._ids, []
        reason = "its web request has gone" if self._gone else "its web request failed"
        for build in cancels(ids, reason, grace=None):
            connection.post_request(build)


_bound: ContextVar[Bound | None] = ContextVar("fastworker_bound", default=None)


def submitted(jobs: Jobs) -> Jobs:
    """Jobs that are about to be submitted: noted, if the calling code is bound to something."""
    bound = _bound.get()
    return jobs if bound is None else bound.add(jobs)


def owned_jobs(jobs: Jobs, seconds: float) -> Jobs:
    """The same, cancelled when their client has been gone for so long; unless they say when."""
    return jobs._replace(specs=[_owned(spec, seconds) for spec in jobs.specs])


@functools.lru_cache(maxsize=OWNED_SPECS)
def _owned(spec: Spec, seconds: float) -> Spec:
    if spec.options.owned is not None:
        return spec
    return spec._replace(options=replace(spec.options, owned=seconds))


def cancels(
    ids: list[bytes], reason: str, *, grace: float | None
) -> list[Callable[[int], Message]]:
    """What cancels any number of jobs, by request number."""

    def build(packed: bytes) -> Callable[[int], Message]:
        return lambda number: Cancel(number, packed, reason, grace)

    starts = range(0, len(ids), IDS_PER_CANCEL)
    return [build(b"".join(ids[start : start + IDS_PER_CANCEL])) for start in starts]


async def _read_body(request: WebRequest) -> None:
    """Take the body in first, which the request keeps: what comes after it is the end."""
    read: Callable[[], Awaitable[Any]] | None = getattr(request, "body", None)
    if read is not None:
        try:
            await read()
        except RuntimeError:
            return  # it has been read as a form or a stream


async def _wait_gone(request: WebRequest) -> None:
    receive: Callable[[], Awaitable[Any]] | None = getattr(request, "receive", None)
    if receive is None:
        while not await request.is_disconnected():  # noqa: ASYNC110 - there is no event
            await anyio.sleep(RECHECK_SECONDS)
        return
    while (await receive())["type"] != "http.disconnect":
        pass
