"""Puts one runner together: its loops and threads, the tasks it knows, and the service."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from fastworker.core.records import ASYNC_POOL
from fastworker.runner.ambient import Relays, serve_clients
from fastworker.runner.assignment import Route
from fastworker.runner.asyncio_loop import AsyncioThread, run_asyncio
from fastworker.runner.blocked import LoopWatch
from fastworker.runner.board import Board, Cells
from fastworker.runner.channel import Channel
from fastworker.runner.reactor import Finish, Reactor, Start, Wired
from fastworker.runner.service import RunnerService
from fastworker.runner.stopping import limit_row, limits_of
from fastworker.runner.threads import ThreadCrew
from fastworker.runner.trio_loop import TrioThread, run_trio
from fastworker.runner.watchdog import Watchdog
from fastworker.tasks import Runtime, TaskDefinition
from fastworker.tasks.lifespans import lifespans
from fastworker.wire.messages import RunnerReady


@dataclass(frozen=True, slots=True)
class RunnerLimits:
    """Jobs at once."""

    concurrency: int
    threads: int

    @property
    def slots(self) -> tuple[int, int, int]:
        """By pool: in event loops, in threads, alone in this process."""
        return (self.concurrency, self.threads, 1)


class Routes:
    """From a task's name to what runs it, found once per task."""

    def __init__(
        self,
        definitions: Mapping[str, TaskDefinition],
        default: Runtime,
        *,
        board: Cells | None = None,
        random: Random | None = None,
    ) -> None:
        """Args:
        board: where jobs note their tokens when they start.
        random: for the jitter of retries.
        """
        self._definitions = definitions
        self.default: Runtime = default
        """What runs async tasks that do not say."""
        self._board = board if board is not None else [0]
        self._random = random if random is not None else Random()
        self._starts: dict[Runtime, Start] = {}
        self._start_in_thread: Start | None = None
        self._found: dict[tuple[str, int], Route] = {}

    @property
    def other_runtime_needed(self) -> Runtime | None:
        """The runtime that is not the default, if a task asks for it."""
        for definition in self._definitions.values():
            runtime = definition.runtime
            if definition.is_async and runtime not in (None, self.default):
                return runtime
        return None

    def rows(self) -> list[list[object]]:
        """The tasks as `RunnerReady` names them."""
        return [[each.name, each.pool, each.signature] for each in self._definitions.values()]

    def limits(self) -> dict[str, object] | None:
        """What stands in the way of their jobs, as `RunnerReady` names it."""
        rows = {each.name: limit_row(each) for each in self._definitions.values()}
        return {name: row for name, row in rows.items() if row is not None} or None

    def use(self, starts: Mapping[Runtime, Start], start_in_thread: Start) -> None:
        """What starts attempts, by runtime, and in threads. Before the first `find`."""
        self._starts.update(starts)
        self._start_in_thread = start_in_thread

    def find(self, task: str, pool: int) -> Route:
        """The route of a task. One that is not known here keeps the pool it was sent for."""
        route = self._found.get((task, pool))
        if route is None:
            route = self._found[task, pool] = self._new_route(task, pool)
        return route

    def _new_route(self, task: str, pool: int) -> Route:
        definition = self._definitions.get(task)
        runtime = self.default
        if definition is not None:
            pool = definition.pool
            runtime = definition.runtime or self.default
        in_loop = pool == ASYNC_POOL if definition is None else definition.is_async
        if in_loop or self._start_in_thread is None:
            start = self._starts[runtime]
        else:
            start = self._start_in_thread
        route = Route(task, definition, pool, start, self._random, self._board, in_loop=in_loop)
        if definition is not None:
            route.stops = definition.on_lease_lost == "cancel"
            route.limits = limits_of(definition.timeout)
            route.models = definition.models
        return route


def withheld_tasks(
    definitions: Iterable[TaskDefinition], tags: frozenset[str]
) -> dict[str, object]:
    """The tasks that are not offered here, each with a tag it has beyond these."""
    return {each.name: min(each.tags - tags) for each in definitions if each.tags - tags}


def run_service(
    channel: Channel,
    definitions: Sequence[TaskDefinition],
    *,
    tags: frozenset[str] = frozenset(),
    default_runtime: Runtime,
    limits: RunnerLimits,
    pid: int,
    board: Board,
    watchdog: Watchdog,
) -> str | None:
    """Serve the channel from this thread until `RunnerStop` and the end of all that runs.

    Args:
        tags: tasks with any other tag are not offered.
        board: shared with the subworker, see `fastworker.runner.board`.
        watchdog: looks after the loops of this runner.

    Returns:
        A sentence if it cannot run; it has said nothing then.
    """
    withheld = withheld_tasks(definitions, tags)
    offered = {each.name: each for each in definitions if each.name not in withheld}
    routes = Routes(offered, default_runtime, board=board.cells)

    def wire_up(reactor: Reactor, new_starter: Callable[[Finish], Start]) -> Wired:
        service = RunnerService(
            channel,
            reactor,
            slots=limits.slots,
            find_route=routes.find,
            on_relay=lambda message: relays.take(message),
            board=board,
            attention=watchdog.attention,
        )
        relays = Relays(service)
        serve_clients(service, relays)
        crew = ThreadCrew(limit=limits.threads, finish=service.finish_from_thread)
        starts = {default_runtime: new_starter(service.finish)}
        loops = [LoopWatch(default_runtime, reactor.post)]
        own_hooks = lifespans.of(default_runtime, default=default_runtime)
        other: Runtime = "asyncio" if default_runtime == "trio" else "trio"
        hooks = lifespans.of(other, default=default_runtime)
        thread: TrioThread | AsyncioThread | None = None
        if hooks or routes.other_runtime_needed:
            new_thread = TrioThread if other == "trio" else AsyncioThread
            thread = new_thread(service.finish_from_thread, hooks)
            starts[other] = thread.start
            loops.append(LoopWatch(other, thread.post))
        routes.use(starts, crew.start)

        def announce() -> None:
            watchdog.attend(service.running, loops)
            service.tell(RunnerReady(pid, routes.rows(), withheld or None, routes.limits()))

        def leave() -> None:
            if thread is not None:
                thread.stop()

        failure = None if thread is None else thread.failure
        return Wired(own_hooks, announce, service.on_readable, leave, failure)

    return (run_trio if default_runtime == "trio" else run_asyncio)(channel, wire_up)
