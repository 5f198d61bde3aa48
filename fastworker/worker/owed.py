"""What the control plane is to hear of the jobs here, and what it may not have recorded yet.

Outcomes, leases given up, and what jobs say of themselves are sent while there is a link, kept
until the control plane has answered, and sent again over every new link. Which jobs these are is
decided by the switchboard.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import trio

from fastworker.transport.link import Link
from fastworker.wire.messages import Message, OutcomeAck, Withdrawn
from fastworker.worker.columns import handback_of
from fastworker.worker.handbacks import UnconfirmedHandbacks
from fastworker.worker.held_job import HeldJob
from fastworker.worker.outcomes import EndedJob, UnacknowledgedOutcomes
from fastworker.worker.reports import Report, UnrecordedReports

GATHER_SECONDS: Final = 0.0005
"""Outcomes that follow others so soon wait for the next turn of the loop, so that those of several
runners leave as one frame. Those of an idle system never wait."""

_log = logging.getLogger("fastworker.worker")


class Owed:
    """The subworker's side of the conversation with the control plane; one for each subworker.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._link: Link | None = None
        self._outcomes = UnacknowledgedOutcomes()
        self._handbacks = UnconfirmedHandbacks()
        self._reports = UnrecordedReports()
        self._outcome_waits = trio.Event()
        self._outcomes_sent_at = -math.inf
        self._settled = trio.Event()

    # --- the link ----------------------------------------------------------------------

    def link_up(self, link: Link) -> None:
        """There is a control plane to talk to: say again what it may not have recorded."""
        self._link = link
        for report in self._reports.messages():
            link.send(report)
        for handback in self._handbacks.messages:
            link.send(handback)
        self._outcomes.send_again()
        self._outcome_waits.set()

    def link_down(self) -> None:
        """The connection is lost."""
        self._link = None

    def tell(self, message: Message) -> None:
        """Send a message that need not outlive the connection."""
        if self._link is not None:
            self._link.send(message)

    async def send_outcomes_forever(self) -> None:
        """Send the outcomes that have gathered, without lingering."""
        while True:
            await self._outcome_waits.wait()
            self._outcome_waits = trio.Event()
            self._send_outcomes(self._clock())

    def _send_outcomes(self, now: float) -> None:
        if self._link is not None:
            self._outcomes_sent_at = now
            with self._link.cork:
                for message in self._outcomes.next_messages():
                    self._link.send(message)

    # --- what is owed ------------------------------------------------------------------

    def outcomes(self, rows: Iterable[EndedJob]) -> None:
        """These attempts have ended."""
        for row in rows:
            self._outcomes.add(row)
        now = self._clock()
        if now - self._outcomes_sent_at < GATHER_SECONDS:
            self._outcome_waits.set()
        else:
            self._send_outcomes(now)

    def give_back(
        self, jobs: Sequence[HeldJob], reason: str, *, detail: str = "", started: bytes = b""
    ) -> None:
        """These leases are given up; ``started`` as in `Handback`, not given: none of them had."""
        if jobs:
            pairs = [(job.id, job.token) for job in jobs]
            handback = handback_of(pairs, reason, detail=detail, started=started)
            self.tell(handback)
            self._handbacks.add(handback)

    def withdrawn(self, rows: Sequence[tuple[bytes, int, bool]]) -> None:
        """What became of jobs that were asked for: id, token, and whether it is given up."""
        if not rows:
            return
        ids, tokens, taken = zip(*rows, strict=True)
        self.tell(Withdrawn(ids=b"".join(ids), tokens=tokens, taken=bytes(taken)))
        given = [(job_id, token) for job_id, token, was_taken in rows if was_taken]
        if given:
            # The same in words that can be repeated, should this connection not last.
            self._handbacks.add(handback_of(given, "drain"))

    def report(self, report: Report, *, is_held: Callable[[int], bool]) -> None:
        """Running jobs say something of themselves."""
        self._reports.add(report, is_held=is_held)
        self.tell(report)

    # --- what is no longer owed --------------------------------------------------------

    def acknowledge(self, message: OutcomeAck) -> None:
        """The control plane has recorded these, or refused them for good."""
        self._outcomes.acknowledge(message.tokens)
        self._handbacks.acknowledge(message.tokens)
        self._outcomes.acknowledge(message.stale)
        self._reports.forget([*message.tokens, *message.stale])
        if message.stale:
            _log.info("%d late outcomes were refused: their leases had ended", len(message.stale))
        self._note_settled()

    def drop_stale(self, tokens: Iterable[int]) -> None:
        """The leases of these are gone: nobody waits for what became of them."""
        self._outcomes.acknowledge(tokens)
        self._reports.forget(tokens)
        self._note_settled()

    def claims(self) -> tuple[bytes, list[int]]:
        """Ids and tokens of all outcomes and leases given up."""
        ids, tokens = self._handbacks.claims()
        rows = self._outcomes.rows
        return ids + b"".join([row.id for row in rows]), tokens + [row.token for row in rows]

    async def wait_settled(self) -> None:
        """Until the control plane has recorded every outcome and everything given up."""
        while self._outcomes or self._handbacks:
            await self._settled.wait()

    def _note_settled(self) -> None:
        self._settled.set()
        self._settled = trio.Event()
