"""What one call asks for beside its arguments. Checked here, before anything is sent. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from fastworker.core.ids import id_bytes
from fastworker.core.keys import check_key, check_window
from fastworker.core.names import check_name
from fastworker.core.records import TaskPriority
from fastworker.errors import InvalidOption

MAX_SECONDS: Final = 100 * 366 * 86_400
"""A hundred years: whatever is longer is a mistake of units, and may not fit into a moment."""

MAX_REASON_CHARACTERS: Final = 1000
"""Of why a job is cancelled: it is kept with the job, and with all that it has started."""

ON_LOST: Final = ("retry", "fail")

SCOPE: Final = "scope"
"""As a deadline: that of the caller's own cancel scopes."""


@dataclass(frozen=True, slots=True)
class CallOptions:
    """Options of one call. Making one checks it, and so does `dataclasses.replace`.

    Args:
        priority: None: NORMAL.
        countdown: seconds or a timedelta before the job may start; 0 is at once.
        eta: the moment before which it must not start; an aware datetime. Not with ``countdown``.
        expires: seconds, a timedelta or an aware datetime, after which it is not started any
            more. A moment that has passed is allowed: the job expires.
        queue: None: the default queue.
        task_id: repeats a submission under its id.
        keep_result: False keeps no result once the job has ended.
        on_lost: ``"retry"`` (at least once) or ``"fail"`` (at most once).
        callback: where completion is announced.
        callback_data: handed back with the callback; any value that can travel, not sealed yet.
        idempotency_key: 1 to 200 characters; while it holds, there is one job of the task for it.
        idempotency_window: seconds or a timedelta, 1 second to 30 days, for which the key holds
            at least; None: a day.
        deadline: seconds, a timedelta or an aware datetime, after which the job is not started and,
            if it runs, stopped; ``"scope"``: the deadline of the caller's own cancel scopes. It
            holds for the jobs that this one submits, too.
        timeout: seconds or a timedelta that an attempt's code may run; None: as its task says.
        grace: seconds or a timedelta from being told to stop to being stopped by force; None: as
            its task says.
        detached: the job is not cancelled with the one that submits it; its deadline is its own.
        owned: seconds or a timedelta: it is cancelled once its client has been gone for so long;
            None: it stays.

    Raises:
        InvalidOption: a value an option cannot have; the option is named.
        InvalidName: a queue that cannot be one.
    """

    priority: TaskPriority | None = None
    countdown: float | timedelta | None = None
    eta: datetime | None = None
    expires: float | timedelta | datetime | None = None
    queue: str | None = None
    task_id: str | None = None
    keep_result: bool = True
    on_lost: str = "retry"
    callback: str | None = None
    callback_data: Any = None
    idempotency_key: str | None = None
    idempotency_window: float | timedelta | None = None
    deadline: float | timedelta | datetime | Literal["scope"] | None = None
    timeout: float | timedelta | None = None
    grace: float | timedelta | None = None
    detached: bool = False
    owned: float | timedelta | None = None

    def __post_init__(self) -> None:
        if self.priority is not None:
            check_priority(self.priority)
        if self.countdown is not None:
            _check_length("countdown", self.countdown)
        if self.eta is not None:
            _check_moment("eta", self.eta)
        if self.expires is not None:
            _check_expires(self.expires)
        if self.queue is not None:
            check_name("queue", self.queue)
        self._check_limits()
        if self.task_id is not None:
            id_bytes(self.task_id)
        if self.callback is not None:
            _check_address(self.callback)
        check_flag("keep_result", self.keep_result)
        check_on_lost(self.on_lost)
        if self.countdown is not None and self.eta is not None:
            raise InvalidOption("countdown and eta both say when to start; give one of them")
        if self.callback_data is not None and self.callback is None:
            raise InvalidOption("callback_data is handed back with a callback; give a callback too")
        if self.idempotency_key is not None:
            check_key(self.idempotency_key)
        if self.idempotency_window is not None:
            window_seconds(self.idempotency_window)
            if self.idempotency_key is None:
                raise InvalidOption(
                    "idempotency_window says how long a key holds; give an idempotency_key too"
                )

    def _check_limits(self) -> None:
        if isinstance(self.deadline, datetime):
            _check_moment("deadline", self.deadline)
        elif isinstance(self.deadline, str):
            if self.deadline != SCOPE:
                raise InvalidOption(
                    "deadline is seconds, a timedelta, an aware datetime or "
                    f'"{SCOPE}", not {_shown(self.deadline)}'
                )
        elif self.deadline is not None:
            _check_length("deadline", self.deadline)
        for option in ("timeout", "grace", "owned"):
            length = getattr(self, option)
            if length is not None:
                _check_length(option, length)
        if self.seconds("timeout") == 0:
            raise InvalidOption("timeout is 0, which no code can keep; leave it out")
        check_flag("detached", self.detached)

    def ready_at(self, now: float) -> float | None:
        """The moment before which the job must not start (wall seconds), or None: at once."""
        if self.countdown is not None:
            seconds = _seconds_of(self.countdown)
            return now + seconds if seconds else None
        return None if self.eta is None else self.eta.timestamp()

    def expires_at(self, now: float) -> float | None:
        """The moment after which the job must not start (wall seconds), or None: never."""
        if self.expires is None:
            return None
        if isinstance(self.expires, datetime):
            return self.expires.timestamp()
        return now + _seconds_of(self.expires)

    def seconds(self, option: Literal["timeout", "grace", "owned"]) -> float | None:
        """One of the lengths of time in seconds."""
        length = getattr(self, option)
        return None if length is None else float(_seconds_of(length))

    def deadline_in(self, now: float) -> float | None:
        """Seconds until the deadline, negative once it has passed; None: none is given here.

        Args:
            now: wall seconds.
        """
        if self.deadline is None or self.deadline == SCOPE:
            return None
        if isinstance(self.deadline, datetime):
            return self.deadline.timestamp() - now
        return float(_seconds_of(self.deadline))


def window_seconds(window: object) -> float | None:
    """An ``idempotency_window`` in seconds, or None: a day.

    Raises:
        InvalidOption: not a length of time, or not 1 second to 30 days.
    """
    if window is None:
        return None
    _check_length("idempotency_window", window)
    assert isinstance(window, int | float | timedelta)
    return check_window(float(_seconds_of(window)))


def check_priority(value: object) -> TaskPriority:
    """Only a `TaskPriority`: a bare number means opposite things in other queues."""
    if not isinstance(value, TaskPriority):
        raise InvalidOption(
            f"priority is a TaskPriority, such as TaskPriority.HIGH, not {_shown(value)}"
        )
    return value


def check_flag(option: str, value: object) -> bool:
    """Only True or False."""
    if not isinstance(value, bool):
        raise InvalidOption(f"{option} is True or False, not {_shown(value)}")
    return value


def reason_text(value: object) -> str:
    """Why a job is cancelled, as it can travel: too long a text is cut.

    Raises:
        InvalidOption: not a text.
    """
    if not isinstance(value, str):
        raise InvalidOption(f"reason is text, not {_shown(value)}")
    return value[:MAX_REASON_CHARACTERS].encode("utf-8", "backslashreplace").decode("utf-8")


def check_on_lost(value: object) -> None:
    """Only one of the two promises."""
    if not isinstance(value, str) or value not in ON_LOST:
        raise InvalidOption(f"on_lost is 'retry' or 'fail', not {_shown(value)}")


def _check_length(option: str, value: object) -> None:
    """A length of time: seconds or a timedelta, finite, not negative."""
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = value
    else:
        raise InvalidOption(f"{option} is seconds or a timedelta, not {_shown(value)}")
    if seconds < 0:
        raise InvalidOption(f"{option} cannot be negative: {_shown(value)}; 0 means at once")
    if not seconds <= MAX_SECONDS:
        raise InvalidOption(
            f"{option} is a number of seconds, at most {MAX_SECONDS}, not {_shown(value)}"
        )


def _check_moment(option: str, value: object) -> None:
    if not isinstance(value, datetime):
        raise InvalidOption(f"{option} is an aware datetime, not {_shown(value)}")
    if value.utcoffset() is None:
        raise InvalidOption(
            f"{option} has no time zone: {value.isoformat()}; "
            "make it aware, as datetime.now(timezone.utc) is"
        )


def _check_expires(value: object) -> None:
    if isinstance(value, datetime):
        _check_moment("expires", value)
    else:
        _check_length("expires", value)


def _check_address(value: object) -> None:
    if not isinstance(value, str) or not value:
        raise InvalidOption(f"callback is an address as text, not {_shown(value)}")


def _seconds_of(value: float | timedelta) -> float:
    return value.total_seconds() if isinstance(value, timedelta) else value


def _shown(value: object) -> str:
    """A value in a message: short, and never by running code of its own."""
    if type(value) in (str, float, bool, timedelta) or (
        type(value) is int and value.bit_length() <= 64
    ):
        return f"{value!r:.40}"
    return f"a {type(value).__name__}"


DEFAULT_CALL: Final = CallOptions()
"""Nothing asked for: shared, so that it can be told by identity."""
