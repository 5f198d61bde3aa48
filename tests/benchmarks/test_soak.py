"""A soak looks at every process, and what grows is found."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks.soak.__main__ import main
from benchmarks.soak.flatness import Verdict, judge

SAMPLES = 64


def verdict_of(name: str, values: list[float]) -> Verdict:
    (verdict,) = judge([{name: value, "jobs": 1.0} for value in values])
    return verdict


def test_what_wavers_is_flat_and_what_creeps_is_not() -> None:
    waves = [50.0 + at % 3 for at in range(SAMPLES)]
    creeps = [50.0 + at * 0.2 for at in range(SAMPLES)]
    assert verdict_of("resident memory of runner (MiB)", waves).is_flat
    assert not verdict_of("resident memory of runner (MiB)", creeps).is_flat
    assert not verdict_of("descriptors of runner", [9.0 + at // 8 for at in range(SAMPLES)]).is_flat


def test_growth_of_the_warm_up_is_forgiven() -> None:
    assert verdict_of("p50 of a no-op (ms)", [90.0] * 16 + [2.0] * 48).is_flat
    rises = [min(16.0, at) * 10 for at in range(SAMPLES)]
    assert verdict_of("resident memory of runner (MiB)", rises).is_flat


def test_write_ahead_log_is_judged_by_its_highest() -> None:
    saw = [4.0 * (at % 4) for at in range(SAMPLES)]
    assert verdict_of("write-ahead log (MiB)", saw).is_flat
    assert not verdict_of("write-ahead log (MiB)", [*saw[:-1], 99.0]).is_flat


def test_a_latency_that_is_not_there_any_more_is_not_flat() -> None:
    samples = [{"p50 of a no-op (ms)": 1.0} if at < 40 else {} for at in range(SAMPLES)]
    (verdict,) = judge(samples)
    assert not verdict.is_flat


def test_few_samples_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="3 samples say nothing"):
        judge([{}] * 3)
    with pytest.raises(SystemExit) as exit_:
        main(["--samples", "3"])
    assert exit_.value.code == 2


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.process
@pytest.mark.slow
def test_a_short_soak_samples_every_process_and_every_kind_of_job(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state, found = tmp_path / "state", tmp_path / "found.json"
    state.mkdir()
    short = ["--seconds", "1", "--samples", "8", "--rate", "30", "--durability", "process"]
    code = main([*short, "--folder", str(state), "--json", str(found)])
    # Whether a second was flat is for longer runs to say.
    assert code in (0, 1)
    output = capsys.readouterr()
    assert output.err == ""
    # 30 calls, two of them in bulk: of ten jobs each.
    assert "48 jobs ended as they should" in output.out
    last = json.loads(found.read_text())["samples"][-1]
    for who in ("control plane", "subworker", "runner", "client"):
        assert last[f"resident memory of {who} (MiB)"] > 1
        assert last[f"descriptors of {who}"] > 1
        assert who in output.out
    assert last["write-ahead log (MiB)"] > 0
    assert list(state.iterdir()) == []
