"""fastworker: a durable task queue for Python without a broker.

Write a task, run a control plane and subworkers, and submit from anywhere::

    from fastworker import Client, task

    @task
    def add(x: int, y: int) -> int:
        return x + y

    async with Client() as client:
        handle = await client.submit("add", 2, 3)
        assert await handle.result() == 5

Everything public is here, and nothing else is. Names are loaded when they are first used, so that
importing the package costs an application nothing. Inside, imports point from doing to deciding::

    errors.py      every error, drawn as a tree
    core/          decides; pure: states, lanes, leases, hand-out
    wire/          messages and values to bytes and back; pure
    store/         remembers: SQLite, its schema, recovery
    transport/     links over WebSocket
    server/        the control plane: listeners, sessions, dispatch
    worker/        the subworker: leases, supervision of runners
    runner/        the child process that runs tasks
    client/        what applications hold
    tasks/         the decorator, and what is known of a task
    options.py     what one call may ask for
    config/        settings: the one reader of environment and files
    integrations/  web frameworks and pytest
    testing/       the whole system in the process of a test
    cli/           the command line
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastworker.client.blocking import BlockingClient, BlockingHandle
    from fastworker.client.callbacks import JobCallback
    from fastworker.client.calls import Call, call
    from fastworker.client.client import Client
    from fastworker.client.dead import Attempt, DeadLetter, DeadLetterDetails
    from fastworker.client.deliveries import CallbackDelivery
    from fastworker.client.failures import register_exception
    from fastworker.client.group_handles import GroupHandle
    from fastworker.client.handles import CancelOutcome, CancelResult, TaskHandle
    from fastworker.client.listener import CallbackListener, open_callback_listener
    from fastworker.client.queues import QueueState
    from fastworker.client.running import RunningJob, WorkerJobs
    from fastworker.client.streams import Stream
    from fastworker.client.task_group import TaskGroup
    from fastworker.client.tenants import TenantState
    from fastworker.client.webhooks import verify_webhook
    from fastworker.core.records import (
        LogLine,
        TaskPriority,
        TaskProgress,
        TaskResult,
        TaskStatus,
    )
    from fastworker.errors import (
        ArgumentError,
        AuthenticationFailed,
        CallbackRefused,
        CallerError,
        CannotCreate,
        ClientNotReady,
        Conflict,
        ControlPlaneUnavailable,
        FastWorkerError,
        Forbidden,
        IllegalTransition,
        Indeterminate,
        InternalError,
        InvalidAddress,
        InvalidName,
        InvalidOption,
        JobCancelled,
        JobDead,
        JobExpired,
        NotSerializable,
        Overloaded,
        PeerError,
        ProtocolError,
        Rejected,
        RequestGone,
        ResultExpired,
        StaleLease,
        StorageFull,
        StoreBroken,
        StoreError,
        StoreLocked,
        StoreUnusable,
        TaskError,
        TaskNameTaken,
        TimeLimitExceeded,
        UnknownJob,
        UnknownKind,
        UnsupportedVersion,
    )
    from fastworker.runner.context import check_cancelled
    from fastworker.runner.current import CurrentJob, current
    from fastworker.tasks import (
        AsyncStreamTask,
        AsyncTask,
        Lifespan,
        Retry,
        RetryLater,
        StreamTask,
        Task,
        lifespan,
        task,
    )
    from fastworker.tasks.propagation import propagate
    from fastworker.version import __version__

__all__ = [
    "ArgumentError",
    "AsyncStreamTask",
    "AsyncTask",
    "Attempt",
    "AuthenticationFailed",
    "BlockingClient",
    "BlockingHandle",
    "Call",
    "CallbackDelivery",
    "CallbackListener",
    "CallbackRefused",
    "CallerError",
    "CancelOutcome",
    "CancelResult",
    "CannotCreate",
    "Client",
    "ClientNotReady",
    "Conflict",
    "ControlPlaneUnavailable",
    "CurrentJob",
    "DeadLetter",
    "DeadLetterDetails",
    "FastWorkerError",
    "Forbidden",
    "GroupHandle",
    "IllegalTransition",
    "Indeterminate",
    "InternalError",
    "InvalidAddress",
    "InvalidName",
    "InvalidOption",
    "JobCallback",
    "JobCancelled",
    "JobDead",
    "JobExpired",
    "Lifespan",
    "LogLine",
    "NotSerializable",
    "Overloaded",
    "PeerError",
    "ProtocolError",
    "QueueState",
    "Rejected",
    "RequestGone",
    "ResultExpired",
    "Retry",
    "RetryLater",
    "RunningJob",
    "StaleLease",
    "StorageFull",
    "StoreBroken",
    "StoreError",
    "StoreLocked",
    "StoreUnusable",
    "Stream",
    "StreamTask",
    "Task",
    "TaskError",
    "TaskGroup",
    "TaskHandle",
    "TaskNameTaken",
    "TaskPriority",
    "TaskProgress",
    "TaskResult",
    "TaskStatus",
    "TenantState",
    "TimeLimitExceeded",
    "UnknownJob",
    "UnknownKind",
    "UnsupportedVersion",
    "WorkerJobs",
    "__version__",
    "call",
    "check_cancelled",
    "current",
    "lifespan",
    "open_callback_listener",
    "propagate",
    "register_exception",
    "task",
    "verify_webhook",
]

_HOME = {
    "BlockingClient": "fastworker.client.blocking",
    "BlockingHandle": "fastworker.client.blocking",
    "JobCallback": "fastworker.client.callbacks",
    "Call": "fastworker.client.calls",
    "call": "fastworker.client.calls",
    "Client": "fastworker.client.client",
    "Attempt": "fastworker.client.dead",
    "DeadLetter": "fastworker.client.dead",
    "DeadLetterDetails": "fastworker.client.dead",
    "CallbackDelivery": "fastworker.client.deliveries",
    "register_exception": "fastworker.client.failures",
    "GroupHandle": "fastworker.client.group_handles",
    "CancelOutcome": "fastworker.client.handles",
    "CancelResult": "fastworker.client.handles",
    "TaskHandle": "fastworker.client.handles",
    "CallbackListener": "fastworker.client.listener",
    "open_callback_listener": "fastworker.client.listener",
    "QueueState": "fastworker.client.queues",
    "Stream": "fastworker.client.streams",
    "TenantState": "fastworker.client.tenants",
    "TaskGroup": "fastworker.client.task_group",
    "verify_webhook": "fastworker.client.webhooks",
    "RunningJob": "fastworker.client.running",
    "WorkerJobs": "fastworker.client.running",
    "LogLine": "fastworker.core.records",
    "TaskProgress": "fastworker.core.records",
    "TaskPriority": "fastworker.core.records",
    "TaskResult": "fastworker.core.records",
    "TaskStatus": "fastworker.core.records",
    "CurrentJob": "fastworker.runner.current",
    "check_cancelled": "fastworker.runner.context",
    "AsyncStreamTask": "fastworker.tasks",
    "current": "fastworker.runner.current",
    "AsyncTask": "fastworker.tasks",
    "Lifespan": "fastworker.tasks",
    "lifespan": "fastworker.tasks",
    "Retry": "fastworker.tasks",
    "RetryLater": "fastworker.tasks",
    "StreamTask": "fastworker.tasks",
    "Task": "fastworker.tasks",
    "task": "fastworker.tasks",
    "propagate": "fastworker.tasks.propagation",
    "__version__": "fastworker.version",
}
"""Where a name lives; those that are not here are errors."""


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'fastworker' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME.get(name, "fastworker.errors")), name)
    globals()[name] = value  # found directly from now on
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
