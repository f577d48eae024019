"""The plots of the report, as SVG."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.cases import CASES
from bench.peers import PEERS
from bench.results import Results

__all__ = ["draw"]

OURS, FLOOR, OTHER = "#0b7a75", "#888888", "#c9a227"
# The same results give the same file, so that a commit shows what changed.
mpl.rcParams["svg.hashsalt"] = "bench"
mpl.rcParams["svg.fonttype"] = "none"


class Panel(NamedTuple):
    """A field of bars: a measure, what it is divided by for the title's unit, and its base."""

    case: str
    measure: str
    divisor: float
    base: str
    title: str


PANELS = (
    Panel("fanout-1000", "cpu_us", 1.0, "floor", "CPU per delivery, 1,000 streams, µs"),
    Panel("burst", "per_s", 1e6, "nchan", "deliveries a second in a burst, millions"),
    Panel("idle", "bytes", 1e3, "nchan", "memory per idle stream, kB"),
)
GROWTH = (
    ("cpu_us", "CPU per delivery, µs"),
    ("delay_ms", "until the last stream has it, ms"),
)


def draw(results: Results, folder: Path) -> None:
    """Draw all that the results have."""
    _save(_ratios(results), folder / "ratios.svg")
    _save(_growth(results), folder / "growth.svg")


def _save(figure: Figure, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def _ratios(results: Results) -> Figure:
    figure = Figure(figsize=(13, 4.5))
    for place, panel in enumerate(PANELS, start=1):
        axes = figure.add_subplot(1, len(PANELS), place)
        _bars(axes, panel, results)
        better = "longer" if panel.measure == "per_s" else "shorter"
        axes.set_title(f"{panel.title}\n(and × {panel.base}; {better} is better)", fontsize=10)
    return figure


def _bars(axes: Axes, panel: Panel, results: Results) -> None:
    case, measure, divisor = panel.case, panel.measure, panel.divisor
    medians = {name: results.median(case, name, measure) for name in CASES[case].peers}
    # The floor keeps so little per stream that it would stretch the scale.
    floor_hidden = {"floor"} if measure == "bytes" else set()
    shown = {n: v / divisor for n, v in medians.items() if v and v > 0 and n not in floor_hidden}
    names = list(reversed(shown))
    base = shown.get(panel.base, 0.0)
    bars = axes.barh(
        [PEERS[name].title.replace("`", "") for name in names],
        [shown[name] for name in names],
        color=[_colour(name) for name in names],
    )
    labels = [
        f" {shown[name]:.3g}" + (f"  ({_short(shown[name] / base)} ×)" if base else "")
        for name in names
    ]
    axes.bar_label(bars, labels=labels, fontsize=7)
    if shown:
        axes.set_xscale("log")
        # Room for the labels.
        axes.set_xlim(min(shown.values()) / 3, max(shown.values()) * 40)
    axes.tick_params(labelsize=7)


def _short(ratio: float) -> str:
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.2g}"  # noqa: PLR2004  no 1.5e+02


def _colour(name: str) -> str:
    if name == "floor":
        return FLOOR
    return OURS if name.startswith("ours") else OTHER


def _growth(results: Results) -> Figure:
    figure = Figure(figsize=(13, 8))
    place = 0
    for case, unit in (("growth", "streams"), ("processes", "processes")):
        for measure, title in GROWTH:
            place += 1
            axes = figure.add_subplot(2, 2, place)
            _lines(axes, case, measure, results=results)
            axes.set_xlabel(unit)
            axes.set_title(title, fontsize=10)
    return figure


def _lines(axes: Axes, case: str, measure: str, *, results: Results) -> None:
    for peer, measures in results.values.get(case, {}).items():
        at = sorted(int(n.partition("@")[2]) for n in measures if n.startswith(f"{measure}@"))
        values = [results.median(case, peer, f"{measure}@{count}") or 0.0 for count in at]
        title = PEERS[peer].title.replace("`", "")
        style = "--" if peer == "floor" else "-"
        axes.plot(at, values, style, marker="o", label=title)
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    axes.grid(visible=True, alpha=0.3)
    if axes.lines:
        axes.legend(fontsize=7)
