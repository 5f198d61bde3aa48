"""What one control plane is told when it starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fastworker.core.memory import MAX_QUEUED_BYTES, MAX_QUEUED_JOBS
from fastworker.core.tenants import Tenants
from fastworker.server.identities import IssuedToken
from fastworker.server.limits import MAX_CONNECTIONS, MAX_CONNECTIONS_PER_ADDRESS
from fastworker.store.contract import Retention


@dataclass(frozen=True, slots=True)
class ControlPlaneSettings:
    """Everything `run_control_plane` needs; built by the command line from `config.Settings`.

    Args:
        base_address, discovery_address: where to listen (``tcp://host:port``; port 0: any free);
            None: not there.
        advertise: what peers are told to dial; None: the host they dialled.
        store: folder of the state; None only with durability ``memory``.
        durability: ``power``, ``process`` or ``memory``.
        tokens: token text by token id; empty only with ``insecure``.
        issued_tokens: tokens of others than the operator's own processes.
        tokens_file: more of them, in a file that may change while this runs; None: none.
        tenants: shares and quotas.
        local_worker: ``auto``, ``always`` or ``never``.
        task_modules: for the local subworker.
        callback_allow: hosts (and ``host:port``) that callbacks may dial, too.
        tls_cert, tls_key: what it shows of itself; None: it listens without TLS.
        tls_ca: authorities who must have signed the certificate of everybody who connects.
        drain_seconds: how long a first SIGTERM waits for connections to end well.
        log_level, log_format, collect_logs: for the local subworker.
        max_queued_jobs, max_queued_bytes: once so many jobs, or so much of their arguments, wait,
            new ones are refused as `Overloaded`.
        max_connections, max_connections_per_address: above them newcomers are turned away.
        lease_seconds, heartbeat_seconds: see guarantees G2; shorter in tests.
    """

    base_address: str | None = "tcp://127.0.0.1:5555"
    discovery_address: str | None = "tcp://127.0.0.1:5550"
    advertise: str | None = None
    store: Path | None = None
    durability: str = "power"
    tokens: Mapping[str, str] = field(default_factory=dict, repr=False)
    issued_tokens: tuple[IssuedToken, ...] = ()
    tokens_file: Path | None = None
    tenants: Tenants = field(default_factory=Tenants)
    local_worker: str = "auto"
    task_modules: tuple[str, ...] = ()
    callback_allow: tuple[str, ...] = ()
    drain_seconds: float = 25.0
    insecure: bool = False
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_ca: Path | None = None
    concurrency: int = 100
    threads: int = 32
    task_processes: int = 1
    processes: int = 1
    max_jobs_per_runner: int | None = None
    max_runner_bytes: int | None = None
    tags: tuple[str, ...] = ()
    reload: bool = False
    async_runtime: str = "asyncio"
    log_level: str = "info"
    log_format: str = "text"
    collect_logs: bool = True
    lease_seconds: float = 15.0
    heartbeat_seconds: float = 5.0
    max_queued_jobs: int = MAX_QUEUED_JOBS
    max_queued_bytes: int = MAX_QUEUED_BYTES
    max_connections: int = MAX_CONNECTIONS
    max_connections_per_address: int = MAX_CONNECTIONS_PER_ADDRESS
    retention: Retention = field(default_factory=Retention)
