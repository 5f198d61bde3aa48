"""Calls about jobs that were submitted before: results, questions, dead letters, queues."""

from __future__ import annotations

from typing import Any

from fastworker import CancelOutcome, TaskHandle, TaskStatus
from tests.cancellation.cases_submitting import GROUP, HOUR, mark
from tests.cancellation.sample_tasks import fail, fail_once, note, run, tell
from tests.cancellation.stage import PATIENCE_SECONDS, Case, Stage

QUEUE = "cancelling"


async def job(stage: Stage) -> TaskHandle[int]:
    return await stage.client.submit(note, stage.mark())


async def jobs(stage: Stage) -> list[TaskHandle[int]]:
    return await stage.client.submit_many(note, [(mark,) for mark in stage.marks(GROUP)])


async def job_for_later(stage: Stage) -> TaskHandle[int]:
    handle = await stage.client.submit(note, stage.mark(), countdown=HOUR)
    stage.for_later.append(handle.id)
    return handle


async def job_that_runs(stage: Stage) -> TaskHandle[None]:
    return await stage.client.submit(run, stage.mark())


async def dead_letter(stage: Stage) -> str:
    return await failed(stage, await stage.client.submit(fail, stage.mark()))


async def letter_to_replay(stage: Stage) -> str:
    """Its job succeeds when it is run again."""
    return await failed(stage, await stage.client.submit(fail_once, stage.mark(times=2)))


async def failed(stage: Stage, handle: TaskHandle[Any]) -> str:
    assert (await handle.wait(PATIENCE_SECONDS)).status is TaskStatus.FAILURE
    return handle.id


async def letters_to_replay(stage: Stage) -> list[str]:
    return [await letter_to_replay(stage) for _ in range(2)]


async def letters(stage: Stage) -> list[str]:
    return [await dead_letter(stage) for _ in range(2)]


async def paused(stage: Stage) -> None:
    await stage.client.pause(QUEUE)


async def flowing(stage: Stage) -> None:
    await stage.client.resume(QUEUE)


# --- what is right -----------------------------------------------------------------------------


async def is_one(stage: Stage, prepared: object, answer: int) -> None:
    assert answer == 1


async def are_ones(stage: Stage, prepared: object, answer: list[int]) -> None:
    assert answer == [1] * GROUP


async def has_succeeded(stage: Stage, prepared: object, answer: Any) -> None:
    assert (answer.status, answer.result) == (TaskStatus.SUCCESS, 1)


async def is_scheduled(stage: Stage, handle: TaskHandle[int], answer: Any) -> None:
    assert getattr(answer, "status", answer) is TaskStatus.SCHEDULED


async def does_not_run(stage: Stage, handle: TaskHandle[int], answer: object) -> None:
    assert answer is None


async def will_not_run(stage: Stage, handle: TaskHandle[Any], answer: Any) -> None:
    """The cancelled call may have reached the control plane, too."""
    assert answer.outcome in (CancelOutcome.CANCELLED, CancelOutcome.FINISHED_FIRST)
    assert (await handle.wait(PATIENCE_SECONDS)).status is TaskStatus.CANCELLED


async def is_about_us(stage: Stage, prepared: object, answer: Any) -> None:
    """What it says exactly is tested elsewhere: it is an answer, and to this question."""
    assert answer


async def is_a_list(stage: Stage, prepared: object, answer: Any) -> None:
    assert type(answer) is list


async def names_it(stage: Stage, task_id: str, answer: Any) -> None:
    assert task_id in [letter.task_id for letter in answer]


async def is_that_letter(stage: Stage, task_id: str, answer: Any) -> None:
    assert (answer.task_id, len(answer.history)) == (task_id, 1)


async def is_one_attempt(stage: Stage, task_id: str, answer: Any) -> None:
    assert [attempt.outcome for attempt in answer] == ["failure"]


async def is_replayed_once(stage: Stage, task_id: str, handle: TaskHandle[Any]) -> None:
    letter = await stage.client.dead_letter(task_id)
    assert letter.replayed_by == handle.id
    assert await handle.result(PATIENCE_SECONDS) == 2


async def are_no_dead_letters(stage: Stage, ids: list[str], answer: object) -> None:
    left = {letter.task_id for letter in await stage.client.dead(limit=500)}
    assert left.isdisjoint(ids)


async def is_no_dead_letter(stage: Stage, task_id: str, answer: object) -> None:
    await are_no_dead_letters(stage, [task_id], answer)


async def is_paused(stage: Stage, prepared: object, answer: object) -> None:
    assert [state.queue for state in await stage.client.queues() if state.paused] == [QUEUE]


async def is_not_paused(stage: Stage, prepared: object, answer: object) -> None:
    assert not [state for state in await stage.client.queues() if state.paused]


async def replay_letters(stage: Stage, ids: list[str]) -> int:
    return await stage.client.replay_dead("cancelling-fail-once")


async def discard_letters(stage: Stage, ids: list[str]) -> int:
    return await stage.client.discard_dead("cancelling-fail")


async def talker(stage: Stage) -> TaskHandle[int]:
    return await stage.client.submit(tell, stage.mark())


async def read_logs(stage: Stage, handle: TaskHandle[int]) -> list[str]:
    return [line.text async for line in handle.logs(follow=False)]


async def read_progress(stage: Stage, handle: TaskHandle[int]) -> list[float]:
    return [one.done async for one in handle.progress()]


async def is_what_it_said(stage: Stage, prepared: object, answer: list[Any]) -> None:
    assert answer in ([], [1])


# --- callbacks ---------------------------------------------------------------------------------


async def callback(stage: Stage) -> str:
    """Of a job whose callback comes to the client itself; waited for in `take_callback`."""
    stage.client.callbacks()
    address = stage.client.callback_address
    return await stage.client.delay_with_callback(note, address, stage.mark())


async def take_callback(stage: Stage, task_id: str) -> str:
    async for one in stage.client.callbacks():
        one.acknowledge()
        if one.task_id == task_id:
            break
    return task_id


CASES = [
    Case(("TaskHandle.result",), lambda s, h: h.result(PATIENCE_SECONDS), job, is_one, again=True),
    Case(("TaskHandle.wait",), lambda s, h: h.wait(), job, has_succeeded, again=True),
    Case(("TaskHandle.status",), lambda s, h: h.status(), job_for_later, is_scheduled, again=True),
    Case(("TaskHandle.cancel",), lambda s, h: h.cancel(), job_for_later, will_not_run, again=True),
    Case(
        ("TaskHandle.cancel",),
        lambda s, h: h.cancel("swept", grace=1),
        job_that_runs,
        will_not_run,
        again=True,
    ),
    Case(("Client.results",), lambda s, hs: s.client.results(hs), jobs, are_ones, again=True),
    Case(("Client.result",), lambda s, h: s.client.result(h.id), job, is_one, again=True),
    Case(
        ("Client.get_task_result",),
        lambda s, h: s.client.get_task_result(h.id),
        job_for_later,
        is_scheduled,
        again=True,
    ),
    Case(
        ("Client.cancel",),
        lambda s, h: s.client.cancel(h.id),
        job_for_later,
        will_not_run,
        again=True,
    ),
    Case(
        ("TaskHandle.progress", "GroupHandle.progress", "Client.progress"),
        read_progress,
        talker,
        is_what_it_said,
        again=True,
    ),
    Case(
        ("TaskHandle.logs", "GroupHandle.logs", "Client.logs"),
        read_logs,
        talker,
        is_what_it_said,
        again=True,
    ),
    Case(("Client.workers",), lambda s, _: s.client.workers(), check=is_about_us),
    Case(("Client.tasks",), lambda s, _: s.client.tasks(), check=is_about_us),
    Case(("Client.status",), lambda s, _: s.client.status(), check=is_about_us),
    Case(("Client.jobs",), lambda s, _: s.client.jobs(limit=5), job, is_about_us),
    Case(("Client.dead",), lambda s, _: s.client.dead(), dead_letter, names_it, again=True),
    Case(
        ("Client.dead_letter",),
        lambda s, i: s.client.dead_letter(i),
        dead_letter,
        is_that_letter,
        again=True,
    ),
    Case(
        ("Client.attempts",),
        lambda s, i: s.client.attempts(i),
        dead_letter,
        is_one_attempt,
        again=True,
    ),
    Case(
        ("Client.replay",),
        lambda s, i: s.client.replay(i),
        letter_to_replay,
        is_replayed_once,
        again=True,
    ),
    Case(("Client.replay_dead",), replay_letters, letters_to_replay, are_no_dead_letters),
    Case(
        ("Client.discard",),
        lambda s, i: s.client.discard(i),
        dead_letter,
        is_no_dead_letter,
        again=True,
    ),
    Case(("Client.discard_dead",), discard_letters, letters, are_no_dead_letters),
    Case(("Client.stack",), lambda s, h: s.client.stack(h.id), job_for_later, does_not_run),
    Case(("Client.tree",), lambda s, _: s.client.tree(), check=is_about_us),
    Case(("Client.queues",), lambda s, _: s.client.queues(), paused, is_about_us),
    Case(("Client.tenants",), lambda s, _: s.client.tenants(), check=is_about_us),
    Case(("Client.pause",), lambda s, _: s.client.pause(QUEUE), flowing, is_paused, again=True),
    Case(
        ("Client.resume",), lambda s, _: s.client.resume(QUEUE), paused, is_not_paused, again=True
    ),
    Case(
        ("Client.callback_deliveries",),
        lambda s, _: s.client.callback_deliveries(),
        check=is_a_list,
    ),
    Case(("client.CallbackIterator.__anext__",), take_callback, callback),
    Case(
        ("testing.Cluster.wait_idle", "testing.Runtime.wait_idle"),
        lambda s, _: s.cluster.wait_idle(),
        job,
    ),
    Case(
        ("AsyncTask.__call__",),
        lambda s, mark: note(mark),
        mark,
        is_one,
    ),
]
