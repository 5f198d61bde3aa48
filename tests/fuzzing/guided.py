"""Coverage-guided fuzzing of one target: ``python -m tests.fuzzing.guided frames --seconds 60``.

Atheris measures which branches of fastworker an input takes; inputs that take new ones are kept
and changed further. It has wheels for every Python we support on Linux. Where it cannot be
installed, inputs are changed by chance alone, from the same seeds and with the same judge.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import sys
import time
import traceback
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

FAILED: Final = 1
PATIENCE_SECONDS: Final = 60
"""For one input that never ends, or one that is found and made small."""

MEMORY_MIB: Final = 2048

MEASURED: Final = tuple(
    f"fastworker.{part}" for part in ("config", "core", "server", "transport", "wire")
)
"""Whose branches count; to prepare all of fastworker for it would take a minute."""


def main() -> int:
    """Fuzz one target for so long; 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0, help="0: a new one every time")
    parser.add_argument("--kept", type=Path, help="folder for inputs that reach further")
    given = parser.parse_args()
    kept: Path = (given.kept or Path(".nox") / "fuzz") / given.target
    kept.mkdir(parents=True, exist_ok=True)
    seed = given.seed or int(time.time())
    if importlib.util.find_spec("atheris") is None:
        print(f"{given.target}: without atheris, by chance alone (--seed {seed})", flush=True)
        return fuzz_by_chance(given.target, given.seconds, seed)
    return _fuzz_guided(given.target, given.seconds, seed, kept)


def fuzz_by_chance(name: str, seconds: float, seed: int) -> int:
    """Change seeds blindly; 1 if anything was found."""
    from tests.fuzzing.mutating import failure, mutate, seeds
    from tests.fuzzing.targets import TARGETS

    chance = random.Random(seed)
    pool = list(seeds(name))
    ends_at, tried = time.monotonic() + seconds, 0
    while time.monotonic() < ends_at:
        data = mutate(name, chance.choice(pool), chance)
        tried += 1
        error = failure(TARGETS[name], data)
        if error is not None:
            report(name, data, error)
            return FAILED
    print(f"{name}: {tried} inputs, nothing found")
    return 0


def report(name: str, data: bytes, error: Exception) -> None:
    """Show what an input breaks, and keep the smallest that does."""
    from tests.fuzzing.mutating import CORPUS, minimised
    from tests.fuzzing.targets import TARGETS

    least = minimised(TARGETS[name], data)
    traceback.print_exception(error)
    path = CORPUS / name / f"found_{sha256(least).hexdigest()[:12]}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(least)
    print(f"{name}: {least!r:.300}\nkept as {path}; give it a name of its own once it is fixed")


def _fuzz_guided(name: str, seconds: int, seed: int, kept: Path) -> int:
    import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]

    with atheris.instrument_imports(include=list(MEASURED), enable_loader_override=False):
        from tests.fuzzing.mutating import failure, mutate, seeds
        from tests.fuzzing.targets import TARGETS

    for data in seeds(name):
        (kept / sha256(data).hexdigest()[:20]).write_bytes(data)
    target = TARGETS[name]

    def check(data: bytes) -> None:
        error = failure(target, data)
        if error is not None:
            report(name, data, error)
            raise error

    def change(data: bytes, max_size: int, mutation_seed: int) -> bytes:
        chance = random.Random(mutation_seed)
        if chance.random() < 0.5:
            return bytes(atheris.Mutate(data, max_size))
        return mutate(name, data, chance)[:max_size]

    arguments = [
        sys.argv[0],
        f"-max_total_time={seconds}",
        f"-timeout={PATIENCE_SECONDS}",
        f"-rss_limit_mb={MEMORY_MIB}",
        f"-artifact_prefix={kept.parent}/",
        f"-seed={seed}",
        "-max_len=16384",
        "-print_final_stats=1",
        "-verbosity=1",
        str(kept),
    ]
    options: dict[str, Any] = {"custom_mutator": change}
    atheris.Setup(arguments, check, **options)
    atheris.Fuzz()  # ends the process
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
