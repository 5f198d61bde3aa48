"""What is looked at, again and again: every process, the store's files, how long jobs took."""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from benchmarks.load import cpu_seconds, resident_bytes

MEBIBYTE: Final = 1024 * 1024


def sample_processes(pids: Mapping[str, Sequence[int]]) -> dict[str, float]:
    """Memory, descriptors and processor time of each kind of process."""
    found: dict[str, float] = {}
    for who, each in pids.items():
        found[f"resident memory of {who} (MiB)"] = resident_bytes(each) / MEBIBYTE
        files = [len(os.listdir(f"/proc/{pid}/fd")) for pid in each]
        found[f"descriptors of {who}"] = float(sum(files))
        found[f"CPU of {who} (s)"] = cpu_seconds(each)
    return found


def sample_store(folder: Path) -> dict[str, float]:
    """Size of the store's files."""
    log = sum(file.stat().st_size for file in folder.glob("*-wal"))
    rest = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) - log
    return {"write-ahead log (MiB)": log / MEBIBYTE, "rest of the store (MiB)": rest / MEBIBYTE}


def sample_latencies(seconds: Sequence[float]) -> dict[str, float]:
    """Median and 99th percentile; nothing where no job has ended."""
    if not seconds:
        return {}
    ordered = sorted(seconds)
    return {
        "p50 of a no-op (ms)": statistics.median(ordered) * 1e3,
        "p99 of a no-op (ms)": ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)] * 1e3,
    }
