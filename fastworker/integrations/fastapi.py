"""fastworker in FastAPI: one client for as long as the app runs, and errors as HTTP answers.

::

    app = FastAPI()
    FastWorker(app)

    @app.post("/signup", status_code=202)
    async def signup(address: str) -> str:
        return await send_mail.delay(address)

Answers name the error and the job and never quote the error's message, which may hold addresses
and other things of the inside; that goes to the log.
"""

from __future__ import annotations

import logging
import math
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Annotated, Any, Final, NamedTuple, TypedDict, Unpack

from fastworker.client.client import Client
from fastworker.errors import (
    CallerError,
    ClientNotReady,
    Conflict,
    ControlPlaneUnavailable,
    FastWorkerError,
    Forbidden,
    Indeterminate,
    Overloaded,
    RequestGone,
    ResultExpired,
    StorageFull,
    TaskError,
    UnknownJob,
)

try:
    from fastapi import Depends, FastAPI
    from fastapi.requests import HTTPConnection, Request
    from fastapi.responses import JSONResponse
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "fastworker.integrations.fastapi needs FastAPI, which is not installed; install fastworker "
        "with its extra [fastapi], or fastapi itself",
        name=error.name,
    ) from error
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = [
    "ClientOptions",
    "FastWorker",
    "FastWorkerClient",
    "get_client",
    "install_error_handlers",
    "lifespan",
]

logger = logging.getLogger("fastworker.integrations.fastapi")

RETRY_AFTER_SECONDS: Final = 5
"""A control plane that is started again is ready within three, and clients reconnect."""

_CLIENT_STATE: Final = "fastworker_client"
"""Where the lifespan's state, and so ``request.state``, holds the client."""


class ClientOptions(TypedDict, total=False):
    """The keywords of `fastworker.Client`."""

    control_plane_address: str | None
    discovery_address: str | None
    token: str | None
    submit_timeout: float | timedelta
    outbox_limit: int
    tls: ssl.SSLContext | None


class FastWorker:
    """Starts a client with ``app`` and stops it with it; maps errors to HTTP.

    The client is there before the app's own start-up begins, and until its own shutdown has
    ended. The app starts whether or not a control plane can be reached.

    Args:
        app: keeps its lifespan, start-up handlers and error handlers.
        client_options: as `fastworker.Client` takes them.

    Raises:
        CallerError: an option that cannot be used, or a second call for this app. When the app
            starts: settings that cannot be used.
    """

    def __init__(self, app: FastAPI, **client_options: Unpack[ClientOptions]) -> None:
        if isinstance(getattr(app.state, "fastworker", None), FastWorker):
            raise CallerError("FastWorker(app) was called for this app already; once is enough")
        self.client = Client(**client_options)
        self._inner_lifespan = app.router.lifespan_context
        app.router.lifespan_context = self._lifespan
        app.state.fastworker = self
        install_error_handlers(app)

    @asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncIterator[dict[str, Any]]:
        async with self.client, self._inner_lifespan(app) as state:
            yield {**(state or {}), _CLIENT_STATE: self.client}


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """``FastAPI(lifespan=lifespan)``: a client with default options, and nothing else.

    For apps that compose their lifespan themselves; `install_error_handlers` is theirs to call.
    """
    async with Client() as client:
        yield {_CLIENT_STATE: client}


async def get_client(connection: HTTPConnection) -> Client:
    """The app's client, as a dependency of routes and WebSockets; see `FastWorkerClient`.

    Raises:
        ClientNotReady: the app has no `FastWorker`, or its lifespan is not running.
    """
    client = getattr(connection.state, _CLIENT_STATE, None)
    if not isinstance(client, Client):
        raise ClientNotReady(
            "this app has no client of fastworker: call FastWorker(app) where the app is made, and "
            "run its lifespan (servers do; test clients do when used with `with`)"
        )
    return client


FastWorkerClient = Annotated[Client, Depends(get_client)]
"""``async def route(client: FastWorkerClient)``: the app's client."""


class _Answer(NamedTuple):
    status: int
    detail: str


_ANSWERS: Final[dict[type[Exception], _Answer]] = {
    ControlPlaneUnavailable: _Answer(
        503, "The task queue cannot be reached just now; nothing was submitted. Try again."
    ),
    Overloaded: _Answer(503, "The task queue is full just now; nothing was submitted. Try again."),
    StorageFull: _Answer(503, "The task queue has no room to store jobs; nothing was submitted."),
    Indeterminate: _Answer(
        503,
        "The task queue did not answer: the job may have been accepted. "
        "Submitting again under the same task_id makes no second job.",
    ),
    Forbidden: _Answer(403, "The task queue does not allow this."),
    UnknownJob: _Answer(404, "No such job is known."),
    ResultExpired: _Answer(410, "The job has ended and its result is no longer kept."),
    RequestGone: _Answer(499, "The browser has gone before the answer was there."),
    Conflict: _Answer(409, "This id belongs to another submission."),
    TimeoutError: _Answer(504, "There was no answer in time; a job that was waited for goes on."),
    TaskError: _Answer(500, "The job did not succeed."),
}


def install_error_handlers(app: FastAPI) -> None:
    """Answer errors of fastworker as JSON ``{"error": code, "detail": …, "task_id": …}``.

    `FastWorker` calls it; call it yourself for apps mounted in another. Handlers that the app has
    are kept, and those it adds later win. A second call does nothing.

    Also covers the exceptions that tasks raise and that reach the caller as themselves
    (`ValueError`, say) where the app neither catches nor handles them.
    """
    for kind in _ANSWERS:
        app.exception_handlers.setdefault(kind, _answer_error)
    installed: list[object] = [middleware.cls for middleware in app.user_middleware]
    if _TaskFailures not in installed:
        app.add_middleware(_TaskFailures)


async def _answer_error(connection: HTTPConnection, error: Exception) -> JSONResponse:
    if connection.scope["type"] != "http":
        raise error  # a WebSocket has no status to answer with; its server closes it
    # A task may raise TimeoutError itself: that is a failure, not a wait that ended first.
    known = error.__cause__ if isinstance(error.__cause__, TaskError) else error
    answer = next(_ANSWERS[kind] for kind in type(known).__mro__ if kind in _ANSWERS)
    if answer.status >= 500:
        logger.warning(
            "%s %r answered with %d: %s",
            connection.scope["method"],
            connection.scope["path"],
            answer.status,
            known,
        )
    return _response(known, answer)


def _response(error: BaseException, answer: _Answer) -> JSONResponse:
    code, task_id, detail = "timeout", None, answer.detail
    if isinstance(error, FastWorkerError):
        code, task_id = error.code, error.task_id
    if isinstance(error, TaskError) and error.type_name:
        detail = f"The job did not succeed: {error.type_name}."
    headers: dict[str, str] = {}
    if isinstance(error, Overloaded):
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    elif isinstance(error, ControlPlaneUnavailable):
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    body = {"error": code, "detail": detail, "task_id": task_id}
    return JSONResponse(body, status_code=answer.status, headers=headers)


class _TaskFailures:
    """Answers for a task's own exception that no handler of the app knows.

    A middleware because it may be of any type, and a handler for every type would be in the way
    of the app's own errors.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def watch_send(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watch_send)
        except Exception as error:
            known = _first_known(error)
            if scope["type"] != "http" or started or known is None:
                raise
            response = await _answer_error(Request(scope), known)
            await response(scope, receive, send)


def _first_known(error: Exception) -> Exception | None:
    """What to answer for: a task's own exception; of a task group the first of its errors, if they
    all are tasks' or fastworker's."""
    if isinstance(error, ExceptionGroup):
        known = [_first_known(each) for each in error.exceptions]
        return known[0] if all(known) else None
    if isinstance(error, tuple(_ANSWERS)):
        return error
    return error if isinstance(error.__cause__, TaskError) else None
