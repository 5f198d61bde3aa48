"""The control plane's local subworker: told what to do by one JSON line on standard input.

So no secret stands in its arguments or environment. People start `fastworker run subworker`.
"""

from __future__ import annotations

import json
import os
import signal
import sys

import trio

from fastworker.logs import configure_logging
from fastworker.wire.addresses import parse_address
from fastworker.worker.settings import SubworkerSettings
from fastworker.worker.subworker import run_subworker

STDIN = 0


def main() -> int:
    """Read the instructions and serve; returns the exit code."""
    with open(STDIN, "rb", buffering=0, closefd=False) as instructions:
        told = json.loads(instructions.readline())
    configure_logging(told["log_level"], told["log_format"])
    address = parse_address(told["address"])
    settings = SubworkerSettings(
        control_plane=(address,),
        token=told["token"],
        label=told["label"],
        task_modules=tuple(told["task_modules"]),
        concurrency=told["concurrency"],
        threads=told["threads"],
        task_processes=told["task_processes"],
        processes=told["processes"],
        max_jobs_per_runner=told["max_jobs_per_runner"],
        max_runner_bytes=told["max_runner_bytes"],
        tags=tuple(told["tags"]),
        reload=told["reload"],
        async_runtime=told["async_runtime"],
        drain_seconds=told["drain_seconds"],
        local=True,
        log_level=told["log_level"],
        log_format=told["log_format"],
        collect_logs=told["collect_logs"],
    )
    return trio.run(_serve, settings)


async def _serve(settings: SubworkerSettings) -> int:
    """Run until told to stop, or until the control plane is gone: nobody else would stop us."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_end_with_parent)
        code = await run_subworker(settings)
        nursery.cancel_scope.cancel()
    return code


async def _end_with_parent() -> None:
    await trio.lowlevel.wait_readable(STDIN)
    # Our standard input has ended, so the parent has, too. As the second signal would do: at
    # once, since there is nobody to give outcomes to.
    os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
