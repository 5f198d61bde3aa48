"""Everything there is to fuzz, one after another: ``nox -s fuzz -- --seconds 3600``.

Each target gets its share of the time; what is found is kept in ``corpus`` as a file of its own.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from typing import Final

SHARES: Final = {
    "frames": 10,
    "values": 6,
    "addresses": 3,
    "settings": 6,
    "http_heads": 3,
    "callbacks": 4,
    "tokens_files": 3,
    "dispatch": 20,
    "tenants": 10,
    "clients": 8,
    "streams": 12,
    "sockets": 30,
}
"""Parts of the whole time, the more the further a target reaches."""

SPARE_SECONDS: Final = 120
"""For a target to start and to end, on a busy machine."""


def main() -> int:
    """Fuzz everything; 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("targets", nargs="*", choices=[*SHARES, []], help="default: all")
    parser.add_argument("--seconds", type=int, default=3600, help="in all")
    given = parser.parse_args()
    chosen = {name: SHARES[name] for name in given.targets or SHARES}
    found = []
    for name, share in chosen.items():
        seconds = max(given.seconds * share // sum(chosen.values()), 1)
        print(f"--- {name}: {seconds} s", flush=True)
        if not _fuzz(name, seconds):
            found.append(name)
    print(f"found something: {', '.join(found)}" if found else "nothing found")
    return 1 if found else 0


def _fuzz(name: str, seconds: int) -> bool:
    module = ["tests.fuzzing.sockets"] if name == "sockets" else ["tests.fuzzing.guided", name]
    command = [sys.executable, "-m", *module, "--seconds", str(seconds)]
    try:
        return subprocess.run(command, timeout=seconds + SPARE_SECONDS).returncode == 0
    except subprocess.TimeoutExpired:
        print(f"{name} did not end in time")
        return False


if __name__ == "__main__":
    raise SystemExit(main())
