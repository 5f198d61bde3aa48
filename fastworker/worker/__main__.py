"""The control plane's local subworker: told what to do by one JSON line on standard input.

So no secret stands in its arguments or environment. People start `fastworker run subworker`.
"""

from __future__ import annotations

import json
import sys

import trio

from fastworker.logs import configure_logging
from fastworker.wire.addresses import parse_address
from fastworker.worker.settings import SubworkerSettings
from fastworker.worker.subworker import run_subworker


def main() -> int:
    """Read the instructions and serve; returns the exit code."""
    told = json.loads(sys.stdin.readline())
    configure_logging("info", "text")
    address = parse_address(told["address"])
    settings = SubworkerSettings(
        control_plane=(address,),
        token=told["token"],
        label=told["label"],
        task_modules=tuple(told["task_modules"]),
        queues=("*",),
        concurrency=told["concurrency"],
        threads=told["threads"],
        processes=told["processes"],
        async_runtime=told["async_runtime"],
        drain_seconds=told["drain_seconds"],
        local=True,
    )
    return trio.run(run_subworker, settings)


if __name__ == "__main__":
    sys.exit(main())
