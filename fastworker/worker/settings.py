"""What a subworker is told at its start. Built from `config.Settings` by the command line."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fastworker.core.records import ALL_QUEUES
from fastworker.wire.addresses import Address


@dataclass(frozen=True, slots=True)
class SubworkerSettings:
    """Everything `run_subworker` needs.

    Args:
        control_plane: addresses, tried in turn.
        token: ``id.secret``, or what finds it for an address at every try; it may raise
            `FastWorkerError` while there is none yet.
        label: the worker id people see; need not be unique.
        concurrency: async jobs at once per runner.
        threads: sync jobs at once per runner.
        task_processes: jobs at once that have a process each, in all.
        processes: runners.
        max_jobs_per_runner: a runner that has ended so many is replaced; None: never.
        max_runner_bytes: a runner that has grown to so much memory is replaced; None: never.
        tags: what is here that some tasks need; tasks that need more are not offered.
        async_runtime: ``"asyncio"`` or ``"trio"``: where ``async def`` tasks run by default.
        drain_seconds: how long running jobs may go on after the first signal.
        local: the control plane's own subworker.
        reload: start runners anew when the task code changes.
        log_level, log_format: for the runners.
        collect_logs: what jobs log and print is kept with them.
        tls: gives the context for ``wss://`` addresses; None: the system's authorities.
    """

    control_plane: Sequence[Address]
    token: Callable[[Address], str] | str = field(repr=False)
    label: str
    task_modules: Sequence[str]
    queues: Sequence[str] = (ALL_QUEUES,)
    concurrency: int = 100
    threads: int = 32
    task_processes: int = 1
    processes: int = 1
    max_jobs_per_runner: int | None = None
    max_runner_bytes: int | None = None
    tags: Sequence[str] = ()
    async_runtime: str = "asyncio"
    drain_seconds: float = 25.0
    local: bool = False
    reload: bool = False
    log_level: str = "info"
    log_format: str = "text"
    collect_logs: bool = True
    tls: Callable[[], ssl.SSLContext] | None = None

    @property
    def slots(self) -> tuple[int, int]:
        """Slots of one runner by pool (0: async, 1: threads)."""
        return (self.concurrency, self.threads)

    def token_for(self, address: Address) -> str:
        """The token to prove at ``address``."""
        return self.token if isinstance(self.token, str) else self.token(address)
