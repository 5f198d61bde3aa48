"""Dead letters, deliveries, queues and running jobs for `BlockingClient`: the same, waited for."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from fastworker.client.dead import Attempt, DeadLetter, DeadLetterDetails
from fastworker.client.deliveries import CallbackDelivery
from fastworker.client.queues import QueueState
from fastworker.client.running import RunningJob, WorkerJobs
from fastworker.client.tenants import TenantState

if TYPE_CHECKING:
    from fastworker.client.blocking_handles import BlockingHandle
    from fastworker.client.client import Client
    from fastworker.client.handles import TaskHandle

T = TypeVar("T")


class BlockingManagement:
    """The part of `BlockingClient` that is about dead letters, queues and what runs."""

    @property
    def _inner(self) -> Client:
        raise NotImplementedError

    def _run(self, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
        raise NotImplementedError

    def _handle(self, handle: TaskHandle[T]) -> BlockingHandle[T]:
        raise NotImplementedError

    def dead(
        self, task: str | None = None, error: str | None = None, **filters: Any
    ) -> list[DeadLetter]:
        """See `Client.dead`."""
        return self._run(partial(self._inner.dead, task, error, **filters))

    def dead_letter(self, task_id: str) -> DeadLetterDetails:
        """See `Client.dead_letter`."""
        return self._run(partial(self._inner.dead_letter, task_id))

    def attempts(self, task_id: str) -> list[Attempt]:
        """See `Client.attempts`."""
        return self._run(partial(self._inner.attempts, task_id))

    def replay(
        self,
        task_id: str,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
    ) -> BlockingHandle[Any]:
        """See `Client.replay`."""
        return self._handle(self._run(partial(self._inner.replay, task_id, args, kwargs)))

    def replay_dead(self, task: str | None = None, error: str | None = None, **filters: Any) -> int:
        """See `Client.replay_dead`."""
        return self._run(partial(self._inner.replay_dead, task, error, **filters))

    def discard(self, task_id: str) -> None:
        """See `Client.discard`."""
        self._run(partial(self._inner.discard, task_id))

    def discard_dead(
        self, task: str | None = None, error: str | None = None, **filters: Any
    ) -> int:
        """See `Client.discard_dead`."""
        return self._run(partial(self._inner.discard_dead, task, error, **filters))

    def callback_deliveries(
        self, *, given_up: bool | None = None, limit: int = 100
    ) -> list[CallbackDelivery]:
        """See `Client.callback_deliveries`."""
        return self._run(partial(self._inner.callback_deliveries, given_up=given_up, limit=limit))

    def queues(self) -> list[QueueState]:
        """See `Client.queues`."""
        return self._run(self._inner.queues)

    def tenants(self) -> list[TenantState]:
        """See `Client.tenants`."""
        return self._run(self._inner.tenants)

    def stack(self, task_id: str) -> RunningJob | None:
        """See `Client.stack`."""
        return self._run(partial(self._inner.stack, task_id))

    def tree(self, *, stacks: bool = False) -> list[WorkerJobs]:
        """See `Client.tree`."""
        return self._run(partial(self._inner.tree, stacks=stacks))

    def pause(self, queue: str, *, tenant: str | None = None) -> None:
        """See `Client.pause`."""
        self._run(partial(self._inner.pause, queue, tenant=tenant))

    def resume(self, queue: str, *, tenant: str | None = None) -> None:
        """See `Client.resume`."""
        self._run(partial(self._inner.resume, queue, tenant=tenant))
