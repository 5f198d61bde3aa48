"""``python -m benchmarks.plots``: pages with tables and pictures of what was measured.

Reads JSON that the benchmarks wrote, and writes ``NAME.md`` and its PNG files. Needs matplotlib:
the dependency group ``plots``; with ``--no-pictures`` nothing.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.pages import Chart, Section, page, picture_name, sections_of
from benchmarks.report import number_text

COLUMNS: Final = 2
INCHES: Final = (6.0, 3.4)
"""Of one chart."""
DOTS: Final = 110
"""An inch."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write pages; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plots", description=__doc__)
    add = parser.add_argument
    add("files", type=Path, nargs="+", metavar="FILE.json", help="each makes FILE.md")
    add("--out", type=Path, default=Path("docs/performance"), help="a folder (%(default)s)")
    add("--pictures", action=argparse.BooleanOptionalAction, default=True, help="PNG files, too")
    given = parser.parse_args(arguments)
    try:
        pyplot = _pyplot() if given.pictures else None
        for file in given.files:
            _write(file, given.out, pyplot)
    except (OSError, ValueError, ImportError) as error:
        print(f"benchmarks.plots: {error}", file=sys.stderr)
        return 1
    return 0


def _pyplot() -> Any:
    try:
        importlib.import_module("matplotlib").use("Agg")
    except ImportError as error:
        raise ImportError(
            "pictures need matplotlib: install the dependency group plots, or give --no-pictures"
        ) from error
    return importlib.import_module("matplotlib.pyplot")


def _write(file: Path, out: Path, pyplot: Any) -> None:
    document = json.loads(file.read_text())
    sections, name = sections_of(document), file.stem
    out.mkdir(parents=True, exist_ok=True)
    for section in sections:
        if pyplot is not None and section.charts:
            _draw(pyplot, section, out / picture_name(name, section))
    target = out / f"{name}.md"
    target.write_text(page(name, document, sections, pictures=pyplot is not None))
    print(target)


def _draw(pyplot: Any, section: Section, target: Path) -> None:
    rows = math.ceil(len(section.charts) / COLUMNS)
    size = (INCHES[0] * COLUMNS, INCHES[1] * rows)
    figure, axes = pyplot.subplots(rows, COLUMNS, figsize=size, squeeze=False)
    for axis, chart in zip(axes.flat, section.charts, strict=False):
        _draw_chart(axis, chart)
    for axis in list(axes.flat)[len(section.charts) :]:
        axis.axis("off")
    figure.tight_layout()
    # The same figures make the same file.
    figure.savefig(target, dpi=DOTS, metadata={"Software": None})
    pyplot.close(figure)


def _draw_chart(axis: Any, chart: Chart) -> None:
    axis.set_title(chart.unit, fontsize="medium")
    if not chart.along:
        for label, points in chart.lines.items():
            bar = axis.barh(label, points[0][1])
            axis.bar_label(bar, [number_text(points[0][1])])
        axis.invert_yaxis()
        axis.margins(x=0.2)
        return
    for label, points in chart.lines.items():
        style = "o-" if chart.logarithmic else "-"
        axis.plot(*zip(*sorted(points), strict=True), style, label=label, markersize=3)
    figures = [point for points in chart.lines.values() for point in points]
    if chart.logarithmic:
        with_zero = min(x for x, _ in figures) <= 0
        axis.set_xscale("symlog" if with_zero else "log")
    axis.set_ylim(bottom=min(0.0, *(y for _, y in figures)))
    axis.set_xlabel(chart.along)
    axis.grid(alpha=0.3)
    axis.legend(fontsize="x-small")


if __name__ == "__main__":
    sys.exit(main())
