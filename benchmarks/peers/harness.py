"""A copy of the harness that knows of us, beside the environments of the others; runs of it.

Nothing is changed where it comes from: it is copied to a temporary folder, and there what its
README asks of a new peer is done: the adapter, a line in the list of peers, and one for a peer that
needs no Redis.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.cluster import BenchmarkFailed

ADAPTER: Final = Path(__file__).resolve().parent / "this_peer.py"
OURS: Final = {"this": "power", "this-memory": "memory"}
"""Our names among the peers, and the durability of each."""
WITHOUT_REDIS: Final = 'base not in ("dask", '
"""How the driver's list of peers that need no Redis begins."""
ENVIRONMENT: Final = "venv-this"


class Harness:
    """The copy in ``folder``, and the environments it uses.

    Args:
        source: where the harness is.
        environments: where its ``setup.sh`` made those of the others; need not exist.
        folder: empty.

    Raises:
        BenchmarkFailed: ``source`` is no harness of the kind we know.
    """

    def __init__(self, source: Path, environments: Path, folder: Path) -> None:
        if not (source / "run.py").is_file() or not (source / "adapters").is_dir():
            raise BenchmarkFailed(f"{source} holds no harness: there is no run.py with adapters/")
        self._folder = folder / "harness"
        self._home = folder / "environments"
        skipped = shutil.ignore_patterns(".git", "__pycache__", "*.pyc")
        shutil.copytree(source, self._folder, ignore=skipped)
        self._join()
        self._home.mkdir()
        for theirs in environments.glob("venv-*"):
            (self._home / theirs.name).symlink_to(theirs)
        (self._home / ENVIRONMENT).unlink(missing_ok=True)
        (self._home / ENVIRONMENT).symlink_to(sys.prefix)

    def _join(self) -> None:
        shutil.copy(ADAPTER, self._folder / "adapters")
        with (self._folder / "adapters" / "__init__.py").open("a") as listing:
            for name, durability in OURS.items():
                peer = (ADAPTER.stem, durability, ENVIRONMENT.removeprefix("venv-"))
                listing.write(f"\nPEERS[{name!r}] = {peer!r}\n")
        driver = self._folder / "driver.py"
        text = driver.read_text()
        if text.count(WITHOUT_REDIS) != 1:
            raise BenchmarkFailed(f"{driver.name} of the harness names no peers without Redis")
        names = "".join(f'"{name}", ' for name in OURS)
        driver.write_text(text.replace(WITHOUT_REDIS, WITHOUT_REDIS + names))

    def run(self, peers: Sequence[str], workloads: Sequence[str], *options: str) -> dict[str, Any]:
        """One round: each workload by each peer in this order; its progress goes to stderr.

        Raises:
            BenchmarkFailed: it ended without results.
        """
        out = self._folder / "round.json"
        out.unlink(missing_ok=True)
        command = [sys.executable, "run.py", "--peers", ",".join(peers)]
        command += ["--workloads", ",".join(workloads), "--out", str(out), *options]
        environment = {**os.environ, "PEERS_HOME": str(self._home)}
        # Both ours and the harness's modules are found by the folders they are in.
        ended = subprocess.run(command, cwd=self._folder, env=environment, stdout=sys.stderr)
        if ended.returncode != 0 or not out.exists():
            raise BenchmarkFailed(f"run.py of the harness ended with {ended.returncode}")
        found: dict[str, Any] = json.loads(out.read_text())
        return found
