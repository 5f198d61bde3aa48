"""Callbacks and checks by name with the real control plane, on a virtual clock."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from fastworker import ArgumentError, Client
from fastworker.testing import open_cluster
from tests.testing import sample_tasks

pytestmark = pytest.mark.trio


async def test_a_callback_whose_loop_failed_comes_again_until_it_is_handled(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_cluster() as cluster, Client() as client:
        submitted = await client.delay_with_callback(
            sample_tasks.add, client.callback_address, 2, 3, callback_data="first"
        )
        deliveries = []
        with trio.fail_after(3600):
            for _ in range(3):
                with pytest.raises(ZeroDivisionError):
                    async for callback in client.callbacks():
                        deliveries.append((callback.task_id, callback.delivery_id))
                        raise ZeroDivisionError
            async for callback in client.callbacks():
                callback.acknowledge()
                break
        assert deliveries == [(submitted, callback.delivery_id)] * 3
        with trio.move_on_after(3600) as quiet:
            await anext(client.callbacks())
        assert quiet.cancelled_caught
        await cluster.wait_idle()


async def test_a_subworkers_signature_reaches_who_calls_by_name(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with open_cluster(), Client() as client:
        await client.wait_connected(5)
        await client.status()
        name = sample_tasks.add.name
        with pytest.raises(ArgumentError, match=f"task {name}"):
            await client.submit(name, 1, 2, 3)
        assert await (await client.submit(name, 1, 2)).result(5) == 3
