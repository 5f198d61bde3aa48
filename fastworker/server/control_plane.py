"""One control plane, from start to exit: the nursery that lists every service.

``run_control_plane`` opens the store, recovers what it holds, listens, and serves until it is
told to stop. The services::

    dispatch    the one loop that touches the core
    listeners   one for the base address, one for the discovery address
    payloads    arguments that are read from the store at hand-out
    cascades    cancels go on to the jobs that a cancelled one has submitted
    owners      jobs of clients that have gone are cancelled
    callbacks   deliveries to applications that asked for them
    maintenance retention, and whether the store is still there
    tokens      connections of revoked and expired ones are ended
    local       a subworker of its own while no other can run what waits
    signals     first SIGTERM or SIGINT: stop well; second: stop at once
"""

from __future__ import annotations

import gc
import logging
import secrets
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import trio

from fastworker.core.dispatcher import Dispatcher
from fastworker.core.records import Now
from fastworker.errors import StoreError
from fastworker.server.accepting import Accepting
from fastworker.server.callbacks import CallbackService
from fastworker.server.cascades import Cascades
from fastworker.server.descriptors import raise_descriptor_limit
from fastworker.server.dispatch import dispatch_forever
from fastworker.server.following import Following
from fastworker.server.inbox import Inbox
from fastworker.server.listener import Listener, open_listeners
from fastworker.server.local_worker import LocalWorker
from fastworker.server.maintenance import maintain_forever
from fastworker.server.owners import Owners
from fastworker.server.payloads import PayloadLoader
from fastworker.server.plane import Plane
from fastworker.server.reports import roster_message
from fastworker.server.roster import ConnectedRoster
from fastworker.server.running import RunningProgress
from fastworker.server.settings import ControlPlaneSettings
from fastworker.server.tls import OwnDoor, listener_contexts
from fastworker.server.token_watch import TokenWatch
from fastworker.server.wall_jumps import WatchedClock
from fastworker.store.opening import open_store
from fastworker.store.thread import StoreThread, open_store_thread
from fastworker.version import __version__
from fastworker.wire.addresses import Address, parse_address
from fastworker.wire.messages import Bye

logger = logging.getLogger("fastworker.server")

GOODBYE_SECONDS = 2.0
"""For the last messages to leave when stopping."""

LOOPBACK = "127.0.0.1"

OWN_SECRET_BYTES = 32
"""256 random bits, as in every token that is made here."""


def wall_clock() -> Now:
    """Both clocks, read now."""
    return Now(time.time(), trio.current_time())


OpenStorage = Callable[[ControlPlaneSettings], AbstractAsyncContextManager[StoreThread]]
"""Opens what the control plane remembers with; closes it at the end of the block."""


@asynccontextmanager
async def open_storage(settings: ControlPlaneSettings) -> AsyncIterator[StoreThread]:
    """The store that the settings ask for, behind its threads."""
    store = open_store(settings.store, settings.durability)
    async with open_store_thread(store) as store_thread:
        yield store_thread


async def run_control_plane(
    settings: ControlPlaneSettings,
    *,
    clock: Callable[[], Now] = wall_clock,
    open_storage: OpenStorage = open_storage,
    handle_signals: bool = True,
    task_status: trio.TaskStatus[Plane] = trio.TASK_STATUS_IGNORED,
) -> int:
    """Serve until told to stop; returns the exit code.

    Args:
        settings: see `ControlPlaneSettings`.
        clock: for tests; must follow `trio.current_time`.
        open_storage: for tests; in place of what the settings ask for.
        handle_signals: False inside another program, which cancels instead.
        task_status: started with the `Plane` once both listeners are open.

    Raises:
        StoreError: the store cannot be opened, or broke; its class has the exit code.
        CannotCreate: an address cannot be listened on.
        InvalidOption: the tokens file or the certificate cannot be used.
        trio.Cancelled: when cancelled; the store is closed well.
    """
    watched = WatchedClock(clock)
    tokens = TokenWatch(settings, lambda: watched().wall)
    async with open_storage(settings) as store_thread:
        snapshot = await store_thread.load()
        dispatcher = Dispatcher(
            snapshot,
            watched(),
            lease_seconds=settings.lease_seconds,
            max_queued_jobs=settings.max_queued_jobs,
            max_queued_bytes=settings.max_queued_bytes,
            tenants=settings.tenants,
        )
        loader = PayloadLoader()
        roster = ConnectedRoster(
            lambda lane: dispatcher.memory.lanes_by_number[lane].key,
            loader.load,
            has_checkpoint=dispatcher.has_checkpoint,
            lease_seconds=settings.lease_seconds,
            wall=lambda: watched().wall,
        )
        callbacks = CallbackService(settings, store_thread)
        following = Following()
        running = RunningProgress(dispatcher, following.tell)
        roster.on_ended += [running.ended, following.ended]
        roster.on_lines.append(following.tell_all)
        plane = Plane(
            settings,
            watched,
            dispatcher,
            Inbox(),
            store_thread,
            roster,
            callbacks.resolve,
            callbacks.acknowledge,
            Owners(),
            following,
            running,
            tokens.identities,
        )
        cascades = Cascades()
        roster.cancel_children = cascades.want
        roster.describe = lambda sees: roster_message(plane, None, sees)
        if handle_signals:
            _settle_memory()
            raise_descriptor_limit(settings.max_connections)
        try:
            return await _serve(
                plane, callbacks, loader, cascades, tokens, handle_signals, task_status
            )
        except* StoreError as failed:
            first = _first(failed)
        # Not raised in there: what leaves an `except*` clause is a group again.
        raise first from None


def _settle_memory() -> None:
    """This process is ours alone: what lives for ever is not looked at by the garbage collector.

    Jobs are acyclic and freed by counting; at the default thresholds the collector would walk
    tens of thousands of them again and again.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _first(group: BaseExceptionGroup[Exception]) -> Exception:
    """The innermost first error of a group, or the failure of the store that was its cause."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    while isinstance(error.__cause__, StoreError):
        error = error.__cause__
    assert isinstance(error, Exception)
    return error


async def _serve(
    plane: Plane,
    callbacks: CallbackService,
    loader: PayloadLoader,
    cascades: Cascades,
    tokens: TokenWatch,
    handle_signals: bool,
    task_status: trio.TaskStatus[Plane],
) -> int:
    stopping = Stopping()
    local = LocalWorker(plane)
    async with trio.open_nursery() as process:
        if handle_signals:
            process.start_soon(stopping.watch_signals, process.cancel_scope)
        async with trio.open_nursery() as services:
            async with trio.open_nursery() as listening:
                await _listen(plane, listening)
                services.start_soon(
                    dispatch_forever,
                    plane.dispatcher,
                    plane.inbox,
                    plane.store,
                    plane.roster,
                    plane.clock,
                )
                services.start_soon(loader.serve_forever, plane)
                services.start_soon(plane.roster.news.serve_forever)
                services.start_soon(plane.silence.serve_forever)
                services.start_soon(cascades.serve_forever, plane)
                services.start_soon(plane.owners.serve_forever, plane)
                services.start_soon(callbacks.serve_forever, plane)
                services.start_soon(maintain_forever, plane)
                services.start_soon(tokens.serve_forever, plane.connections)
                services.start_soon(local.serve_forever)
                _say_started(plane)
                task_status.started(plane)
                await stopping.requested.wait()
                plane.draining = True
                for listener in plane.on_draining:
                    listener()
                logger.info("stopping: nothing new is accepted")
                with trio.move_on_after(plane.settings.drain_seconds):
                    await local.stop()
                    await _say_goodbye(plane)
                listening.cancel_scope.cancel()
            services.cancel_scope.cancel()
        process.cancel_scope.cancel()
    logger.info("stopped")
    return stopping.exit_code


class Stopping:
    """First signal: stop well. Second: stop at once, with the code that says so."""

    def __init__(self) -> None:
        self.requested = trio.Event()
        self.exit_code = 0

    async def watch_signals(self, everything: trio.CancelScope) -> None:
        """Wait for SIGTERM and SIGINT until cancelled; the second one cancels ``everything``."""
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for number in signals:
                if self.requested.is_set():
                    logger.warning("stopping at once")
                    self.exit_code = 143 if number == signal.SIGTERM else 130
                    everything.cancel()
                self.requested.set()


async def _listen(plane: Plane, nursery: trio.Nursery) -> None:
    settings = plane.settings
    tls = listener_contexts(settings)
    accepting = Accepting(Listener(plane, tls=tls).serve, plane.gate)
    wanted = [
        ("--base-address", settings.base_address),
        ("--discovery-address", settings.discovery_address),
    ]
    for option, text in wanted:
        if text is None:
            continue
        address = parse_address(text)
        sockets = await open_listeners(address, option)
        for socket in sockets:
            port = socket.socket.getsockname()[1]
            plane.addresses.append(str(Address(address.host, port, tls is not None)))
        nursery.start_soon(accepting.serve_forever, sockets)
    if tls is not None and settings.local_worker != "never":
        await _open_own_door(plane, nursery)


async def _open_own_door(plane: Plane, nursery: trio.Nursery) -> None:
    """A way in for the local subworker, past TLS."""
    door = OwnDoor(plane.settings, secrets.token_urlsafe(OWN_SECRET_BYTES))
    sockets = await trio.open_tcp_listeners(0, host=LOOPBACK)
    door.address = str(Address(LOOPBACK, sockets[0].socket.getsockname()[1]))
    plane.own_door = door
    accepting = Accepting(Listener(plane, door=door).serve, plane.gate)
    nursery.start_soon(accepting.serve_forever, sockets)


async def _say_goodbye(plane: Plane) -> None:
    """Let every connected peer know, and the last answers leave."""
    links = list(plane.roster.subworkers.values())
    for link in links:
        link.send(Bye("the control plane is stopping"))
    for client in list(plane.roster.clients):
        client.send(Bye("the control plane is stopping"))
    async with trio.open_nursery() as nursery:
        for link in links:
            nursery.start_soon(link.flush, GOODBYE_SECONDS)


def _say_started(plane: Plane) -> None:
    info = plane.store.info
    memory = plane.dispatcher.memory
    waiting = sum(lane.depth for lane in memory.waiting)
    logger.info(
        "control plane %s listening on %s; store %s (%s, %s); durability %s; "
        "task modules %s; %d jobs waiting, %d running",
        __version__,
        " and ".join(plane.addresses) or "no address",
        info.location,
        info.kind,
        info.engine_version,
        info.durability,
        ", ".join(plane.settings.task_modules) or "none",
        waiting,
        len(memory.jobs),
    )
    for warning in info.warnings:
        logger.warning("%s", warning)
