from __future__ import annotations

from pathlib import Path

import pytest

from fastworker.worker.out_of_memory import oom_kills


@pytest.mark.parametrize(
    ("own", "file", "text", "kills"),
    [
        ("0::/jobs/a\n", "cgroup/jobs/a/memory.events", "oom 9\noom_kill 3\n", 3),
        ("0::/../outer\n", "cgroup/memory.events", "oom_kill 4\n", 4),
        ("4:cpu,memory:/b\n0::/\n", "cgroup/memory/b/memory.oom_control", "oom_kill 5\n", 5),
        ("0::/\n", "vmstat", "pgfault 7\noom_kill 6\n", 6),
        ("nonsense", "vmstat", "oom_kill many\n", 0),
    ],
)
def test_counter_is_found(tmp_path: Path, own: str, file: str, text: str, kills: int) -> None:
    (tmp_path / "own").write_text(own)
    path = tmp_path / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)

    found = oom_kills(tmp_path / "own", tmp_path / "cgroup", tmp_path / "vmstat")

    assert found == kills


def test_a_system_that_says_nothing_counts_nothing(tmp_path: Path) -> None:
    assert oom_kills(tmp_path / "a", tmp_path / "b", tmp_path / "c") == 0
