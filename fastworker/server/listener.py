"""Listening: TCP (or TLS), the HTTP head, the WebSocket, the handshake, then the peer.

Whatever one connection does, it ends alone: this file holds the exception barrier around each.
"""

from __future__ import annotations

import errno
import math
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, TypeVar

import trio

from fastworker.core.records import MAX_PAYLOAD_BYTES
from fastworker.errors import (
    CallerError,
    CannotCreate,
    FastWorkerError,
    Forbidden,
    PeerError,
    Rejected,
)
from fastworker.server.admission import HELLO_SECONDS, Admission, problem_of
from fastworker.server.callers import Caller, host_of, is_from_loopback, peer_host, peer_name
from fastworker.server.clients import ClientPeer
from fastworker.server.closing import PeerSilent, PeerSlow, close_code
from fastworker.server.connections import Connection
from fastworker.server.frame_guard import LAST_WORD_SECONDS
from fastworker.server.gate import TurnedAway, Visit
from fastworker.server.http_head import (
    MAX_HEAD_BYTES,
    BadHead,
    Head,
    check_upgrade,
    read_head,
    send_response,
)
from fastworker.server.identity import Identity
from fastworker.server.limits import BEATS_A_SECOND, LONGEST_HEARTBEAT_SECONDS
from fastworker.server.plane import Plane
from fastworker.server.served_frames import ServedFrames, accepting_head, check_unbroken
from fastworker.server.subworkers import SubworkerPeer
from fastworker.server.tls import CertifiedDoor, Door, open_tls
from fastworker.tls import Contexts, certificate_names
from fastworker.transport.link import FrameStream, Link, LinkClosed
from fastworker.transport.websocket import CLOSE_SECONDS
from fastworker.version import __version__
from fastworker.wire.addresses import Address
from fastworker.wire.messages import SUBPROTOCOL, Beat, BeatAck, Message, Welcome

M = TypeVar("M", bound=Message)
Heard = Callable[[float], None]

TURN_AWAY_SECONDS: Final = 0.1
"""For a peer that is not even let in to read why."""

SILENT_HEARTBEATS: Final = 3
"""A peer that is silent for this many heartbeats is gone."""


async def open_listeners(address: Address, option: str) -> list[trio.SocketListener]:
    """Bind an address.

    Raises:
        CannotCreate: the port is in use, or the address is not ours.
    """
    try:
        return await trio.open_tcp_listeners(address.port, host=address.host)
    except OSError as error:
        in_use = error.errno == errno.EADDRINUSE
        raise CannotCreate(
            f"cannot listen on {address}: {error.strerror or error}; "
            f"{'is another control plane running there? ' if in_use else ''}"
            f"choose another address with {option}"
        ) from error


class Listener:
    """Serves every connection of a control plane.

    Args:
        tls: what to do TLS with; None: connections are plain.
        door: who may come in; None: whom the plane knows.
    """

    def __init__(
        self, plane: Plane, *, tls: Contexts | None = None, door: Door | None = None
    ) -> None:
        self._plane = plane
        self._tls = tls
        self._door = door or CertifiedDoor(plane.identities, ())
        self._admission = Admission()
        self._log = plane.peer_log

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one connection to its end; nothing it does gets out of here."""
        peer = peer_name(stream)
        with self._ending_alone(peer):
            try:
                with self._plane.gate.entering(peer_host(stream)) as visit:
                    if self._tls is None:
                        await self._serve_stream(stream, peer, visit, self._door)
                        return
                    assert isinstance(stream, trio.SocketStream)
                    stream = await open_tls(stream, self._tls.current())
                    names = certificate_names(stream.getpeercert())
                    door = CertifiedDoor(self._plane.identities, names)
                    await self._serve_stream(stream, peer, visit, door)
            except TurnedAway:
                if self._tls is None or isinstance(stream, trio.SSLStream):
                    await _turn_away(stream)
                raise
            finally:
                await trio.aclose_forcefully(stream)

    async def serve_frames(self, frames: FrameStream, peer: str) -> None:
        """The same for a connection that stands already, without a network: in tests."""
        with self._ending_alone(peer):
            try:
                with self._plane.gate.entering(None) as visit:
                    await self._serve_frames(frames, Caller(peer, None, None, self._door, visit))
            finally:
                with trio.CancelScope(shield=True):
                    await frames.aclose()

    @contextmanager
    def _ending_alone(self, peer: str) -> Iterator[None]:
        """The barrier around one connection: what breaks in it is noted and goes no further."""
        try:
            yield
        except (PeerError, Forbidden, LinkClosed, BadHead, TurnedAway) as error:
            if not isinstance(error, LinkClosed):
                self._log.note(peer, error)
        except (trio.BrokenResourceError, trio.ClosedResourceError, ssl.SSLError) as error:
            self._log.note(peer, type(error).__name__)
        except Exception as error:
            self._log.note_error(peer, error)

    async def _serve_stream(
        self, stream: trio.abc.Stream, peer: str, visit: Visit, door: Door
    ) -> None:
        opened = await self._open(stream, visit)
        if opened is None:
            return
        frames, dialled = opened
        visit.on_proved = frames.proved
        ended_well = False
        try:
            caller = Caller(peer, peer_host(stream), dialled, door, visit)
            try:
                await self._serve_frames(frames, caller)
            except FastWorkerError:
                check_unbroken(frames)
                raise
            check_unbroken(frames)
            ended_well = True
        finally:
            patience = CLOSE_SECONDS if ended_well else LAST_WORD_SECONDS
            with trio.move_on_after(patience, shield=True):
                await frames.aclose()

    async def _open(
        self, stream: trio.abc.Stream, visit: Visit
    ) -> tuple[ServedFrames, str | None] | None:
        """Answer the HTTP head: the WebSocket, and the host that was dialled. None: that was all.

        Raises:
            BadHead, TurnedAway: it gets no WebSocket.
        """
        try:
            head = await read_head(stream)
            if head is None:
                return None
            if head.path in ("/healthz", "/readyz"):
                await self._answer_health(stream, head)
                return None
            check_upgrade(head, loopback=is_from_loopback(stream))
            visit.check_room()
        except BadHead as bad:
            await send_response(stream, bad.status, bad.reason, version="13")
            raise
        with trio.fail_after(HELLO_SECONDS):
            await stream.send_all(accepting_head(head, SUBPROTOCOL))
        return ServedFrames(stream, head.early), host_of(head)

    async def _answer_health(self, stream: trio.abc.Stream, head: Head) -> None:
        ready = head.path == "/healthz" or not self._plane.draining
        if ready:
            await send_response(stream, 200, "OK", "ok\n")
        else:
            await send_response(stream, 503, "Service Unavailable", "stopping\n")

    async def _serve_frames(self, frames: FrameStream, caller: Caller) -> None:
        role, identity = await self._admission.admit(frames, caller)
        link = Link(frames, name=caller.peer, cork=self._plane.roster.cork, bounded=True)
        async with trio.open_nursery() as nursery:
            link.on_overflow = nursery.cancel_scope.cancel
            nursery.start_soon(_write, link)
            heartbeat = self._heartbeat_seconds(role)
            connection = Connection(identity, caller.host)
            try:
                with self._plane.connections.standing(connection), connection.scope:
                    link.send(self._welcome(heartbeat))
                    await self._serve_link(link, nursery, role, identity, caller, heartbeat)
                if connection.ended_for is not None:
                    raise connection.ended_for
            except (PeerError, CallerError, Rejected) as error:
                link.send(problem_of(error))
                await link.flush(1.0)
                await link.aclose(close_code(error), error.code)
                raise
            finally:
                nursery.cancel_scope.cancel()
        if link.failure is not None:
            raise link.failure
        if link.overflowed:
            raise PeerSlow("it left more unread than is kept for a peer")

    def _heartbeat_seconds(self, role: str) -> float:
        """How often a peer shows that it lives: a crowd of clients less often than a few."""
        usual = self._plane.settings.heartbeat_seconds
        if role == "subworker":
            return usual
        crowded = min(self._plane.gate.standing.total / BEATS_A_SECOND, LONGEST_HEARTBEAT_SECONDS)
        return max(usual, crowded)

    def _welcome(self, heartbeat: float) -> Welcome:
        settings = self._plane.settings
        return Welcome(
            control_plane=self._plane.identity,
            agent=f"fastworker/{__version__}",
            heartbeat_seconds=heartbeat,
            lease_seconds=settings.lease_seconds,
            max_payload_bytes=MAX_PAYLOAD_BYTES,
            now=self._plane.clock().wall,
        )

    async def _serve_link(
        self,
        link: Link,
        nursery: trio.Nursery,
        role: str,
        identity: Identity,
        caller: Caller,
        heartbeat: float,
    ) -> None:
        patience = SILENT_HEARTBEATS * heartbeat
        if role == "subworker":
            await self._serve_subworker(link, nursery, identity, caller.host, patience)
            return
        peer = ClientPeer(
            self._plane,
            link.send,
            nursery,
            identity=identity,
            host=caller.host,
            dialled=caller.dialled,
            wait_room=link.wait_room,
        )
        try:
            await self._pump(link, peer.receive, patience)
        finally:
            peer.close()

    async def _serve_subworker(
        self,
        link: Link,
        nursery: trio.Nursery,
        identity: Identity,
        host: str | None,
        patience: float,
    ) -> None:
        peer = SubworkerPeer(self._plane, link, nursery, identity=identity, host=host)
        try:
            await self._pump(link, peer.receive, patience, peer.heard)
        finally:
            with trio.CancelScope(shield=True), trio.move_on_after(HELLO_SECONDS):
                await peer.close()

    async def _pump(
        self,
        link: Link,
        receive: Callable[[Message], Awaitable[None]],
        patience: float,
        heard: Heard | None = None,
    ) -> None:
        """Hand over the messages of a link until it closes or falls silent."""
        watched = self._plane.silence.watch(patience)
        try:
            with watched.scope:
                while True:
                    try:
                        messages = await link.receive()
                    except LinkClosed:
                        return
                    now = trio.current_time()
                    # What it asks for may take as long as it takes.
                    watched.heard_at = math.inf
                    if heard is not None:
                        heard(now)
                    for message in messages:
                        if isinstance(message, Beat):
                            # Most of what a crowd of idle peers says: it takes nobody else's turn.
                            link.send_now(BeatAck(message.number))
                        else:
                            await receive(message)
                    watched.heard_at = trio.current_time()
        finally:
            watched.heard_at = -math.inf
        if watched.scope.cancelled_caught:
            raise PeerSilent(f"it was silent for {patience:g} s")


async def _write(link: Link) -> None:
    """Send until the link closes; its reader tells why."""
    try:
        await link.write_forever()
    except (LinkClosed, trio.TooSlowError):
        link.shut()


async def _turn_away(stream: trio.abc.Stream) -> None:
    """Say that there is no room, as far as that takes next to no time."""
    with (
        trio.move_on_after(TURN_AWAY_SECONDS),
        suppress(trio.BrokenResourceError, trio.ClosedResourceError),
    ):
        await send_response(stream, 503, "Service Unavailable", "too many connections\n")
        # What it sent has to be read: closing a socket with unread bytes takes the answer back.
        await stream.receive_some(MAX_HEAD_BYTES)


__all__ = ["Listener", "open_listeners"]
