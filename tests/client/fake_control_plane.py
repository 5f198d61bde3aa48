"""A control plane in memory behind a real WebSocket and a real handshake.

It runs `add` and `fail` at once, and can be told to be silent, to refuse, and to drop connections.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import anyio
from anyio.abc import SocketAttribute, SocketStream
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from fastworker.client.transport import WebSocketTransport
from fastworker.core.ids import split_ids
from fastworker.core.records import STATUS_NUMBERS, Failure, JobView, TaskStatus
from fastworker.errors import AuthenticationFailed
from fastworker.wire import messages as m
from fastworker.wire.codec import Assembler, decode, pack
from fastworker.wire.handshake import ListenerHandshake
from fastworker.wire.values import open_call, seal_value
from fastworker.wire.views import view_to_map

TOKEN = "test.0123456789abcdef0123456789abcdef"


@dataclass
class Ended:
    status: TaskStatus
    value: bytes | None
    failure: Failure | None


@dataclass
class Peer:
    """One client that is connected."""

    transport: WebSocketTransport
    stream: SocketStream
    watched: set[bytes] = field(default_factory=set)

    async def send(self, *messages: m.Message) -> None:
        for frame in pack(messages, transfers=iter(range(1_000))):
            await self.transport.send(frame)

    async def drop(self) -> None:
        """As if the cable were cut."""
        await anyio.aclose_forcefully(self.stream)


Answer = Callable[["FakeControlPlane", Peer, m.Submit], "list[m.Message]"]


class FakeControlPlane:
    """What tests set: ``answer`` (None: silence) and ``hold`` (accept, but do not run)."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.answer: Answer | None = FakeControlPlane.accept
        self.drop_at_submit = 0
        """So many Submits end their connection instead of being answered."""
        self.store_dropped = False
        self.hold = False
        self.heartbeat_seconds = 5.0
        self.peers: list[Peer] = []
        self.received: list[m.Message] = []
        self.jobs: dict[bytes, tuple[str, list[object], dict[str, object]]] = {}
        self.ended: dict[bytes, Ended] = {}
        self.expired: set[bytes] = set()
        self.connections = 0
        self._changed = anyio.Event()

    def submits(self) -> list[m.Submit]:
        return [message for message in self.received if isinstance(message, m.Submit)]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something that was received makes it true."""
        with anyio.fail_after(5):
            while not condition():
                await self._changed.wait()

    def _touch(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()

    # --- what it does with messages --------------------------------------------------------

    def store(self, submit: m.Submit) -> None:
        which = submit.which or [0] * len(submit.payloads)
        rows = zip(split_ids(submit.ids), submit.payloads, which, strict=True)
        for job_id, payload, spec in rows:
            if job_id not in self.jobs:
                args, kwargs = open_call(payload)
                self.jobs[job_id] = (str(submit.specs[spec][0]), args, kwargs)
                if not self.hold:
                    self.run(job_id)

    def run(self, job_id: bytes) -> None:
        name, args, kwargs = self.jobs[job_id]
        if name == "fail":
            failure = Failure(str(args[0]), str(args[1]), "Traceback: remote", "")
            self.ended[job_id] = Ended(TaskStatus.FAILURE, None, failure)
        else:
            total = sum(args) + sum(kwargs.values())  # type: ignore[arg-type]
            value = seal_value(total, what="the result")
            self.ended[job_id] = Ended(TaskStatus.SUCCESS, value, None)

    def accept(self, peer: Peer, submit: m.Submit) -> list[m.Message]:
        self.store(submit)
        answers: list[m.Message] = [m.Submitted(submit.request)]
        if submit.watch:
            answers += self.watch(peer, split_ids(submit.ids))
        return answers

    def watch(self, peer: Peer, ids: list[bytes]) -> list[m.Message]:
        peer.watched.update(ids)
        gone = m.Gone(
            b"".join(i for i in ids if i not in self.jobs and i not in self.expired),
            b"".join(i for i in ids if i in self.expired),
        )
        answers: list[m.Message] = [gone] if gone.unknown or gone.expired else []
        done = [i for i in ids if i in self.ended]
        return [*answers, self.finished(done)] if done else answers

    def finished(self, ids: list[bytes]) -> m.Finished:
        ends = [self.ended[i] for i in ids]
        return m.Finished(
            ids=b"".join(ids),
            statuses=bytes(STATUS_NUMBERS[end.status] for end in ends),
            values=[end.value for end in ends],
            started_at=[1.0] * len(ids),
            finished_at=[2.0] * len(ids),
            attempts=[1] * len(ids),
            failures=[
                [index, *end.failure] for index, end in enumerate(ends) if end.failure is not None
            ]
            or None,
        )

    async def finish_held(self) -> None:
        """Run what was held and push it to whoever watches."""
        self.hold = False
        ids = [job_id for job_id in self.jobs if job_id not in self.ended]
        for job_id in ids:
            self.run(job_id)
        for peer in self.peers:
            watched = [job_id for job_id in ids if job_id in peer.watched]
            if watched:
                await peer.send(self.finished(watched))

    def view(self, job_id: bytes) -> JobView:
        end = self.ended.get(job_id)
        return JobView(
            id=job_id,
            task=self.jobs[job_id][0],
            queue="default",
            priority=1,
            status=TaskStatus.QUEUED if end is None else end.status,
            submitted_at=0.0,
            ready_at=None,
            expires_at=None,
            started_at=None if end is None else 1.0,
            finished_at=None if end is None else 2.0,
            attempts=0 if end is None else 1,
            token=0,
            session=None,
            result_kept=end is not None and job_id not in self.expired,
            value=None if end is None else end.value,
            failure=None if end is None else end.failure,
            reason="no capable worker" if end is None else None,
        )

    def handle(self, peer: Peer, message: m.Message) -> list[m.Message]:
        match message:
            case m.Submit():
                return [] if self.answer is None else self.answer(self, peer, message)
            case m.Watch():
                return self.watch(peer, split_ids(message.ids))
            case m.Fetch():
                known = [i for i in split_ids(message.ids) if i in self.jobs]
                views = [view_to_map(self.view(i)) for i in known]
                return [m.Fetched(message.request, views)]
            case m.Cancel():
                ids = split_ids(message.ids)
                outcomes = [self._cancel(job_id) for job_id in ids]
                pairs = zip(ids, outcomes, strict=True)
                ended = [i for i, outcome in pairs if outcome == "cancelled" and i in peer.watched]
                pushed: list[m.Message] = [self.finished(ended)] if ended else []
                return [m.Cancelled(message.request, outcomes), *pushed]
            case m.Query(what="jobs"):
                return [m.Report(message.request, {"jobs": [{"id": i} for i in self.jobs]})]
            case m.Query(what="status"):
                return [m.Report(message.request, {"queued": len(self.jobs)})]
            case m.Query(what="workers" | "tasks" as what):
                return [m.Report(message.request, {what: []})]
            case m.Query():
                return [m.Problem("invalid_option", "no such report", message.request)]
            case m.Beat():
                return [m.BeatAck(message.number)]
        return []

    def _cancel(self, job_id: bytes) -> str:
        if job_id not in self.jobs:
            return "unknown"
        if job_id in self.ended:
            return "finished_first"
        self.ended[job_id] = Ended(TaskStatus.CANCELLED, None, None)
        return "cancelled"

    # --- connections -----------------------------------------------------------------------

    async def serve(self, stream: SocketStream) -> None:
        protocol = ServerProtocol(subprotocols=[Subprotocol(m.SUBPROTOCOL)])
        transport = WebSocketTransport(stream, protocol)
        peer = Peer(transport, stream)
        try:
            request = await transport.next_event()
            assert isinstance(request, Request)
            protocol.send_response(protocol.accept(request))
            await transport.flush()
            await self._shake_hands(peer)
            await self._read(peer)
        except (OSError, AuthenticationFailed):
            pass
        finally:
            if peer in self.peers:
                self.peers.remove(peer)
            await transport.aclose()
            self._touch()

    async def _shake_hands(self, peer: Peer) -> None:
        keys = {"test": TOKEN.encode()}
        handshake = ListenerHandshake(keys.get, os.urandom)
        [hello] = decode(await peer.transport.receive())
        assert isinstance(hello, m.Hello)
        await peer.send(handshake.receive_hello(hello))
        [proof] = decode(await peer.transport.receive())
        assert isinstance(proof, m.Proof)
        handshake.receive_proof(proof)
        # Before the client hears that it is connected: it may look from another thread.
        self.connections += 1
        self.peers.append(peer)
        await peer.send(
            m.Welcome(os.urandom(16), "fake", self.heartbeat_seconds, 15.0, 1_048_576, 0.0)
        )

    async def _read(self, peer: Peer) -> None:
        assembler = Assembler()
        while True:
            messages = decode(await peer.transport.receive())
            if isinstance(messages[0], m.Piece):
                whole = assembler.feed(messages)
                if whole is None:
                    continue
                messages = decode(whole)
            self.received += messages
            self._touch()
            for message in messages:
                if isinstance(message, m.Submit) and self.drop_at_submit > 0:
                    self.drop_at_submit -= 1
                    if self.store_dropped:
                        self.store(message)
                    await peer.drop()
                    return
                if answers := self.handle(peer, message):
                    await peer.send(*answers)


@asynccontextmanager
async def open_fake_control_plane(port: int = 0) -> AsyncIterator[FakeControlPlane]:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=port)
    port = listener.extra(SocketAttribute.local_port)
    plane = FakeControlPlane(f"tcp://127.0.0.1:{port}")
    async with listener, anyio.create_task_group() as serving:
        serving.start_soon(partial(listener.serve, plane.serve))
        yield plane
        serving.cancel_scope.cancel()
