"""A page shows what was measured, all of it and nothing else."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.machine import described
from benchmarks.pages import page, sections_of
from benchmarks.peers.merging import rows
from benchmarks.plots import main
from benchmarks.report import Results
from benchmarks.scale.series import Series


def scale() -> dict[str, Any]:
    series = Series("queued", "jobs that wait")
    series.add(1_000, {"drain (jobs/s)": [1.0, 7.0, 9.0], "start with them (s)": [0.5]})
    series.add(10_000, {"drain (jobs/s)": [6.0]})
    series = json.loads(json.dumps(series.as_document()))
    return {"machine": described(), "durability": "power", "series": {"queued": series}}


def peers() -> dict[str, Any]:
    one = {"this": {"W7": {"drained_per_s": 600.0}}, "other": {"W7": {"drained_per_s": 20.0}}}
    return {"results": rows([{"runs": one}])}


def soak() -> dict[str, Any]:
    figure = "descriptors of runner"
    return {"samples": [{"at (s)": at * 60.0, figure: 9.0 + at} for at in range(3)]}


def versions() -> dict[str, Any]:
    results = Results(["this"])
    results.add("this", "memory", {"speed (jobs/s)": [3.0]})
    return {"results": results.rows()}


@pytest.mark.parametrize(
    ("document", "line"),
    [
        (scale(), "| drain | jobs/s | 7.00 | 6.00 |"),
        (scale(), "| start with them | s | 0.50 | - |"),
        (scale(), "| durability | `power` |"),
        (peers(), "| W7 | backlog drained (tasks/s) | 600 | 20.00 | 30.00 |"),
        (soak(), "| descriptors of runner |  | 9.00 | 9.00 | 11.00 | 11.00 |"),
        (versions(), "| memory | speed (jobs/s) | 3.00 |"),
    ],
)
def test_tables_hold_the_medians(document: dict[str, Any], line: str) -> None:
    assert line in page("found", document, sections_of(document), pictures=False).splitlines()


def test_machine_is_described() -> None:
    text = page("found", scale(), sections_of(scale()), pictures=False)
    assert f"| processors | {described()['cpus']} |" in text
    assert ".png" not in text


def test_charts_hold_what_the_tables_hold() -> None:
    (section,) = sections_of(scale())
    lines = {label: points for chart in section.charts for label, points in chart.lines.items()}
    assert lines == {"drain": [(1_000, 7.0), (10_000, 6.0)], "start with them": [(1_000, 0.5)]}
    (section,) = sections_of(peers())
    assert section.charts[0].lines == {"this": [(0, 600.0)], "other": [(0, 20.0)]}


def test_what_no_benchmark_wrote_is_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.json").write_text("{}")
    assert main([str(tmp_path / "x.json"), "--no-pictures"]) == 1
    assert "no benchmark wrote this" in capsys.readouterr().err


def test_page_is_written_without_pictures(tmp_path: Path) -> None:
    (tmp_path / "scale.json").write_text(json.dumps(scale()))
    out = tmp_path / "pages"
    assert main([str(tmp_path / "scale.json"), "--out", str(out), "--no-pictures"]) == 0
    assert [each.name for each in out.iterdir()] == ["scale.md"]


def test_pictures_without_matplotlib_are_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main([str(tmp_path / "x.json")]) == 1
    assert "install the dependency group plots" in capsys.readouterr().err


def test_every_picture_that_a_page_shows_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="an optional dependency group: plots")
    for name, document in {"scale": scale(), "peers": peers(), "soak": soak()}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(document))
        assert main([str(tmp_path / f"{name}.json"), "--out", str(tmp_path)]) == 0
        (picture,) = tmp_path.glob(f"{name}-*.png")
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert f"({picture.name})" in (tmp_path / f"{name}.md").read_text()
