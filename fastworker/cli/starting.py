"""From settings to running processes: what the server and worker parts are told."""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fastworker.config import (
    INSECURE_TOKEN,
    Settings,
    available_processors,
    check_listen_safety,
    configured_token,
    defaults_from,
    environment,
    runtime_folder,
    take_service_manager,
    withhold_token,
)
from fastworker.config.settings import MAX_RUNNERS
from fastworker.errors import InvalidOption
from fastworker.local_token import ensure_local_token
from fastworker.logs import configure_logging
from fastworker.tls import Contexts, dialler_context
from fastworker.wire.addresses import Address, parse_address
from fastworker.wire.handshake import token_id_of

if TYPE_CHECKING:
    from fastworker.server.settings import ControlPlaneSettings
    from fastworker.worker.settings import SubworkerSettings

log = logging.getLogger("fastworker.cli")

OTHERS: Final = 0o007
"""Permission bits of everybody but owner and group."""


def start_control_plane(settings: Settings) -> int:
    """Run a control plane until it is stopped; return its exit code."""
    configure_logging(settings.log_level, settings.log_format)
    withhold_token()
    manager = take_service_manager()
    asked, warning = control_plane_settings(
        settings, token_folder=runtime_folder(environment()), cwd=Path.cwd()
    )
    if warning is not None:
        log.warning(warning)
    _warn_of_open_key(settings)
    import trio

    from fastworker.cli.notifying import Notifier, run_notifying
    from fastworker.server.control_plane import run_control_plane

    async def run(notifier: Notifier) -> int:
        return await run_control_plane(asked, task_status=notifier)

    return trio.run(run_notifying, run, manager)


def control_plane_settings(
    settings: Settings,
    *,
    token_folder: Path,
    cwd: Path,
    random: Callable[[int], bytes] = os.urandom,
) -> tuple[ControlPlaneSettings, str | None]:
    """Return what the control plane is told, and a warning to log if it is open to others.

    Raises:
        InvalidOption: it would be open to others without a token, or has a wrong setting.
        CannotCreate: the local token cannot be written.
    """
    from fastworker.server.settings import ControlPlaneSettings
    from fastworker.store.contract import Retention

    base = parse_address(settings.base_address)
    discovery = _discovery_beside(base, parse_address(settings.discovery_address))
    listening = [base, discovery]
    token = configured_token(settings)
    issued_file = tokens_file(settings, cwd)
    warning = check_listen_safety(
        listening,
        has_token=token is not None or settings.tls_ca is not None or _has_tokens(issued_file),
        has_tls=settings.tls_cert is not None,
        insecure=settings.insecure,
    )
    _check_tls(settings, listening)
    if token is None and settings.insecure:
        token = INSECURE_TOKEN
    tokens = (
        _local_tokens(listening, token_folder, random)
        if token is None
        else {token_id_of(token): token}
    )
    asked = ControlPlaneSettings(
        base_address=settings.base_address,
        discovery_address=str(discovery),
        advertise=settings.advertise,
        store=None if settings.durability == "memory" else settings.state_folder(cwd),
        durability=settings.durability,
        tokens=tokens,
        tokens_file=issued_file,
        local_worker=settings.local_worker,
        task_modules=settings.task_modules,
        callback_allow=settings.callback_allow,
        drain_seconds=settings.drain_seconds,
        insecure=settings.insecure,
        tls_cert=settings.tls_cert,
        tls_key=settings.tls_key,
        tls_ca=settings.tls_ca,
        concurrency=settings.concurrency,
        threads=settings.threads,
        task_processes=_runner_count(settings.task_processes),
        processes=_runner_count(settings.processes),
        max_jobs_per_runner=settings.max_jobs_per_runner or None,
        max_runner_bytes=settings.max_runner_memory or None,
        tags=settings.tags,
        reload=_checked_reload(settings.reload),
        async_runtime=settings.async_runtime,
        log_level=settings.log_level,
        log_format=settings.log_format,
        collect_logs=settings.collect_logs,
        max_queued_jobs=settings.max_queued_jobs,
        max_queued_bytes=settings.max_queued_bytes,
        tenants=settings.tenants,
        max_connections=settings.max_connections,
        max_connections_per_address=settings.max_connections_per_address,
        retention=Retention(
            results_seconds=settings.keep_results_seconds,
            results_count=settings.keep_results_count,
            results_bytes=settings.keep_results_bytes,
            failures_seconds=settings.keep_failures_seconds,
        ),
    )
    return asked, warning


def tokens_file(settings: Settings, cwd: Path) -> Path | None:
    """Where the tokens made for others are: a file of its own, else beside the store."""
    from fastworker.server.token_file import TOKENS_FILE

    if settings.tokens_file is not None:
        return settings.tokens_file
    return None if settings.durability == "memory" else settings.state_folder(cwd) / TOKENS_FILE


def _has_tokens(path: Path | None) -> bool:
    from fastworker.server.token_file import read_tokens

    return path is not None and bool(read_tokens(path))


def _discovery_beside(base: Address, discovery: Address) -> Address:
    """Where to listen for discovery: unless told otherwise, on the host of the base address.

    So that one setting, the base address, is enough to be reachable from other machines.
    """
    default = parse_address(Settings().discovery_address)
    if discovery != default or base.is_loopback:
        return discovery
    return Address(base.host, discovery.port, base.tls)


def _local_tokens(
    listening: list[Address], folder: Path, random: Callable[[int], bytes]
) -> dict[str, str]:
    tokens: dict[str, str] = {}
    for address in listening:
        if not address.port:
            raise InvalidOption(
                "port 0 (any free port) needs FASTWORKER_TOKEN or --token-file, because the local "
                "token is found by its port"
            )
        token = ensure_local_token(address.port, folder=folder, random=random)
        tokens[token_id_of(token)] = token
    return tokens


def _check_tls(settings: Settings, listening: list[Address]) -> None:
    _check_readable(tls_cert=settings.tls_cert, tls_key=settings.tls_key, tls_ca=settings.tls_ca)
    if settings.tls_cert is not None:
        return
    if settings.tls_ca is not None:
        raise InvalidOption(
            "--tls-ca makes a control plane ask for the certificates of its clients, which needs "
            "TLS: give --tls-cert and --tls-key, too"
        )
    for address in listening:
        if address.tls:
            raise InvalidOption(
                f"to listen on {address} give --tls-cert and --tls-key, or write it with tcp://"
            )


def _warn_of_open_key(settings: Settings) -> None:
    """A key that others can read lets them stand in for us; mounted secrets often are like that."""
    path = settings.tls_key
    if path is not None and path.exists() and path.stat().st_mode & OTHERS:
        log.warning(
            "tls_key %a can be read by other users; make it yours alone: chmod 600 %a",
            str(path),
            str(path),
        )


def _check_readable(**files: Path | None) -> None:
    for name, path in files.items():
        if path is None:
            continue
        try:
            with path.open("rb"):
                pass
        except OSError as error:
            reason = error.strerror or error
            raise InvalidOption(f"cannot read {name} {str(path)!a}: {reason}") from error


def start_subworker(settings: Settings) -> int:
    """Run a subworker until it is stopped; return its exit code."""
    configure_logging(settings.log_level, settings.log_format)
    withhold_token()
    manager = take_service_manager()
    asked = subworker_settings(settings, environment())
    _warn_of_open_key(settings)
    if not settings.task_modules:
        log.warning("no task modules were given, so this subworker can run nothing")
    import trio

    from fastworker.cli.notifying import Notifier, run_notifying
    from fastworker.worker.subworker import run_subworker

    async def run(notifier: Notifier) -> int:
        return await run_subworker(asked, on_drain=notifier.stopping, task_status=notifier)

    return trio.run(run_notifying, run, manager)


def subworker_settings(settings: Settings, environ: Mapping[str, str]) -> SubworkerSettings:
    """Return what the subworker is told.

    Raises:
        InvalidOption: the configured token or its file is not acceptable.
    """
    from fastworker.worker.settings import SubworkerSettings

    configured_token(settings)  # a wrong one is said now, not retried for ever
    defaults = defaults_from(settings, environ)
    addresses = [parse_address(text) for text in defaults.control_plane_addresses]
    dials_tls = any(address.tls for address in addresses)
    return SubworkerSettings(
        control_plane=addresses,
        token=defaults.token_for,
        label=settings.worker_id or _default_label(),
        task_modules=settings.task_modules,
        queues=settings.queues,
        concurrency=settings.concurrency,
        threads=settings.threads,
        task_processes=_runner_count(settings.task_processes),
        processes=_runner_count(settings.processes),
        max_jobs_per_runner=settings.max_jobs_per_runner or None,
        max_runner_bytes=settings.max_runner_memory or None,
        tags=settings.tags,
        reload=_checked_reload(settings.reload),
        async_runtime=settings.async_runtime,
        drain_seconds=settings.drain_seconds,
        log_level=settings.log_level,
        log_format=settings.log_format,
        collect_logs=settings.collect_logs,
        tls=Contexts(defaults.certificate_files, dialler_context).current if dials_tls else None,
    )


def _runner_count(processes: int | str) -> int:
    """How many runners that is; ``auto`` means one for each processor."""
    return processes if isinstance(processes, int) else min(available_processors(), MAX_RUNNERS)


def _checked_reload(reload: bool) -> bool:
    """Whether to reload; `InvalidOption` if that cannot be done here."""
    if reload:
        from fastworker.worker.reloading import check_reload_possible

        check_reload_possible()
    return reload


def _default_label() -> str:
    """Return host name and pid; characters that a worker name may not have become dashes."""
    host = re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname()).strip(".-")[:100]
    return f"{host or 'subworker'}-{os.getpid()}"
