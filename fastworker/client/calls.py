"""From what a caller wrote to the columns of a submission. Checks here, before anything is sent."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final, NamedTuple, TypeAlias

import anyio

from fastworker.client.ambient import wall_seconds
from fastworker.client.context import sealed_context
from fastworker.client.offers import Offered
from fastworker.client.submissions import Jobs, Spec
from fastworker.core.ids import id_bytes, new_id
from fastworker.core.keys import check_key
from fastworker.core.names import check_name
from fastworker.core.records import DEFAULT_OPTIONS, DEFAULT_QUEUE, JobOptions, TaskPriority
from fastworker.errors import CallerError, InvalidOption
from fastworker.options import DEFAULT_CALL, SCOPE, CallOptions, window_seconds
from fastworker.tasks import (
    AsyncStreamTask,
    AsyncTask,
    StreamTask,
    Task,
    TaskDefinition,
    registry,
)
from fastworker.tasks.models import TaskModels
from fastworker.tasks.signatures import Parameters, check_arguments
from fastworker.wire.callback_addresses import parse_callback_address
from fastworker.wire.options import options_to_map
from fastworker.wire.values import seal_call, seal_value

OWN_CONNECTION: Final = "client:"

MAX_GROUP_JOBS: Final = 10_000
MAX_GROUP_BYTES: Final = 8 * 1024 * 1024
"""Of arguments: what one transaction of the control plane takes at most."""

OWNED_SECONDS: Final = 30.0
"""A stream, or a request, whose client has been gone for so long has lost it: its jobs are
cancelled. One that reconnects before goes on."""

_RANDOM_BYTES: Final = 10
"""Of one UUIDv7."""

TaskLike: TypeAlias = (
    "str | Task[..., Any] | AsyncTask[..., Any] | StreamTask[..., Any] | "
    "AsyncStreamTask[..., Any] | TaskDefinition"
)
"""A task, or its name."""


class Call(NamedTuple):
    """One call of a `submit_many` or `submit_stream` of different tasks."""

    task: TaskLike
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = {}
    options: CallOptions | None = None
    """None: as the task says."""


def call(task: TaskLike, /, *args: Any, **kwargs: Any) -> Call:
    """A call to hand to `submit_many` or `submit_stream`: ``call("add", 2, 3)``."""
    return Call(task, args, kwargs)


class _Target(NamedTuple):
    """What is called: a name, and what is known here of the task behind it."""

    name: str
    default_options: CallOptions
    """What its jobs ask for unless a call says otherwise."""
    parameters: Parameters | None
    """None: not known, or not the same on all subworkers."""
    checked: bool = True
    """Whether arguments are to be checked."""
    models: TaskModels | None = None
    """What its annotations make of arguments and results; None: only its name is known."""


def _nothing_offered(name: str) -> None:
    """An `Offered` for when no task is known by name."""


def _target(task: TaskLike, offered: Offered = _nothing_offered) -> _Target:
    match task:
        case TaskDefinition():  # whoever passes this has checked the arguments
            return _Target(
                task.name, task.call_options, task.parameters, checked=False, models=task.models
            )
        case Task() | AsyncTask() | StreamTask() | AsyncStreamTask():
            known = task.definition
            return _Target(known.name, known.call_options, known.parameters, models=known.models)
        case str():
            # A task of this name here need not be the one that the subworkers have: its options
            # are the caller's choice, and what arguments fit is theirs to say.
            name = check_name("task", task)
            here = registry.get(name)
            options = DEFAULT_CALL if here is None else here.call_options
            return _Target(name, options, offered(name))
    raise CallerError(f"expected a task or its name, not {type(task).__name__}")


def _seal(target: _Target, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bytes:
    parameters = target.parameters
    if parameters is None:
        return seal_call(args, kwargs, task=target.name)
    if target.checked:
        check_arguments(target.name, parameters, args, kwargs)
    if target.models is not None:
        target.models.check(args, kwargs)
    return seal_call(args, kwargs, task=target.name, names=parameters.positional)


def new_ids(count: int) -> list[bytes]:
    """Fresh job ids, in order."""
    wall = wall_seconds()
    random = os.urandom(_RANDOM_BYTES * count)
    step = _RANDOM_BYTES
    return [new_id(wall=wall, random=random[at : at + step]) for at in range(0, len(random), step)]


def job_of(call: Call, offered: Offered, *, keyed: bool = False) -> Jobs:
    """One call as the columns of a submission.

    Args:
        offered: what arguments the tasks take that are called by name.
        keyed: it is given an idempotency key later.

    Raises:
        CallerError: anything that cannot be sent.
    """
    target = _target(call.task, offered)
    options = target.default_options if call.options is None else call.options
    kwargs = call.kwargs
    if kwargs and (keyed or options.idempotency_key is not None):
        # The same call is the same bytes, in whatever order its arguments are named.
        kwargs = dict(sorted(kwargs.items()))
    payload = _seal(target, call.args, kwargs)
    ids = new_ids(1) if options.task_id is None else [id_bytes(options.task_id)]
    return _jobs(ids, [payload], [_spec(target, options)], options, target.models)


def jobs_of_one_task(
    task: TaskLike,
    rows: Iterable[Sequence[Any]],
    options: CallOptions | None,
    offered: Offered,
    given: Keys | None = None,
) -> Jobs:
    """Many calls of one task, by position only; ``offered`` as for `job_of`.

    Raises:
        CallerError: anything that cannot be sent.
    """
    target = _target(task, offered)
    options = target.default_options if options is None else options
    payloads = [_seal(target, _arguments(row, target.name), {}) for row in rows]
    if options.task_id is not None:
        raise InvalidOption("task_id is for one job; submit_many makes an id for each")
    if options.idempotency_key is not None:
        raise InvalidOption("idempotency_key is for one job; give submit_many keys=[…], one each")
    ids = new_ids(len(payloads))
    jobs = _jobs(ids, payloads, [_spec(target, options)], options, target.models)
    return jobs if given is None else _with_keys(jobs, given)


def job_of_stream(call: Call, offered: Offered) -> Jobs:
    """Like `job_of`, for a job whose items are taken one by one, by whoever submits it.

    It is never started twice: its consumer could not be told which items are new.

    Raises:
        CallerError: anything that cannot be sent, or a task that does not yield.
    """
    task = call.task
    definition = task if isinstance(task, str | TaskDefinition) else task.definition
    if not isinstance(definition, str) and not definition.yields:
        raise CallerError(
            f"task {definition.name!r} does not yield, so there is nothing to stream; use submit()"
        )
    options = call.options
    if options is not None and (options.task_id or options.idempotency_key) is not None:
        raise InvalidOption(
            "a stream is always a job of its own: task_id and idempotency_key, which may mean "
            "an older one, do not go with stream()"
        )
    jobs = job_of(call, offered)
    spec = jobs.specs[0]
    owned = OWNED_SECONDS if spec.options.owned is None else spec.options.owned
    asked = replace(spec.options, stream=True, owned=owned, on_lost="fail")
    return jobs._replace(specs=[spec._replace(options=asked)])


class Keys(NamedTuple):
    """The idempotency keys of a `submit_many`, one for each job; None: that job has none."""

    keys: list[str | None]
    seconds: float | None
    """How long they hold; None: a day."""


def checked_keys(
    keys: Iterable[str | None] | None, window: float | timedelta | None
) -> Keys | None:
    """``keys`` and ``idempotency_window`` of a `submit_many`, if there are any.

    Raises:
        InvalidOption: a value that one of them cannot have.
    """
    if keys is None:
        if window is not None:
            raise InvalidOption("idempotency_window says how long keys hold; give keys too")
        return None
    if isinstance(keys, str):
        raise InvalidOption("keys is a list of idempotency keys, one for each job, not text")
    return Keys([None if key is None else check_key(key) for key in keys], window_seconds(window))


def _jobs(
    ids: list[bytes],
    payloads: list[bytes],
    specs: list[Spec],
    options: CallOptions,
    models: TaskModels | None,
) -> Jobs:
    known: list[TaskModels | None] | None = None if models is None else [models] * len(ids)
    if options is DEFAULT_CALL:
        return Jobs(ids, payloads, specs, models=known)
    wall, key = wall_seconds(), options.idempotency_key
    ready_at, expires_at = options.ready_at(wall), options.expires_at(wall)
    return Jobs(
        ids,
        payloads,
        specs,
        ready_at=None if ready_at is None else [ready_at] * len(ids),
        expires_at=None if expires_at is None else [expires_at] * len(ids),
        keys=None if key is None else [key],
        key_seconds=None if key is None else window_seconds(options.idempotency_window),
        deadlines=_deadlines(options, wall, len(ids)),
        models=known,
    )


def _deadlines(options: CallOptions, wall: float, count: int) -> list[float | None] | None:
    """The deadline of every job by this event loop's clock, which no change of the date moves."""
    if options.deadline == SCOPE:
        moment = anyio.current_effective_deadline()
        return None if moment == math.inf else [moment] * count
    seconds = options.deadline_in(wall)
    return None if seconds is None else [anyio.current_time() + seconds] * count


def _with_keys(jobs: Jobs, given: Keys) -> Jobs:
    if len(given.keys) != len(jobs.ids):
        raise InvalidOption(f"keys has {len(given.keys)} for {len(jobs.ids)} jobs; give one each")
    return jobs._replace(keys=given.keys, key_seconds=given.seconds)


def jobs_of_calls(calls: Iterable[Call], offered: Offered, given: Keys | None = None) -> Jobs:
    """Many calls of any tasks; ``offered`` as for `job_of`.

    Raises:
        CallerError: anything that cannot be sent.
    """
    ones = [job_of(one, offered, keyed=given is not None) for one in calls]
    specs: dict[Spec, int] = {}
    which = [specs.setdefault(one.specs[0], len(specs)) for one in ones]
    ready_at = [None if one.ready_at is None else one.ready_at[0] for one in ones]
    expires_at = [None if one.expires_at is None else one.expires_at[0] for one in ones]
    deadlines = [None if one.deadlines is None else one.deadlines[0] for one in ones]
    if given is not None and any(one.keys is not None for one in ones):
        raise InvalidOption("keys are given twice: in the options of a call, and in keys=[…]")
    keys = [None if one.keys is None else one.keys[0] for one in ones]
    windows = {one.key_seconds for one in ones if one.keys is not None}
    if len(windows) > 1:
        raise InvalidOption("the keys of one submit_many have one idempotency_window")
    jobs = Jobs(
        ids=[one.ids[0] for one in ones],
        payloads=[one.payloads[0] for one in ones],
        specs=list(specs),
        which=which if len(specs) > 1 else None,
        ready_at=ready_at if any(at is not None for at in ready_at) else None,
        expires_at=expires_at if any(at is not None for at in expires_at) else None,
        keys=keys if windows else None,
        key_seconds=windows.pop() if windows else None,
        deadlines=deadlines if any(at is not None for at in deadlines) else None,
        models=[None if one.models is None else one.models[0] for one in ones],
    )
    return jobs if given is None else _with_keys(jobs, given)


def check_group(jobs: Jobs) -> None:
    """Refuse what cannot be accepted as one.

    Raises:
        InvalidOption: more than `MAX_GROUP_JOBS` or `MAX_GROUP_BYTES`.
    """
    size = sum(map(len, jobs.payloads))
    if len(jobs.ids) > MAX_GROUP_JOBS or size > MAX_GROUP_BYTES:
        raise InvalidOption(
            f"submit_many takes at most {MAX_GROUP_JOBS} jobs and {MAX_GROUP_BYTES} bytes of "
            f"arguments at once, not {len(jobs.ids)} jobs and {size} bytes; use submit_stream"
        )


def chosen(task: TaskLike, **options: Any) -> CallOptions | None:
    """Options of a call of ``task``: its own, changed by keywords that are not None.

    Returns:
        None if there are no changes.

    Raises:
        InvalidOption: a value that an option cannot have.
    """
    given = {name: value for name, value in options.items() if value is not None}
    return replace(_target(task).default_options, **given) if given else None


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse options that do not exist, or with values they cannot have.

    Raises:
        InvalidOption: the option is named.
    """
    unknown = sorted(options.keys() - CallOptions.__dataclass_fields__.keys())
    if unknown:
        known = ", ".join(CallOptions.__dataclass_fields__)
        raise InvalidOption(f"there is no option {unknown[0]!r}; there are: {known}")
    replace(DEFAULT_CALL, **options)


def _arguments(row: object, name: str) -> tuple[Any, ...]:
    if type(row) is tuple:
        return row
    if isinstance(row, Sequence) and not isinstance(row, str | bytes):
        return tuple(row)
    raise CallerError(
        f"submit_many({name!r}, …) takes one tuple of arguments a job, not a "
        f"{type(row).__name__}; write (value,) for a single argument"
    )


def _spec(target: _Target, options: CallOptions) -> Spec:
    queue = DEFAULT_QUEUE if options.queue is None else options.queue
    priority = TaskPriority.NORMAL if options.priority is None else options.priority
    return Spec(target.name, queue, int(priority), _job_options(options))


def _job_options(options: CallOptions) -> JobOptions:
    callback, data = options.callback, options.callback_data
    context = sealed_context()
    if options is DEFAULT_CALL:
        return DEFAULT_OPTIONS if context is None else JobOptions(context=context)
    found = JobOptions(
        keep_result=options.keep_result,
        on_lost=options.on_lost,
        callback=None if callback is None else _callback(callback),
        callback_data=None if data is None else seal_value(data, what="callback_data"),
        timeout=options.seconds("timeout"),
        grace=options.seconds("grace"),
        detached=options.detached,
        owned=options.seconds("owned"),
        context=context,
    )
    if found == DEFAULT_OPTIONS:
        return DEFAULT_OPTIONS
    options_to_map(found)  # checks every value, here where the caller can see it
    return found


def _callback(address: str) -> str:
    return address if address.startswith(OWN_CONNECTION) else parse_callback_address(address).url
