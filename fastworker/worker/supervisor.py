"""Keeps runners running: starts them, hears them out, notices their end, starts the next.

A runner's end is its exit, known from the kernel at once. What it wrote before that is read
first, so that no outcome that left it is counted as lost.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Final

import trio

from fastworker.errors import ProtocolError
from fastworker.wire.messages import Message, Outcome, RunnerFailed, RunnerReady, RunnerStop
from fastworker.worker.backoff import Backoff
from fastworker.worker.inspecting import log_blocked_loops
from fastworker.worker.lone_runners import LoneRunners
from fastworker.worker.out_of_memory import MemoryEvidence
from fastworker.worker.posts import Post, Posts
from fastworker.worker.recycling import Wear
from fastworker.worker.runner_handle import OpenRunner, RunnerGone, RunnerHandle
from fastworker.worker.settings import SubworkerSettings
from fastworker.worker.switchboard import Switchboard

LAST_WORDS_SECONDS: Final = 1.0
"""After its exit a runner's words are in a socket buffer; only a stray child keeps it open."""

EXIT_GRACE_SECONDS: Final = 1.0
"""From the end of its channel to the end of its process, which may have an orderly exit."""

IDLE_SECONDS: Final = 30.0
"""A runner for one job at a time is kept for so long without any: they rarely come alone."""

RETIRE_SECONDS: Final = 15.0
"""For an idle runner to close what its lifespan hooks have opened."""

SLOW_START_SECONDS: Final = 10.0
"""A runner that is not ready by then is a matter for people: nothing runs meanwhile."""

RESTART_SECONDS: Final = 1.0
"""The longest pause before a runner that died is followed by the next: within two seconds its jobs
must be on their way again, and a module that cannot be imported must not cost a processor."""

OLD_GOES_ON: Final = "the runners with the code before go on until the next change"

_log = logging.getLogger("fastworker.worker")


@dataclass(slots=True)
class _Words:
    """What is known of the words of one runner."""

    ended: trio.Event = field(default_factory=trio.Event)
    complete: bool = False
    """It closed its channel, and everything before that was taken."""
    began: trio.Event = field(default_factory=trio.Event)
    """It has said something: that it is ready, or why not."""


class Supervisor:
    """The runners of one subworker. `keep_runners` and `keep_lone_runners` are started once each.

    Args:
        on_failed: called with a runner's own words if it cannot run; before any was ready this
            means that none ever will.
    """

    def __init__(
        self,
        settings: SubworkerSettings,
        switchboard: Switchboard,
        open_runner: OpenRunner,
        *,
        random: Random,
        on_failed: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._switchboard = switchboard
        self._open_runner = open_runner
        self._random = random
        self._on_failed = on_failed
        self._open_posts, self._opened_posts = trio.open_memory_channel[Post](math.inf)
        self._posts = Posts(self._open_posts.send_nowait)
        self.alive: dict[int, RunnerHandle] = {}
        """Runners whose process lives, by number; those for jobs that run alone are negative."""
        self._wear: dict[int, Wear] = {}
        self._lone_numbers = itertools.count(-1, -1)
        self._memory = MemoryEvidence()
        self._killed = False
        self.ready = trio.Event()
        """A runner has been ready for the first time."""

    async def keep_runners(self) -> None:
        """Keep as many runners as the settings say, and those that follow them, for ever.

        Cancelling it kills the runners.
        """
        async with trio.open_nursery() as nursery:
            for _ in range(self._settings.processes):
                self._posts.open()
            async for post in self._opened_posts:
                nursery.start_soon(self._keep_post, post)

    async def _keep_post(self, post: Post) -> None:
        """Run one runner after another, until the post is replaced, or draining."""
        number = post.number
        backoff = Backoff(self._random, longest_seconds=RESTART_SECONDS)
        while True:
            started_at = trio.current_time()
            try:
                how = await self._run_one(number)
            except OSError as error:
                how = f"could not be started: {error}"
            if self._switchboard.draining:
                return
            if post.stands_by:
                _log.error(
                    "the changed code does not run: a runner ended (%s); %s", how, OLD_GOES_ON
                )
            if self._is_over(post):
                _log.info("runner %d ended (%s)", number, how)
                break
            stood = trio.current_time() - started_at
            wait = backoff.next_seconds(stood_seconds=stood)
            _log.warning("runner %d ended (%s); the next one starts in %.1f s", number, how, wait)
            await trio.sleep(wait)
            if self._is_over(post):
                break
        self._posts.close(post)

    def _is_over(self, post: Post) -> bool:
        return post.leaving or post.is_replaced or post.stands_by

    async def keep_lone_runners(self) -> None:
        """Start a runner whenever a job that runs alone needs one; for ever.

        Cancelling it kills those runners.
        """
        async with trio.open_nursery() as nursery:
            for group in self._switchboard.lone:
                nursery.start_soon(self._keep_group, group)

    async def _keep_group(self, group: LoneRunners) -> None:
        backoff = Backoff(self._random)
        async with trio.open_nursery() as nursery:
            while True:
                await group.wait_wanted()
                number = next(self._lone_numbers)
                group.begin(number)
                nursery.start_soon(self._keep_lone_runner, group, number, backoff)

    async def _keep_lone_runner(self, group: LoneRunners, number: int, backoff: Backoff) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._retire_when_idle, group, number)
                how = await self._run_one(number)
                nursery.cancel_scope.cancel()
        except OSError as error:
            how = f"could not be started: {error}"
        _log.info("a %s runner ended (%s)", group.name, how)
        if number in group.starting:
            await trio.sleep(backoff.next_seconds())
            group.give_up(number)

    async def _retire_when_idle(self, group: LoneRunners, number: int) -> None:
        """Two looks without a job in between: it ends 30 to 60 seconds after its last one."""
        uses = -1
        while uses != group.uses(number) or not group.retire(number):
            uses = group.uses(number)
            await trio.sleep(IDLE_SECONDS)
        runner = self.alive.get(number)
        if runner is not None:  # else it has died just now
            runner.send(RunnerStop())
            await trio.sleep(RETIRE_SECONDS)
            runner.kill()

    def kill_all(self) -> None:
        """End all runners now; what they ran is handed back as drained."""
        self._killed = True
        for runner in self.alive.values():
            runner.kill()

    async def _run_one(self, number: int) -> str:
        """From start to exit; returns how it ended, with the number of jobs it took along."""
        async with self._open_runner() as runner:
            self._begin(number, runner)
            try:
                how, heard_all = await self._hear_out(number, runner)
            finally:
                self._end(number)
            started = runner.started_tokens() if heard_all else None
        reason = "drain" if self._killed else "runner_died"
        if how == "signal 9" and not self._killed and self._memory.look():
            how += ", probably out of memory"
        lost = self._switchboard.runner_gone(number, reason=reason, detail=how, started=started)
        return f"pid {runner.pid}, {how}, jobs lost: {lost}"

    async def _hear_out(self, number: int, runner: RunnerHandle) -> tuple[str, bool]:
        """Take what it says until it has ended; returns how, and whether nothing was missed."""
        if self._killed:
            runner.kill()
        words = _Words()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read, number, runner, words)
            nursery.start_soon(_warn_of_slow_start, number, runner, words)
            nursery.start_soon(self._replace_when_worn, number)
            nursery.start_soon(log_blocked_loops, number, runner)
            how = await runner.wait_exit()
            with trio.move_on_after(LAST_WORDS_SECONDS):
                await words.ended.wait()
            nursery.cancel_scope.cancel()
        return how, words.complete

    async def _read(self, number: int, runner: RunnerHandle, words: _Words) -> None:
        try:
            while True:
                messages = await runner.receive()
                words.began.set()
                self._take(number, runner, messages)
        except RunnerGone:
            words.complete = True
        except ProtocolError as error:
            _log.error("runner %d (pid %d) is ended: %s", number, runner.pid, error)
        words.ended.set()
        # A process that has closed its channel but lives on cannot be told or asked anything.
        await trio.sleep(EXIT_GRACE_SECONDS)
        runner.kill()

    def _take(self, number: int, runner: RunnerHandle, messages: list[Message]) -> None:
        rest: list[Message] = []
        for message in messages:
            match message:
                case RunnerReady():
                    self._take_ready(number, runner, message)
                case RunnerFailed():
                    self._take_failed(number, message.message)
                case Outcome():
                    self._wear[number].jobs_ended(len(message.tokens))
                    rest.append(message)
                case _:
                    rest.append(message)
        if rest:
            self._switchboard.from_runner(number, rest)

    def _take_ready(self, number: int, runner: RunnerHandle, message: RunnerReady) -> None:
        post = self._posts.get(number)
        if post is None:
            self._switchboard.runner_ready(number, runner, message)
        else:
            is_reload = post.stands_by
            change = self._posts.note_ready(post, message)
            leave = [each.number for each in change.leave]
            for each in change.enter:
                if each.runner is not None and each.ready is not None:
                    self._switchboard.runner_ready(
                        each.number, each.runner, each.ready, replaces=leave
                    )
            if is_reload and change.enter:
                self._retire_lone_runners()
        self.ready.set()

    def _take_failed(self, number: int, sentence: str) -> None:
        post = self._posts.get(number)
        if post is not None and post.stands_by:
            _log.error("the changed code does not run: %s; %s", sentence, OLD_GOES_ON)
            self._posts.give_up_standing_by()
        elif post is None or not post.leaving:
            self._on_failed(sentence)

    # --- replacing -----------------------------------------------------------------------

    def reload(self) -> None:
        """The code has changed: have all runners followed by new ones, all at the same time.

        If the new code does not run, the old runners go on. Called again while new runners are
        starting, it starts others in their place.
        """
        if not self._switchboard.draining:
            self._posts.replace_all()

    def _retire_lone_runners(self) -> None:
        """Those with the code before take no more jobs; the next ones start when jobs need them."""
        for number in self.alive:
            if self._posts.get(number) is None:
                self._switchboard.retire(number)

    def _begin(self, number: int, runner: RunnerHandle) -> None:
        self.alive[number] = runner
        self._wear[number] = Wear(self._settings, runner.pid)
        post = self._posts.get(number)
        if post is not None:
            post.begin(runner)
            if post.leaving:
                runner.kill()

    def _end(self, number: int) -> None:
        del self.alive[number], self._wear[number]
        post = self._posts.get(number)
        if post is not None:
            post.end()

    async def _replace_when_worn(self, number: int) -> None:
        why = await self._wear[number].wait_worn()
        pid = self.alive[number].pid
        post = self._posts.get(number)
        if self._switchboard.draining:
            return
        if post is None:
            # It is not shared: the next one starts when a job needs it.
            self._switchboard.retire(number)
        elif self._posts.replace(post):
            _log.info("runner %d (pid %d) is being replaced: %s", number, pid, why)


async def _warn_of_slow_start(number: int, runner: RunnerHandle, words: _Words) -> None:
    with trio.move_on_after(SLOW_START_SECONDS):
        await words.began.wait()
        return
    _log.warning(
        "runner %d (pid %d) is not ready after %g s: its task modules are still being imported, "
        "or its lifespan hooks opened; kill -USR1 %d has it write where it is",
        *(number, runner.pid, SLOW_START_SECONDS, runner.pid),
    )
