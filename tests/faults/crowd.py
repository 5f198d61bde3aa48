"""Many subworkers in one process: real connections with nothing behind them that runs jobs."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from random import Random
from types import SimpleNamespace
from typing import Any

import trio

from fastworker.core.ids import split_ids
from fastworker.transport.link import Link
from fastworker.wire.addresses import parse_address
from fastworker.wire.messages import Assign, Message
from fastworker.worker.connection import Connection
from fastworker.worker.inspecting import Inspector
from fastworker.worker.settings import SubworkerSettings
from fastworker.worker.subworker import dialler
from tests.faults.site import wait_until


class Holder:
    """Stands where a switchboard stands: keeps every job it is given, and runs none."""

    def __init__(self, crowd: Crowd, task: str) -> None:
        self._crowd = crowd
        self.offering = SimpleNamespace(tasks=[[task, 0, ""]], withheld=None)
        self.held: dict[bytes, int] = {}

    def pools(self) -> tuple[list[int], list[int]]:
        return [1, 1], [0, 0]

    def claims(self) -> tuple[bytes, list[int]]:
        return b"".join(self.held), list(self.held.values())

    def link_up(self, link: Link, *, stale: Any) -> None:
        self._crowd.note_registered(len(stale or ()))

    def link_down(self) -> None: ...

    def ask_before_hand_over(self, leases_stand: Callable[[], bool]) -> None: ...

    def leases_doubtful(self, within: float) -> None: ...

    def leases_safe(self) -> None: ...

    def from_control_plane(self, messages: list[Message]) -> None:
        for message in messages:
            if isinstance(message, Assign):
                ids = split_ids(message.ids)
                self.held.update(zip(ids, message.tokens, strict=True))
                self._crowd.assigned += len(ids)


class Crowd:
    """So many subworkers, each with one slot for a task, in a thread; ``with`` it."""

    def __init__(self, address: str, token: str, size: int, *, task: str) -> None:
        self._address, self._token, self._size = address, token, size
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._trio: trio.lowlevel.TrioToken | None = None
        self._scope = trio.CancelScope()
        self._holders = [Holder(self, task) for _ in range(size)]
        self.registrations = 0
        self.registered_at: list[float] = []
        self.stale = 0
        self.assigned = 0

    def note_registered(self, stale: int) -> None:
        self.registrations += 1
        self.registered_at.append(time.monotonic())
        self.stale += stale

    def holding(self) -> int:
        """How many jobs they have."""
        return sum(len(holder.held) for holder in self._holders)

    def wait_connected(self, count: int, *, seconds: float) -> None:
        wait_until(lambda: self.registrations >= count, seconds=seconds, what="registration")

    def __enter__(self) -> Crowd:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._trio is not None:
            with suppress(trio.RunFinishedError):
                self._trio.run_sync_soon(self._scope.cancel)
        self._thread.join(10)

    def _run(self) -> None:
        trio.run(self._stay)

    async def _stay(self) -> None:
        self._trio = trio.lowlevel.current_trio_token()
        with self._scope:
            async with trio.open_nursery() as nursery:
                for number, holder in enumerate(self._holders):
                    settings = SubworkerSettings(
                        control_plane=[parse_address(self._address)],
                        token=self._token,
                        label=f"crowd-{number}",
                        task_modules=[],
                    )
                    connection = Connection(
                        settings,
                        holder,  # type: ignore[arg-type]
                        dialler(settings),
                        incarnation=os.urandom(16),
                        random=Random(number),
                        on_refused=lambda error: None,
                        inspector=Inspector({}, lambda number: []),
                    )
                    nursery.start_soon(connection.stay_connected)
