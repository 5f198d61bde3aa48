"""A control plane with a short lease, which no flag of the command line offers."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import trio

from fastworker.logs import configure_logging
from fastworker.server.control_plane import run_control_plane
from fastworker.server.settings import ControlPlaneSettings


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--base-address", required=True)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--token-file", type=Path, required=True)
    parser.add_argument("--lease-seconds", type=float, required=True)
    given = parser.parse_args()
    configure_logging("info", "text")
    token = given.token_file.read_text()
    settings = ControlPlaneSettings(
        base_address=given.base_address,
        discovery_address=None,
        store=given.store,
        tokens={token.partition(".")[0]: token},
        local_worker="never",
        lease_seconds=given.lease_seconds,
        heartbeat_seconds=given.lease_seconds / 3,
    )
    return trio.run(run_control_plane, settings)


if __name__ == "__main__":
    sys.exit(main())
