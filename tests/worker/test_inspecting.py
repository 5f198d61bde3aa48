"""What the subworker answers about running jobs, and what it logs of blocked loops."""

from __future__ import annotations

import io
import json
import logging

import pytest
import trio

from fastworker.core.ids import id_text
from fastworker.logs import JsonLines, TextLines
from fastworker.wire.messages import Assign, Inspect, Inspected, LoopBlocked, Stacks, Started
from fastworker.worker import inspecting
from fastworker.worker.inspecting import log_blocked
from fastworker.worker.subworker import Subworker
from tests.worker.builders import assign, ids, settings
from tests.worker.fake_control_plane import FakeControlPlane
from tests.worker.fake_runner import FakeRunner, FakeRunners

PATIENCE_SECONDS = 20.0
BLOCKED = LoopBlocked("asyncio", 0.6, 17, ids([17]), "resize", "/app/tasks.py:3", "one\ntwo")


async def ask(runner_says: Stacks | None, question: Inspect) -> Inspected:
    """The answer to a question about jobs 1, which has been running, and 2, which has begun."""
    control_plane, runners = FakeControlPlane(), FakeRunners()
    subworker = Subworker(settings(), dial=control_plane.dial, open_runner=runners.open)
    with trio.fail_after(PATIENCE_SECONDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(subworker.run)
            runner: FakeRunner = await runners.next()
            session = await control_plane.next_session()
            await session.register()
            session.link.send(assign(1, 2, 3))
            await runner.told(Assign)
            runner.say(Started(ids([1]), [1], [5.0]))
            await session.next(Started)
            runner.started = frozenset([2])
            runner.says_of_jobs = runner_says
            session.link.send(question)
            answer = await session.next(Inspected)
            subworker.end(0)
    return answer


@pytest.mark.trio
async def test_what_a_runner_says_is_passed_on_with_its_number_and_process() -> None:
    answer = await ask(Stacks(0, [[1, "asyncio", 2, 5.0, "here"]]), Inspect(7, None, True))
    assert answer == Inspected(7, [[1, 0, 1001, "asyncio", 2, 5.0, "here"]])


@pytest.mark.trio
async def test_the_jobs_of_a_silent_runner_are_named_with_the_reason() -> None:
    answer = await ask(None, Inspect(7))
    assert [row[:6] for row in answer.rows] == [
        [1, 0, 1001, "unknown", 0, 5.0],
        [2, 0, 1001, "unknown", 0, None],
    ]
    assert all("interpreter of process 1001 has not answered" in str(r[6]) for r in answer.rows)


@pytest.mark.trio
async def test_runners_without_these_jobs_are_not_asked() -> None:
    assert await ask(None, Inspect(7, [99])) == Inspected(7, [])


@pytest.mark.trio
async def test_an_answer_that_would_be_too_large_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspecting, "MAX_CHARACTERS", 5)
    rows: list[list[object]] = [[1, "trio", 0, None, "four"], [2, "trio", 0, None, "four"]]
    answer = await ask(Stacks(0, rows), Inspect(7, None, True))
    assert [row[0] for row in answer.rows] == [1]
    assert not answer.complete


def logged(formatter: logging.Formatter, report: LoopBlocked) -> str:
    handler = logging.StreamHandler(stream := io.StringIO())
    handler.setFormatter(formatter)
    logger = logging.getLogger("fastworker.worker")
    logger.addHandler(handler)
    try:
        log_blocked(3, report)
    finally:
        logger.removeHandler(handler)
    return stream.getvalue()


def test_a_blocked_loop_is_one_record_with_the_stack_below() -> None:
    first, *stack = logged(TextLines(), BLOCKED).splitlines()
    assert (
        "WARNING fastworker.worker the event loop (asyncio) of runner 3 has been blocked for 0.6 s "
        f"by job {id_text(ids([17]))} (task resize) at /app/tasks.py:3; "
    ) in first
    assert stack == ["  | one", "  | two"]
    assert json.loads(logged(JsonLines(), BLOCKED))["stack"] == "one\ntwo"


def test_the_end_of_a_blockade_is_one_line() -> None:
    ended = LoopBlocked("trio", 10.04, ended=True)
    [line] = logged(TextLines(), ended).splitlines()
    assert line.endswith(
        "the event loop (trio) of runner 3 turns again: it was blocked for 10.0 s by code that "
        "belongs to no job that is known"
    )
