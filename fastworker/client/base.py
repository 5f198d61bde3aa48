"""What the public client stands on: starting, stopping, and waiting for results.

The calls people make are in `client`; this part knows the event loop, the settings and forks.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from datetime import timedelta
from types import TracebackType
from typing import Any, Final, Self

import anyio

from fastworker.client import current
from fastworker.client.ambient import (
    StandIn,
    calling_tenant,
    stand_in,
    transport_opener,
    waiting_for_results,
)
from fastworker.client.callbacks import CallbackIterator, CallbackQueue
from fastworker.client.connection import Connection
from fastworker.client.dialing import Dialler
from fastworker.client.event_loop import running_loop
from fastworker.client.results import Countdown, Watched, Watches
from fastworker.core.ids import ID_BYTES, id_text
from fastworker.core.lengths import optional_seconds, seconds_of
from fastworker.errors import (
    ClientNotReady,
    ControlPlaneUnavailable,
    InvalidOption,
    ProtocolError,
)
from fastworker.tls import CertificateFiles, Contexts, dialler_context
from fastworker.wire.addresses import Address, parse_addresses
from fastworker.wire.messages import Callback, CallbackAck, Message, Query, Report

SUBMIT_SECONDS: Final = 10.0
"""Bridges a restart of the control plane; a web request waits no longer."""

OUTBOX_JOBS: Final = 20_000
OUTBOX_BYTES: Final = 64 * 1024 * 1024
"""What one client may hold that is not yet accepted: two bulk calls of the largest size."""

STOP_SECONDS: Final = 5.0
"""`stop` waits so long for a connection whose event loop has died."""


def _checked_context(tls: ssl.SSLContext | None) -> ssl.SSLContext | None:
    """The context that an application gives; `InvalidOption` if it would trust anybody."""
    if tls is not None and not (tls.check_hostname and tls.verify_mode is ssl.CERT_REQUIRED):
        raise InvalidOption(
            "the context given as tls= does not check the certificate of the control plane and "
            "its name; use one of ssl.create_default_context(cafile=…)"
        )
    return tls


class Stopping:
    """What `Client.stop` returns: awaiting it waits until the connection is closed."""

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection | None) -> None:
        self._connection = connection

    def __await__(self) -> Generator[Any, None, None]:
        return self._wait().__await__()

    async def _wait(self) -> None:
        connection = self._connection
        if connection is None:
            return
        if connection.loop.is_current():
            await connection.ended.wait()
        else:
            await anyio.to_thread.run_sync(
                connection.ended_for_threads.wait, STOP_SECONDS, abandon_on_cancel=True
            )


class ClientBase:
    """See `fastworker.Client`."""

    def __init__(
        self,
        *,
        control_plane_address: str | None = None,
        discovery_address: str | None = None,
        token: str | None = None,
        submit_timeout: float | timedelta = SUBMIT_SECONDS,
        outbox_limit: int = OUTBOX_JOBS,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        chosen = discovery_address if control_plane_address is None else control_plane_address
        self._addresses = None if chosen is None else parse_addresses(chosen)
        if outbox_limit < 1:
            raise InvalidOption(f"outbox_limit is {outbox_limit}; give at least 1 job")
        self._token = token
        self._submit_seconds = seconds_of(submit_timeout, "submit_timeout")
        self._outbox_limit = outbox_limit
        self._tls = _checked_context(tls)
        self._connection: Connection | None = None
        self._watches = Watches()
        self._callbacks: CallbackQueue | None = None
        self._client_id = os.urandom(ID_BYTES)
        self._pid = os.getpid()
        self._announced = False
        self._tenant: str | None = None
        """Of the job that started it."""
        self._last_token = token or ""

    # --- starting and stopping -------------------------------------------------------------

    async def start(self) -> None:
        """Start connecting in the background; returns at once. A second call does nothing.

        Calls wait for the connection by themselves; `wait_connected` waits for it alone.

        Raises:
            ClientNotReady: it is started in another event loop.
            InvalidOption, InvalidAddress: the settings are wrong.
        """
        self._start_nowait()

    def _start_nowait(self, *, announce: bool = True) -> None:
        self._check_fork()
        loop = running_loop()
        if loop is None:
            raise ClientNotReady(
                "Client needs a running event loop (asyncio or Trio); use BlockingClient here"
            )
        if self._connection is not None and self._connection.is_usable:
            if self._connection.loop.is_current():
                return
            raise ClientNotReady("this client is started in another event loop; make another one")
        self._tenant = calling_tenant()
        self._connection = Connection(
            loop,
            self._dialler(),
            client_id=self._client_id,
            watches=self._watches,
            outbox_jobs=self._outbox_limit,
            outbox_bytes=OUTBOX_BYTES,
        )
        if self._callbacks is not None:
            self._listen_for_callbacks(self._connection)
        self._connection.start()
        self._announced = announce
        if announce:
            current.announce(self)  # type: ignore[arg-type]  # the public class is the only one

    def _dialler(self) -> Dialler:
        opener = transport_opener()
        if opener is not None:
            return Dialler([], lambda address: "", opener=opener, tenant=self._tenant)
        addresses, given = self._addresses, self._token
        substitute = stand_in()
        if substitute is not None and addresses is None:
            return self._dialler_to(substitute)
        if addresses is not None and given is not None and not self._wants_files(addresses):
            return Dialler(addresses, lambda address: given, tls=self._tls_for(None))
        from fastworker.config import client_defaults

        defaults = client_defaults()
        if addresses is None:
            addresses = parse_addresses(",".join(defaults.control_plane_addresses))
        files = defaults.certificate_files if self._wants_files(addresses) else None

        def token_for(address: Address) -> str:
            self._last_token = defaults.token_for(address) if given is None else given
            return self._last_token

        return Dialler(addresses, token_for, tls=self._tls_for(files))

    def _wants_files(self, addresses: list[Address]) -> bool:
        """Whether the settings say with which certificates to dial."""
        return self._tls is None and any(address.tls for address in addresses)

    def _tls_for(self, files: CertificateFiles | None) -> Callable[[], ssl.SSLContext] | None:
        given = self._tls
        if given is not None:
            return lambda: given
        return None if files is None else Contexts(files, dialler_context).current

    def _dialler_to(self, substitute: StandIn) -> Dialler:
        if substitute.check is not None:
            substitute.check()
        self._last_token = substitute.token
        return Dialler(
            [substitute.address],
            lambda address: substitute.token,
            open_transport=substitute.open_transport,
        )

    def stop(self) -> Stopping:
        """Disconnect. May be called without ``await``, from any thread, any number of times.

        What has not been accepted fails for its callers; ``await client.stop()`` also waits until
        the connection is closed. A stopped client may be started again.
        """
        current.withdraw(self)  # type: ignore[arg-type]  # as above
        connection = self._connection
        if connection is None or self._pid != os.getpid():
            return Stopping(None)
        connection.request_stop()
        return Stopping(connection)

    async def wait_connected(
        self,
        timeout: float | timedelta | None = None,  # noqa: ASYNC109
        *,
        retry: bool = True,
    ) -> None:
        """Wait until there is a connection.

        Args:
            timeout: seconds or a timedelta; None waits as long as it takes.
            retry: False gives up once every address has been tried.

        Raises:
            AuthenticationFailed: raised at once; the client goes on trying.
            UnsupportedVersion: raised at once; the client goes on trying.
            ControlPlaneUnavailable: there was none in time; its cause says why.
        """
        connection = self._usable()
        seconds = optional_seconds(timeout, "timeout")
        with anyio.move_on_after(seconds):
            while not (
                connection.connected.is_set()
                or (connection.tried_all and (connection.refusal is not None or not retry))
            ):
                await connection.wait_tried()
        if not connection.is_usable:
            raise ClientNotReady("this client was stopped while it waited for a connection")
        if not connection.connected.is_set():
            if connection.refusal is not None:
                raise connection.refusal
            if connection.problem is not None and not retry:
                raise connection.problem
            raise ControlPlaneUnavailable(
                f"not connected after {seconds:g} s: {connection.standing_text()}"
            ) from connection.problem

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with anyio.move_on_after(STOP_SECONDS, shield=True):
            await self.stop()

    def as_current(self) -> AbstractContextManager[Any]:
        """``with client.as_current():`` calls on tasks inside the block use this client."""
        return current.as_current(self)  # type: ignore[arg-type]  # as above

    @property
    def is_started(self) -> bool:
        """Whether it has been started and not stopped."""
        return self._connection is not None and self._connection.is_usable

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection just now."""
        return self.is_started and self._connection is not None and self._connection.is_standing

    @property
    def is_in_its_loop(self) -> bool:
        """Whether the caller runs in the event loop it was started in."""
        return self._connection is not None and self._connection.loop.is_current()

    def _check_fork(self) -> None:
        """In a forked child the parent's connection is not ours to touch: begin afresh."""
        if self._pid == os.getpid():
            return
        self._pid = os.getpid()
        self._connection = None
        self._watches = Watches()
        self._client_id = os.urandom(ID_BYTES)

    def _usable(self) -> Connection:
        connection = self._connection
        if self._pid != os.getpid() and connection is not None:
            self._start_nowait(announce=self._announced)
            connection = self._connection
        if connection is None:
            raise ClientNotReady(
                "this client is not started; call `await client.start()` or use `async with`"
            )
        if not connection.is_usable:
            raise ClientNotReady("this client has been stopped; start it again to use it")
        if not connection.loop.is_current():
            raise ClientNotReady(
                "this client was started in another event loop or thread; use one client for "
                "each loop, or a BlockingClient in threads"
            )
        if self._tenant is not None and calling_tenant() not in (None, self._tenant):
            raise ClientNotReady(
                "this client was started by a job of another tenant; start one in each job"
            )
        return connection

    # --- results ---------------------------------------------------------------------------

    async def _settle(self, jobs: list[Watched], timeout: float | timedelta | None) -> None:  # noqa: ASYNC109
        """Wait until all of these have ended, or are known to have no result.

        Raises:
            TimeoutError: not in time.
            ClientNotReady: the client was stopped meanwhile.
        """
        seconds = optional_seconds(timeout, "timeout")
        open_jobs = [job for job in jobs if job.ending is None]
        if not open_jobs:
            return
        connection = self._usable()
        for job in open_jobs:
            if job.gone is not None:  # ask again: it may have been submitted since
                job.gone, job.subscribed = None, False
        connection.subscribe(open_jobs)
        done = anyio.Event()
        countdown = Countdown(open_jobs, done.set)
        try:
            with waiting_for_results(), anyio.move_on_after(seconds):
                await done.wait()
        finally:
            countdown.cancel()
        late = [job for job in open_jobs if not job.settled]
        if not late:
            return
        if not connection.is_usable:
            raise ClientNotReady("the client was stopped before the result came")
        what = f"job {id_text(late[0].id)} has" if len(late) == 1 else f"{len(late)} jobs have"
        raise TimeoutError(f"{what} not ended within {seconds:g} s; still going on")

    # --- reports ---------------------------------------------------------------------------

    async def _query(self, what: str, options: dict[str, Any] | None = None) -> dict[str, Any]:
        return await self._ask_report(lambda number: Query(number, what, options))

    async def _ask_report(self, build: Callable[[int], Message]) -> dict[str, Any]:
        answer = await self._usable().ask(build, timeout_seconds=self._submit_seconds)
        if not isinstance(answer, Report):
            raise ProtocolError(f"the answer to a question is {type(answer).__name__}")
        return answer.body

    # --- callbacks -------------------------------------------------------------------------

    @property
    def callback_address(self) -> str:
        """What to give as ``callback_address`` to have callbacks arrive at `callbacks`."""
        return f"client:{self._client_id.hex()}"

    def callbacks(self) -> CallbackIterator:
        """Callbacks that arrive over this client's own connection: ``async for`` over them.

        One is acknowledged when its loop asks for the next, or by `JobCallback.acknowledge`. A
        loop that ends before, by an exception or ``break``, leaves its last one to be delivered
        again. All loops of one client share one queue. Call it before, or soon after, submitting.

        Raises:
            ClientNotReady: the client is not started; when iterating: it was stopped.
        """
        connection = self._usable()
        if self._callbacks is None:
            self._callbacks = CallbackQueue()
            self._listen_for_callbacks(connection)
            connection.introduce()
        return CallbackIterator(self._callbacks)

    def _listen_for_callbacks(self, connection: Connection) -> None:
        queue = self._callbacks
        if queue is None:
            return
        queue.reopen()
        connection.on_end = queue.close

        def take(message: Callback) -> None:
            queue.put(
                message,
                token=self._last_token,
                acknowledge=lambda: connection.send(CallbackAck(message.delivery)),
            )

        connection.on_callback = take
