"""What Trio's own tests demand of a nursery, demanded of a task group.

Each test names the test of ``trio/_core/_tests/test_run.py`` that it is drawn from and the rule
that it holds. Jobs stand in for child tasks; the whole system is in the loop of the test.
"""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import trio
from trio.testing import MockClock as Clock

from fastworker import CallerError, Client, JobCancelled, TaskStatus
from fastworker.testing import open_cluster
from tests.cancellation.stage import books_of
from tests.client.sample_tasks import (
    cleaning,
    diary,
    echo,
    fail,
    fail_cleaning,
    fail_with,
    nested,
    sleep,
    stubborn,
)

pytestmark = pytest.mark.trio


@pytest.fixture
async def client(autojump_clock: Clock) -> AsyncIterator[Client]:
    """Of a cluster in the loop of the test; at the end no job is left, and nothing is watched."""
    async with open_cluster() as cluster, Client() as client:
        await client.wait_connected(5)
        yield client
        started = trio.current_time()
        await cluster.wait_idle()
        assert trio.current_time() - started < 1, "the group's end left something running"
        await client.status()
        assert books_of(client) == (True, 0, [])


def errors_of(group: BaseExceptionGroup[BaseException]) -> list[str]:
    return sorted(f"{type(one).__name__}: {one}" for one in group.exceptions)


async def test_the_block_ends_when_all_children_have_ended(
    client: Client, autojump_clock: Clock
) -> None:
    """test_basic_interleave: children run side by side, and the block waits for all."""
    started = trio.current_time()
    async with client.task_group() as tg:
        first = tg.start_soon(sleep, "a", 10)
        second = tg.start_soon(sleep, "b", 20)
    assert trio.current_time() - started == pytest.approx(20, abs=1)
    assert (first.value, second.value) == ("a", "b")
    assert sorted(diary) == ["a", "a ended", "b", "b ended"]


async def test_an_empty_group_ends_at_once(client: Client, autojump_clock: Clock) -> None:
    """test_nursery_main_block: nothing to wait for is nothing to wait for."""
    async with client.task_group():
        pass
    async with client.task_group() as tg:
        assert tg.start_many(echo, []) == []


async def test_starting_outside_the_block_is_an_error(
    client: Client, autojump_clock: Clock
) -> None:
    """test_nursery_warn_use_async_with: a nursery that was not entered starts nothing."""
    group = client.task_group()
    with pytest.raises(CallerError, match="has not begun"):
        group.start_soon(echo, 1)
    async with group:
        pass
    with pytest.raises(CallerError, match="entered once"):
        await group.__aenter__()


async def test_an_error_of_the_block_comes_in_a_group(
    client: Client, autojump_clock: Clock
) -> None:
    """test_nursery_main_block_error_basic."""
    error = ValueError("whoops")
    with pytest.raises(ExceptionGroup) as caught:
        async with client.task_group():
            raise error
    assert caught.value.exceptions == (error,)


async def test_an_error_of_a_child_comes_in_a_group(client: Client, autojump_clock: Clock) -> None:
    """test_child_crash_basic."""
    with pytest.raises(ExceptionGroup) as caught:
        async with client.task_group() as tg:
            tg.start_soon(fail, "uh oh")
    assert errors_of(caught.value) == ["ValueError: uh oh"]


async def test_except_star_tells_types_apart(client: Client, autojump_clock: Clock) -> None:
    """test_nursery_explicit_exception: builtin and registered types are themselves."""
    seen = []
    try:
        async with client.task_group() as tg:
            tg.start_soon(fail_with, "key")
    except* KeyError:
        seen.append("key")
    try:
        async with client.task_group() as tg:
            tg.start_soon(fail_with, "paint")
    except* ValueError:
        seen.append("not this")
    except* Exception as group:
        seen.append(type(group.exceptions[0]).__name__)
    try:
        async with client.task_group() as tg:
            tg.start_soon(fail_with, "unknown")
    except* Exception as group:
        seen.append(type(group.exceptions[0]).__name__)
    assert seen == ["key", "OutOfPaint", "TaskError"]


async def test_a_crash_cancels_the_siblings(client: Client, autojump_clock: Clock) -> None:
    """test_task_crash_propagation: a child that runs for ever is cancelled; no error."""
    with pytest.raises(ExceptionGroup) as caught:
        async with client.task_group() as tg:
            loop = tg.start_soon(sleep, "looper")
            tg.start_soon(fail, "argh", 1)
    assert errors_of(caught.value) == ["ValueError: argh"]
    assert diary == ["looper", "looper cancelled"]
    assert (await loop.wait()).status is TaskStatus.CANCELLED


async def test_a_crash_wakes_the_block(client: Client, autojump_clock: Clock) -> None:
    """test_child_crash_wakes_parent: the block is cancelled too."""
    with pytest.raises(ExceptionGroup) as caught:
        async with client.task_group() as tg:
            tg.start_soon(fail, "wake up")
            await trio.sleep_forever()
    assert errors_of(caught.value) == ["ValueError: wake up"]


async def test_block_and_child_may_both_fail(client: Client, autojump_clock: Clock) -> None:
    """test_main_and_task_both_crash: both errors arrive."""
    with pytest.raises(ExceptionGroup) as caught:
        async with client.task_group() as tg:
            tg.start_soon(fail_cleaning)
            await trio.sleep(1)
            raise ValueError("the block")
    assert errors_of(caught.value) == ["RuntimeError: while cleaning up", "ValueError: the block"]


async def test_two_children_may_fail(client: Client, autojump_clock: Clock) -> None:
    """test_two_child_crashes: the second error arrives too."""
    with pytest.raises(ExceptionGroup) as caught:
        async with client.task_group() as tg:
            tg.start_soon(fail_cleaning)
            tg.start_soon(fail, "first", 1)
    assert errors_of(caught.value) == ["RuntimeError: while cleaning up", "ValueError: first"]


async def test_an_error_awaited_in_the_block_is_one_error(
    client: Client, autojump_clock: Clock
) -> None:
    """Not Trio's: where a result is waited for, its failure is still one failure."""
    with pytest.raises(ExceptionGroup) as caught:
        async with client.task_group() as tg:
            await tg.start_soon(fail, "once").result()
    assert errors_of(caught.value) == ["ValueError: once"]


async def test_cancel_ends_the_block_without_error(client: Client, autojump_clock: Clock) -> None:
    """test_cancel_edge_cases: cancelling twice is cancelling once, and the scope keeps it."""
    async with client.task_group() as tg:
        job = tg.start_soon(sleep, "job")
        await trio.sleep(1)
        tg.cancel("enough")
        tg.cancel("enough again")
        assert tg.cancel_called
        await trio.sleep_forever()
        raise AssertionError("unreachable")
    assert diary == ["job", "job cancelled"]
    assert "enough" in str((await job.wait()).reason)


async def test_what_is_started_in_a_cancelled_group_never_runs(
    client: Client, autojump_clock: Clock
) -> None:
    """test_precancelled_task."""
    async with client.task_group() as tg:
        tg.cancel()
        job = tg.start_soon(sleep, "late")
        many = tg.start_many(echo, [(1,), (2,)])
    assert diary == []
    for handle in [job, *many]:
        with pytest.raises(JobCancelled, match="was not submitted"):
            print(handle.value)


async def test_what_is_started_and_cancelled_at_once_never_runs(
    client: Client, autojump_clock: Clock
) -> None:
    """test_cancel_edge_cases: a cancellation before the first checkpoint."""
    async with client.task_group() as tg:
        tg.start_soon(sleep, "never")
        tg.cancel()
    assert diary == []


async def test_a_scope_around_the_block_cancels_the_children(
    client: Client, autojump_clock: Clock
) -> None:
    """test_basic_timeout, test_cancel_inheritance: the scope takes its cancellation back."""
    with trio.move_on_after(5) as scope:
        async with client.task_group() as tg:
            tg.start_soon(sleep, "a")
            tg.start_soon(cleaning, "b", 1)
    assert scope.cancelled_caught
    assert trio.current_time() < 100
    assert sorted(diary) == ["a", "a cancelled", "b", "b cancelled", "b cleaned"]


async def test_a_cancellation_in_the_block_cancels_the_children(
    client: Client, autojump_clock: Clock
) -> None:
    """test_cancel_inheritance: the block's own wait is interrupted, then the children."""
    with trio.move_on_after(5) as scope:
        async with client.task_group() as tg:
            tg.start_soon(sleep, "a")
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert diary == ["a", "a cancelled"]


async def test_children_belong_to_the_group_not_to_who_starts_them(
    client: Client, autojump_clock: Clock
) -> None:
    """test_cancel_inheritance: the starter's scope is nothing to the child."""
    async with client.task_group() as tg:
        with trio.CancelScope() as scope:
            job = tg.start_soon(sleep, "child", 10)
            await trio.sleep(1)
            scope.cancel()
            await trio.sleep_forever()
    assert job.value == "child"


async def test_a_shielded_block_goes_on_until_its_shield_ends(
    client: Client, autojump_clock: Clock
) -> None:
    """test_cancel_shielding: the block is cancelled at its next checkpoint without a shield."""
    with trio.move_on_after(5) as scope:
        async with client.task_group() as tg:
            with trio.CancelScope(shield=True):
                job = tg.start_soon(sleep, "inside", 3)
                await trio.sleep(20)
            assert job.value == "inside"
            await trio.sleep_forever()
    assert scope.cancelled_caught


async def test_a_child_that_does_not_stop_is_waited_for(
    client: Client, autojump_clock: Clock
) -> None:
    """test_failed_abort, test_slow_abort_basic: no child is left behind."""
    started = trio.current_time()
    with trio.move_on_after(1) as scope:
        async with client.task_group(grace=1) as tg:
            tg.start_soon(stubborn, "mule", 60)
    assert scope.cancelled_caught is True
    assert trio.current_time() - started == pytest.approx(60, abs=2)
    assert diary == ["mule", "mule ended"]


async def test_errors_win_over_a_cancellation_from_outside(
    client: Client, autojump_clock: Clock
) -> None:
    """test_cancel_scope_exceptiongroup_filtering: the scope takes its own, the rest goes on."""
    with pytest.raises(ExceptionGroup) as caught:
        with trio.move_on_after(5) as scope:
            async with client.task_group() as tg:
                tg.start_soon(fail_cleaning)
                tg.start_soon(sleep, "sibling")
    assert scope.cancelled_caught
    assert errors_of(caught.value) == ["RuntimeError: while cleaning up"]
    assert diary == ["sibling", "sibling cancelled"]


async def test_a_group_of_cancellations_alone_is_no_error(
    client: Client, autojump_clock: Clock
) -> None:
    """test_cancel_scope_exceptiongroup_filtering: many cancelled children, nothing to report."""
    with trio.move_on_after(5) as scope:
        async with client.task_group() as tg:
            for number in range(10):
                tg.start_soon(sleep, f"child {number}")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                await trio.sleep_forever()
    assert scope.cancelled_caught
    assert len([line for line in diary if line.endswith("cancelled")]) == 10


async def test_groups_nest_and_the_inner_one_keeps_its_errors(
    client: Client, autojump_clock: Clock
) -> None:
    """test_cancel_scope_nesting: what an inner block handles is nothing to the outer one."""
    async with client.task_group() as outer:
        job = outer.start_soon(sleep, "outer", 10)
        with pytest.raises(ExceptionGroup):
            async with client.task_group() as inner:
                inner.start_soon(sleep, "inner")
                inner.start_soon(fail, "inside")
    assert job.value == "outer"
    assert diary[-1] == "outer ended"


async def test_an_error_goes_through_nested_groups(client: Client, autojump_clock: Clock) -> None:
    """test_child_crash_basic, nested: the outer group cancels its own and wraps once more."""
    with pytest.raises(ExceptionGroup) as caught:
        async with client.task_group() as outer:
            outer.start_soon(sleep, "outer")
            await trio.sleep(1)
            async with client.task_group() as inner:
                inner.start_soon(fail, "inside")
    (inside,) = caught.value.exceptions
    assert isinstance(inside, ExceptionGroup)
    assert errors_of(inside) == ["ValueError: inside"]
    assert diary == ["outer", "outer cancelled"]


async def test_a_cancelled_child_cancels_its_own_children(
    client: Client, autojump_clock: Clock
) -> None:
    """test_cancel_inheritance, across machines: a child's group is cancelled with the child."""
    with trio.move_on_after(5):
        async with client.task_group() as tg:
            tg.start_soon(nested, "parent", 3)
    assert sorted(diary)[:2] == ["parent", "parent cancelled"]
    assert len([line for line in diary if line.endswith("cancelled")]) == 4


async def test_a_closed_group_starts_nothing(client: Client, autojump_clock: Clock) -> None:
    """test_nursery_closure: open while children run, though the block's code has ended."""
    async with trio.open_nursery() as nursery:

        async def start_late() -> None:
            await trio.sleep(5)
            late.append(tg.start_soon(sleep, "late", 5))

        late = []
        async with client.task_group() as tg:
            tg.start_soon(sleep, "first", 8)
            nursery.start_soon(start_late)
    assert late[0].value == "late"
    with pytest.raises(CallerError, match="has ended"):
        tg.start_soon(echo, 1)


async def test_a_group_fits_into_an_exit_stack(client: Client, autojump_clock: Clock) -> None:
    """test_asyncexitstack_nursery_misnest: entered and left by hand, in order."""
    async with AsyncExitStack() as stack:
        outer = await stack.enter_async_context(client.task_group())
        inner = await stack.enter_async_context(client.task_group())
        jobs = [outer.start_soon(echo, 1), inner.start_soon(echo, 2)]
    assert [job.value for job in jobs] == [1, 2]


async def test_a_local_task_may_start_children(client: Client, autojump_clock: Clock) -> None:
    """test_nursery_closure: who holds the group may start in it, whatever task it is."""
    handles = []

    async def start(number: int) -> None:
        await trio.sleep(number)
        handles.append(tg.start_soon(echo, number))

    async with client.task_group() as tg, trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(start, number)
    assert [handle.value for handle in handles] == [0, 1, 2]


async def test_stop_iteration_arrives_as_it_is(client: Client, autojump_clock: Clock) -> None:
    """test_nursery_stop_iteration, test_nursery_stop_async_iteration."""
    for kind in (StopIteration, StopAsyncIteration):
        with pytest.raises(ExceptionGroup) as caught:
            async with client.task_group():
                raise kind
        assert type(caught.value.exceptions[0]) is kind


async def test_a_keyboard_interrupt_in_the_block_cancels_the_children(
    client: Client, autojump_clock: Clock
) -> None:
    """test_system_task_crash_KeyboardInterrupt: what is no Exception makes a base group."""
    with pytest.raises(BaseExceptionGroup) as caught:
        async with client.task_group() as tg:
            tg.start_soon(sleep, "job")
            await trio.sleep(1)
            raise KeyboardInterrupt
    assert type(caught.value) is BaseExceptionGroup
    assert isinstance(caught.value.exceptions[0], KeyboardInterrupt)
    assert diary == ["job", "job cancelled"]


async def test_errors_have_no_context_that_is_themselves(
    client: Client, autojump_clock: Clock
) -> None:
    """test_nursery_exception_chaining_doesnt_make_context_loops."""
    with pytest.raises(ExceptionGroup) as caught:
        async with client.task_group() as tg:
            tg.start_soon(fail, "remote", 1)
            raise TypeError("local")
    for error in (caught.value, *caught.value.exceptions):
        seen: set[int] = set()
        at: BaseException | None = error
        while at is not None:
            assert id(at) not in seen
            seen.add(id(at))
            at = at.__context__


async def test_a_cancelled_group_leaves_no_garbage(client: Client, autojump_clock: Clock) -> None:
    """test_nursery_cancel_doesnt_create_cyclic_garbage: handles are freed by counting alone."""
    async with client.task_group() as tg:
        handle = tg.start_soon(sleep, "job")
        await trio.sleep(1)
        tg.cancel()
    await client.status()
    assert handle._posted is None
    assert not handle._watched.is_waited_for
    del handle, tg
    gc.collect()


async def test_the_deadline_of_a_group_is_fail_after(client: Client, autojump_clock: Clock) -> None:
    """test_basic_timeout: the time is up for the block and its children, and that is an error."""
    started = trio.current_time()
    with pytest.raises(TimeoutError, match="deadline of the task group"):
        async with client.task_group(deadline=5) as tg:
            tg.start_soon(sleep, "job")
    assert trio.current_time() - started == pytest.approx(5, abs=1)
    assert diary == ["job", "job cancelled"]
