"""Which client `add.delay(…)` uses: the one of the context, of the runner, or the only one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from fastworker.client.ambient import calling_tenant, is_served_here, transport_opener
from fastworker.errors import ClientNotReady

if TYPE_CHECKING:
    from fastworker.client.client import Client

AMBIENT_CLIENTS: Final = 64
"""Of one loop, one for each tenant. More only while jobs of more tenants run there at once."""

_override: ContextVar[Client | None] = ContextVar("fastworker_client", default=None)
_started: list[Client] = []
_ambient: list[Client] = []
"""One for each event loop of a runner that has used one, and for each tenant whose jobs did."""


def current_client() -> Client:
    """The client that calls on tasks use here.

    Inside a task of a runner: a client on the runner's own channel, started on demand.

    Raises:
        ClientNotReady: no client is started, or several are.
    """
    override = _override.get()
    if override is not None:
        return override
    if transport_opener() is not None:
        return _ambient_client()
    usable = [client for client in _started if client.is_started]
    if len(usable) == 1:
        return usable[0]
    if not usable:
        raise ClientNotReady(
            "no client is started here; write `async with Client() as client:` around this, or "
            "`await client.start()` at the start of the application"
        )
    raise ClientNotReady(
        f"{len(usable)} clients are started in this process; say which one to use with "
        "`with client.as_current():`, or call client.delay(…)"
    )


def _ambient_client() -> Client:
    from fastworker.client.client import Client

    _ambient[:] = [client for client in _ambient if client.is_started]
    for client in _ambient:
        if client.is_in_its_loop and client._tenant == calling_tenant():
            return client
    client = Client()
    client._start_nowait(announce=False)
    _stop_idle()
    _ambient.append(client)
    return client


def _stop_idle() -> None:
    """Make room for one more: nobody uses the clients of tenants of which no job runs here."""
    here = [client for client in _ambient if client.is_in_its_loop]
    if len(here) >= AMBIENT_CLIENTS:
        idle = [client for client in here if not is_served_here(client._tenant)]
        for client in idle[: len(here) - AMBIENT_CLIENTS + 1]:
            _ambient.remove(client)
            client.stop()


@contextmanager
def as_current(client: Client) -> Iterator[Client]:
    """Calls on tasks inside the block, and in what it starts, use ``client``."""
    token = _override.set(client)
    try:
        yield client
    finally:
        _override.reset(token)


def announce(client: Client) -> None:
    """A client has been started; a second call does nothing."""
    if client not in _started:
        _started.append(client)


def withdraw(client: Client) -> None:
    """A client has been stopped; a second call does nothing."""
    if client in _started:
        _started.remove(client)


def stop_ambient() -> None:
    """Stop the clients that jobs have used: the runner in this process is gone."""
    ambient, _ambient[:] = list(_ambient), []
    for client in ambient:
        client.stop()


def _forget_parents() -> None:
    """In a forked child: what the parent's loops were doing is not ours."""
    _ambient.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parents)
