"""Cancelling, as a client asks for it."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from fastworker.client.base import ClientBase
from fastworker.client.handles import CancelOutcome, CancelResult
from fastworker.core.ids import id_bytes
from fastworker.core.lengths import optional_seconds
from fastworker.errors import ProtocolError
from fastworker.options import MAX_SECONDS, reason_text
from fastworker.wire.messages import Cancel, Cancelled

LONGEST_USUAL_GRACE_SECONDS: Final = 30.0
"""How much longer the answer to a cancel may take that leaves the grace to the job's options."""


class CancelCalls(ClientBase):
    """The part of `Client` that cancels jobs."""

    async def cancel(
        self, task_id: str, *, reason: str = "", grace: float | timedelta | None = None
    ) -> CancelResult:
        """Cancel a job and those it has started; answers once it is known what became of it.

        One that has not started never will. Code that runs is told to stop, and the answer comes
        when it has ended, or has not within its grace. It is never retried. A second call asks
        again; a job that has ended answers ``finished_first``. If this call is cancelled, the job
        may be cancelled or not.

        Args:
            reason: for people; the job's result and the worker's log have it, at most 1,000
                characters of it.
            grace: seconds or a timedelta that running code has for its clean-up; None: as it was
                submitted, or as its task says, or 5 seconds.

        Raises:
            InvalidOption: no id of a job, no length of time, or a reason that is no text.
            ControlPlaneUnavailable: nobody answered within the grace and ``submit_timeout``.
        """
        job_id, said = id_bytes(task_id), reason_text(reason)
        seconds = optional_seconds(grace, "grace", most=MAX_SECONDS)
        usual = LONGEST_USUAL_GRACE_SECONDS if seconds is None else seconds
        answer = await self._usable().ask(
            lambda number: Cancel(number, job_id, said, seconds),
            timeout_seconds=self._submit_seconds + usual,
        )
        if not isinstance(answer, Cancelled) or len(answer.outcomes) != 1:
            raise ProtocolError("the answer to Cancel is not one outcome")
        stack = answer.stacks[0] if answer.stacks else None
        return CancelResult(task_id, CancelOutcome(answer.outcomes[0]), stack)
