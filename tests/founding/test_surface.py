"""The founding snippets, as they are written, against real processes on every event loop."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cluster import Cluster

pytestmark = pytest.mark.process

SNIPPET = """\
import sys
from fastworker import Client, TaskPriority, TaskStatus, open_callback_listener, task
from shop import add, countdown, fan_out, fan_out_blocking, on_trio, order


async def main() -> None:
    client = Client()
    await client.start()
    task_id = await client.delay("add", 2, 3)
    assert isinstance(task_id, str)
    result = None
    while result is None or not result.status.is_terminal:
        result = await client.get_task_result(task_id)
    assert (result.task_id, result.status, result.result) == (task_id, TaskStatus.SUCCESS, 5)
    assert result.error is None and result.started_at <= result.completed_at

    urgent = await client.delay("alert", priority=TaskPriority.CRITICAL)
    assert await client.result(urgent, timeout=10) == "alerted"

    async with open_callback_listener("tcp://127.0.0.1:0") as listener:
        called = await client.delay_with_callback("order", listener.address, 42)
        async for callback in listener:
            assert callback.task_id == called and callback.result == "order 42"
            break

    assert await client.get_task_result("01890000-0000-7000-8000-000000000000") is None

    assert add(2, 3) == 5
    assert await (await add.submit(2, y=3)).result(timeout=10) == 5
    assert await client.result(await add.delay(3, 4), timeout=10) == 7
    soon = await add.options(priority=TaskPriority.HIGH, countdown=0.2).submit(1, 1)
    assert await soon.result(timeout=10) == 2
    try:
        await (await order.submit(-1)).result(timeout=10)
    except ValueError as error:
        assert str(error) == "no order -1" and type(error.__cause__).__name__ == "TaskError"
    else:
        raise AssertionError("the task's error did not arrive")
    handles = await client.submit_many("add", [(n, n) for n in range(500)])
    assert await client.results(handles, timeout=20) == [n + n for n in range(500)]
    late = await client.apply("add", (1, 2), countdown=3600)
    outcome = await late.cancel()
    assert outcome.outcome == "cancelled", outcome
    assert (await client.get_task_result(late.id)).status is TaskStatus.CANCELLED
    assert await (await fan_out.submit(5)).result(timeout=20) == 15
    assert await (await fan_out_blocking.submit(5)).result(timeout=20) == 15
    assert await (await countdown.submit(10)).result(timeout=60) == 10
    assert await (await on_trio.submit()).result(timeout=10) == "trio"
    client.stop()
    await client.stop()
    print("all of it works")


{run}
"""
RUNS = {
    "asyncio": "import asyncio; asyncio.run(main())",
    "uvloop": "import uvloop; uvloop.run(main())",
    "trio": "import trio; trio.run(main)",
}


@pytest.mark.parametrize("runtime", RUNS)
def test_founding_surface(cluster: Cluster, tmp_path: Path, runtime: str) -> None:
    script = tmp_path / "application.py"
    script.write_text(SNIPPET.replace("{run}", RUNS[runtime]))
    environment = cluster.client_environment()
    environment["PYTHONPATH"] += f":{cluster.folder}"
    done = subprocess.run(
        [sys.executable, "-W", "error", script],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr + cluster.logs()
    assert done.stdout == "all of it works\n"
    assert done.stderr == ""


def test_recursion_at_concurrency_one_does_not_deadlock(tmp_path: Path) -> None:
    from tests.founding.conftest import TASKS

    with Cluster(tmp_path, tasks=TASKS, module="shop") as single:
        single.control_plane()
        single.subworker("narrow", "--concurrency", "1", "--threads", "1")
        answer = subprocess.run(
            [sys.executable, "-m", "fastworker", "submit", "countdown", "[10]", "--wait"],
            env=single.client_environment(),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert answer.returncode == 0, answer.stderr + single.logs()
        assert "10" in answer.stdout
