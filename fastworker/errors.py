"""Every error fastworker raises, by whose fault it is.

::

    FastWorkerError
    ├── CallerError                  you called us wrongly; nothing was sent
    │   ├── NotSerializable          a value that cannot travel (names its path)
    │   ├── InvalidName              task, queue or worker name
    │   ├── InvalidOption            priority, countdown, eta, expires, limits, settings
    │   ├── InvalidAddress           an address that cannot be dialled or listened on
    │   ├── ArgumentError            arguments that do not fit the task's signature
    │   ├── TaskNameTaken            two functions under one name
    │   └── ClientNotReady           no started client, or more than one, or a stopped one
    ├── Rejected                     refused by the control plane; definitely not stored
    │   ├── Overloaded               try again after ``retry_after`` seconds
    │   ├── StorageFull              the store has no room for submissions
    │   ├── Conflict                 this id or key belongs to another submission
    │   └── Forbidden                the token does not allow this
    ├── Indeterminate                sent, not answered; repeating it with its id is safe
    ├── ControlPlaneUnavailable      never sent
    ├── TaskError                    the task's own failure: type name, message, remote traceback
    │   ├── TimeLimitExceeded
    │   ├── JobCancelled
    │   ├── JobExpired
    │   └── JobDead                  its executor was lost, or it is poison, or corrupt
    ├── UnknownJob                   no job has this id
    ├── ResultExpired                the job ended; its result is no longer kept
    ├── RequestGone                  the web request that a block was bound to has gone
    ├── PeerError                    the other side misbehaved
    │   ├── ProtocolError            bytes that are not a valid message
    │   ├── UnsupportedVersion       no protocol version in common
    │   ├── UnknownKind              a message kind this version does not know
    │   ├── StaleLease               this attempt no longer holds the job
    │   ├── AuthenticationFailed     a proof that does not fit the token
    │   └── CallbackRefused          a webhook that nobody with our token has sent just now
    ├── StoreError                   the store failed
    │   ├── StoreBroken              a write or sync failed; what it held is indeterminate (exit 74)
    │   ├── StoreUnusable            damaged, newer, foreign or vanished (exit 65)
    │   ├── StoreLocked              another process holds it (exit 75)
    │   └── CannotCreate             a folder, file or port that cannot be had (exit 73)
    └── InternalError                a bug in fastworker
        └── IllegalTransition        a move that is not in the table of states
"""

from __future__ import annotations

from typing import ClassVar


class FastWorkerError(Exception):
    """Root of all errors of fastworker; never raised itself."""

    code: ClassVar[str] = "error"
    """Stable word for this error on the wire and in JSON output."""

    task_id: str | None = None
    """The job it is about, where there is one."""


class CallerError(FastWorkerError):
    """You called fastworker wrongly; nothing was sent or stored."""

    code = "caller_error"


class NotSerializable(CallerError):
    """A value cannot travel; the message names its path, its type and what to do."""

    code = "not_serializable"


class InvalidName(CallerError):
    """A task, queue or worker name that is empty, too long or has forbidden characters."""

    code = "invalid_name"


class InvalidOption(CallerError):
    """An option or setting with a value it cannot have."""

    code = "invalid_option"


class InvalidAddress(CallerError):
    """An address that is not ``tcp://host:port``, ``ws://…`` or ``wss://…``."""

    code = "invalid_address"


class ArgumentError(CallerError):
    """Arguments that do not fit the task's signature."""

    code = "argument_error"


class TaskNameTaken(CallerError):
    """Two functions from different modules under one task name."""

    code = "task_name_taken"


class ClientNotReady(CallerError):
    """No started client, several of them, or one that has been stopped."""

    code = "client_not_ready"


class Rejected(FastWorkerError):
    """The control plane refused the submission; it is definitely not stored."""

    code = "rejected"


class Overloaded(Rejected):
    """The control plane has no room just now; the client retries by itself for a while.

    Attributes:
        retry_after: seconds to wait before the next try.
    """

    code = "overloaded"

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class StorageFull(Rejected):
    """The store has no room for submissions; outcomes are still stored."""

    code = "storage_full"


class Conflict(Rejected):
    """The id or key belongs to another submission.

    Attributes:
        existing_id: the ``task_id`` that holds it, if it may be told.
    """

    code = "conflict"

    def __init__(self, message: str, *, existing_id: str | None = None) -> None:
        super().__init__(message)
        self.existing_id = existing_id


class Forbidden(Rejected):
    """The token's role does not allow this."""

    code = "forbidden"


class Indeterminate(FastWorkerError):
    """The submission was sent and not answered: it may or may not be stored.

    Repeating it with ``options(task_id=error.task_id)`` never makes a second job.
    """

    code = "indeterminate"


class ControlPlaneUnavailable(FastWorkerError):
    """No control plane could be reached in time; nothing was sent."""

    code = "control_plane_unavailable"


class TaskError(FastWorkerError):
    """The task itself failed.

    Attributes:
        type_name: the remote exception's type, as text (never imported).
        remote_traceback: the remote traceback, as text.
        task_id: the job.
    """

    code = "task_error"

    def __init__(
        self,
        message: str,
        *,
        type_name: str = "",
        remote_traceback: str = "",
        task_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.type_name = type_name
        self.remote_traceback = remote_traceback
        self.task_id = task_id


class TimeLimitExceeded(TaskError):
    """The task passed its time limit or deadline while it ran."""

    code = "time_limit_exceeded"


class JobCancelled(TaskError):
    """The job was cancelled."""

    code = "job_cancelled"


class JobExpired(TaskError):
    """The job's deadline passed before it started."""

    code = "job_expired"


class JobDead(TaskError):
    """The job was given up: ``reason`` is ``lost``, ``poison`` or ``corrupt``."""

    code = "job_dead"
    reason: str = ""


class UnknownJob(FastWorkerError):
    """No job with this id is known."""

    code = "unknown_job"


class ResultExpired(FastWorkerError):
    """The job ended, and its result is no longer kept."""

    code = "result_expired"


class RequestGone(FastWorkerError):
    """The browser has gone whose request a block was bound to; nobody waits for an answer."""

    code = "request_gone"


class PeerError(FastWorkerError):
    """The other side misbehaved."""

    code = "peer_error"


class ProtocolError(PeerError):
    """Bytes that are not a valid message; the message names the field."""

    code = "protocol_error"


class UnsupportedVersion(PeerError):
    """The two sides have no protocol version in common; both ranges are named."""

    code = "unsupported_version"


class UnknownKind(PeerError):
    """A message kind that this version does not know."""

    code = "unknown_kind"


class StaleLease(PeerError):
    """This attempt no longer holds the job; its outcome is refused."""

    code = "stale_lease"


class AuthenticationFailed(PeerError):
    """The proof does not fit the token; nothing secret was sent."""

    code = "authentication_failed"


class CallbackRefused(PeerError):
    """A webhook whose signature, headers or age do not fit: nobody with our token sent it now."""

    code = "callback_refused"


class StoreError(FastWorkerError):
    """The store failed."""

    code = "store_error"
    exit_code: ClassVar[int] = 74


class StoreBroken(StoreError):
    """A write or sync failed: whether it is stored cannot be known. Exit 74, recover at start."""

    code = "store_broken"


class StoreUnusable(StoreError):
    """The store is damaged, newer than this program, foreign, or has vanished."""

    code = "store_unusable"
    exit_code = 65


class StoreLocked(StoreError):
    """Another process holds the store; the message names it."""

    code = "store_locked"
    exit_code = 75


class CannotCreate(StoreError):
    """A folder or file cannot be created or written, or a port cannot be had."""

    code = "cannot_create"
    exit_code = 73


class InternalError(FastWorkerError):
    """A bug in fastworker; please report it with the message."""

    code = "internal_error"


class IllegalTransition(InternalError):
    """A job was asked to make a move that is not in the table of states."""

    code = "illegal_transition"
