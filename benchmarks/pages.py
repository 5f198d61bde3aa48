"""What was measured, from JSON to a page: tables in Markdown, and what is to be drawn. Pure.

Any document of `benchmarks`, `benchmarks.scale`, `benchmarks.peers` or `benchmarks.soak` will do.
A figure that was not measured is not there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from benchmarks.report import number_text

Document = Mapping[str, Any]

MACHINE: Final = {
    "processor": "processor",
    "cpus": "processors",
    "memory": "memory",
    "system": "system",
    "python": "Python",
    "sqlite": "SQLite",
    "load": "load at the end",
    "at": "at",
}


@dataclass(slots=True)
class Chart:
    """Some figures of one unit.

    Args:
        lines: points by label; one point each makes bars.
        along: what the first number of a point counts; none: bars.
        logarithmic: sizes that grow tenfold.
    """

    unit: str
    along: str = ""
    logarithmic: bool = False
    lines: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    def add(self, label: str, x: float, y: float) -> None:
        """One point more."""
        self.lines.setdefault(label, []).append((x, y))


@dataclass(slots=True)
class Section:
    """A part of a page: a table, and a picture of several charts."""

    name: str
    title: str
    table: list[list[str]]
    charts: list[Chart]


def sections_of(document: Document) -> list[Section]:
    """What a document holds.

    Raises:
        ValueError: it is none of ours.
    """
    if "series" in document:
        return [_series(name, each) for name, each in document["series"].items()]
    if "samples" in document:
        return [_soak(document["samples"])]
    if "results" in document:
        peers = any("workload" in row for row in document["results"])
        return [_peers(document["results"]) if peers else _versions(document["results"])]
    raise ValueError("no series, samples or results: no benchmark wrote this")


def page(name: str, document: Document, sections: Sequence[Section], pictures: bool) -> str:
    """A page in Markdown; its pictures stand beside it, if there are any."""
    parts = [f"# {name.replace('-', ' ').capitalize()}", "\n".join(_machine(document))]
    for section in sections:
        parts += [f"## {section.title}", _markdown(section.table)]
        if pictures and section.charts:
            parts.append(f"![{section.title}]({picture_name(name, section)})")
    return "\n\n".join(parts) + "\n"


def picture_name(name: str, section: Section) -> str:
    """The file that a section's picture is in."""
    return f"{name}-{section.name}.png"


def _machine(document: Document) -> Iterator[str]:
    machine = document.get("machine", {})
    yield "| measured on | |\n|---|---|"
    for key, what in MACHINE.items():
        if value := machine.get(key):
            text = ", ".join(f"{each:.2f}" for each in value) if key == "load" else str(value)
            yield f"| {what} | {text} |"
    if durability := document.get("durability"):
        yield f"| durability | `{durability}` |"


def _split(metric: str) -> tuple[str, str]:
    """``drain (jobs/s)``: the name and the unit."""
    name, _, unit = metric.rpartition(" (")
    return (name, unit.removesuffix(")")) if name else (metric, "")


def _series(name: str, series: Mapping[str, Any]) -> Section:
    metrics: Mapping[str, Sequence[Mapping[str, Any]]] = series["metrics"]
    sizes = sorted({row["size"] for rows in metrics.values() for row in rows})
    table = [[series["unit"], "unit", *(f"{size:,}" for size in sizes)]]
    charts: dict[str, Chart] = {}
    for metric, rows in metrics.items():
        what, unit = _split(metric)
        medians = {row["size"]: row["median"] for row in rows}
        table.append([what, unit, *(number_text(medians.get(size)) for size in sizes)])
        chart = charts.setdefault(unit, Chart(unit, series["unit"], logarithmic=True))
        for size, median in medians.items():
            chart.add(what, size, median)
    return Section(name, f"More {series['unit']}", table, list(charts.values()))


def _soak(samples: Sequence[Mapping[str, float]]) -> Section:
    names = list(dict.fromkeys(name for sample in samples for name in sample))
    table = [["figure", "unit", "first", "lowest", "highest", "last"]]
    charts: dict[str, Chart] = {}
    for name in names:
        values = [(sample["at (s)"] / 60, sample[name]) for sample in samples if name in sample]
        what, unit = _split(name)
        seen = [value for _, value in values]
        if what == "at":
            continue
        figures = (seen[0], min(seen), max(seen), seen[-1])
        table.append([what, unit, *map(number_text, figures)])
        unit = unit or what.partition(" of ")[0]
        chart = charts.setdefault(unit, Chart(unit, "minutes"))
        for x, y in values:
            chart.add(what, x, y)
    return Section("soak", "A steady load", table, list(charts.values()))


def _peers(results: Sequence[Mapping[str, Any]]) -> Section:
    peers = list(dict.fromkeys(peer for row in results for peer in row["median"]))
    ours = list(dict.fromkeys(name for row in results for name in row["ratio to the best peer"]))
    table = [["workload", "figure", *peers, *(f"ratio of {name}" for name in ours)]]
    charts = []
    for row in results:
        ratios = row["ratio to the best peer"]
        figures = [row["median"].get(peer) for peer in peers]
        table.append(
            [row["workload"], row["figure"], *map(number_text, figures)]
            + [number_text(ratios.get(name)) for name in ours]
        )
        chart = Chart(f"{row['workload']}: {row['figure']}")
        for peer, figure in zip(peers, figures, strict=True):
            if figure is not None:
                chart.add(peer, 0, figure)
        charts.append(chart)
    return Section("peers", "Beside other task queues", table, charts)


def _versions(results: Sequence[Mapping[str, Any]]) -> Section:
    versions = list(dict.fromkeys(name for row in results for name in row["median"]))
    table = [["durability", "figure", *versions, *(["ratio"] if len(versions) == 2 else [])]]
    for row in results:
        cells = [number_text(row["median"].get(name)) for name in versions]
        cells += [number_text(row["ratio"])] if len(versions) == 2 else []
        table.append([row["durability"], row["metric"], *cells])
    return Section("figures", "Throughput, latency, memory", table, [])


def _markdown(table: Sequence[Sequence[str]]) -> str:
    head, *rows = table
    lines = ["| " + " | ".join(head) + " |"]
    lines.append("|---|---" + "|---:" * (len(head) - 2) + "|")
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join(lines)
