"""Calls that start, stop and enter: clients, listeners, lifespans."""

from __future__ import annotations

import contextlib
from typing import Any

import anyio
import httpx
from fastapi import FastAPI
from fastapi.requests import HTTPConnection
from websockets.client import ClientProtocol
from websockets.typing import Subprotocol
from websockets.uri import WebSocketURI

from fastworker import Client, open_callback_listener
from fastworker.client.transport import WebSocketTransport
from fastworker.integrations.fastapi import FastWorker, FastWorkerClient, get_client, lifespan
from fastworker.wire.addresses import Address, parse_address
from fastworker.wire.callbacks import CALLBACK_SUBPROTOCOL
from fastworker.wire.codec import encode
from tests.cancellation.cases_asking import is_one
from tests.cancellation.cases_submitting import mark
from tests.cancellation.sample_tasks import note
from tests.cancellation.stage import PATIENCE_SECONDS, Case, Stage
from tests.client.fake_control_plane import TOKEN
from tests.client.test_callbacks import callback


async def use_client(stage: Stage, mark: str) -> int:
    async with Client() as client:
        handle = await client.submit(note, mark)
        value: int = await handle.result(PATIENCE_SECONDS)
        return value


async def start_and_stop(stage: Stage, mark: str) -> int:
    client = Client()
    try:
        await client.start()
        await client.wait_connected(PATIENCE_SECONDS)
        await client.start()
        value: int = await (await client.submit(note, mark)).result(PATIENCE_SECONDS)
        return value
    finally:
        await client.stop()


async def stopped_client(stage: Stage) -> Client:
    client = Client()
    await client.start()
    await client.wait_connected(PATIENCE_SECONDS)
    return client


async def stop(stage: Stage, client: Client) -> bool:
    """Whoever is cancelled while it waits has stopped the client all the same."""
    await client.stop()
    return client.is_started


async def serves_again(stage: Stage, client: Client, answer: bool) -> None:
    assert answer is False
    async with client:
        handle = await client.submit(note, stage.mark())
        assert await handle.result(PATIENCE_SECONDS) == 1


async def wait_connected(stage: Stage, prepared: None) -> bool:
    client = Client()
    await client.start()
    try:
        await client.wait_connected(PATIENCE_SECONDS, retry=False)
        return client.is_connected
    finally:
        client.stop()


async def is_true(stage: Stage, prepared: object, answer: bool) -> None:
    assert answer is True


async def listen(stage: Stage, prepared: None) -> int:
    """One callback from one caller, who may be anywhere on its way when all is cancelled."""
    async with (
        open_callback_listener(token=TOKEN) as listener,
        anyio.create_task_group() as calling,
    ):
        calling.start_soon(call_back, parse_address(listener.address))
        value: int = (await anext(listener)).result
        calling.cancel_scope.cancel()
    return value


async def call_back(address: Address) -> None:
    """What a control plane says, from the opening of its WebSocket to the acknowledgement."""
    protocol = ClientProtocol(
        WebSocketURI(False, address.host, address.port, "/", ""),
        subprotocols=[Subprotocol(CALLBACK_SUBPROTOCOL)],
    )
    async with await anyio.connect_tcp(address.host, address.port) as stream:
        transport = WebSocketTransport(stream, protocol)
        protocol.send_request(protocol.connect())
        await transport.flush()
        await transport.next_event()
        await transport.send(encode([callback(1)]))
        with contextlib.suppress(ConnectionError):
            await transport.receive()


async def live(stage: Stage, prepared: None) -> bool:
    app = FastAPI(lifespan=lifespan)
    async with app.router.lifespan_context(app) as state:
        assert state is not None
        (client,) = state.values()
        return bool(await client.status())


def web_app(mark: str) -> FastAPI:
    app = FastAPI()
    FastWorker(app)

    @app.get("/")
    async def value(client: FastWorkerClient) -> int:
        value: int = await (await client.submit(note, mark)).result(PATIENCE_SECONDS)
        return value

    return app


async def serve_one_request(stage: Stage, mark: str) -> int:
    """Cancelled like the request of a browser that is gone."""
    app = web_app(mark)
    async with app.router.lifespan_context(app) as state:
        transport = httpx.ASGITransport(app=_with_state(app, state))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            return int((await http.get("/")).text)


def _with_state(app: FastAPI, state: Any) -> Any:
    async def serve(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "state": dict(state)}, receive, send)

    return serve


async def depend_on_client(stage: Stage, prepared: None) -> bool:
    connection = HTTPConnection({"type": "http", "state": {"fastworker_client": stage.client}})
    return await get_client(connection) is stage.client


CASES = [
    Case(("Client.__aenter__", "Client.__aexit__"), use_client, mark, is_one),
    Case(("Client.start",), start_and_stop, mark, is_one),
    Case(("client.Stopping.__await__",), stop, stopped_client, serves_again, again=True),
    Case(("Client.wait_connected",), wait_connected, check=is_true),
    Case(("get_client",), depend_on_client, check=is_true),
    Case(("lifespan",), live, check=is_true),
    Case(("get_client",), serve_one_request, mark, is_one, name="FastWorker(app)"),
    Case(
        ("open_callback_listener", "CallbackListener.__anext__"),
        listen,
        check=is_one,
        network=True,
    ),
]
"""Those over memory run over the network, too."""
