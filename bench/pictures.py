"""
Pictures of what ``bench.session`` measured, as SVG. The same figures make the same file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.conditions import HEADERS, RATE
from bench.goodput import LOSSES, target
from bench.latency import INTERVAL, TARGETS
from bench.matrix import Result

#: Inches.
SIZE = (7.0, 3.8)
TICKS = [100, 120, 150, 200, 300, 500, 1000]
STYLE: Any = {
    "svg.hashsalt": "resip",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "legend.frameon": False,
}


def draw(results: Mapping[str, Sequence[Result]], directory: Path) -> None:
    """
    Draw the tables that have a picture into ``goodput.svg`` and ``latency.svg``.
    """
    directory.mkdir(parents=True, exist_ok=True)
    for name, draw_on in (("goodput", _draw_goodput), ("latency", _draw_latency)):
        if name in results:
            with mpl.rc_context(STYLE):
                figure = Figure(figsize=SIZE, layout="constrained")
                draw_on(figure.add_subplot(), results[name])
                figure.savefig(directory / f"{name}.svg", metadata={"Date": None})


def _draw_goodput(axes: Axes, results: Sequence[Result]) -> None:
    for name, points in _curves(results).items():
        places = [LOSSES.index(point.reading.x) for point in points]
        limits = [RATE / 1e6 * (1 - HEADERS) * (1 - point.reading.x) for point in points]
        _plot(axes, name, places, points, [100 / limit for limit in limits])
    shares = [100 * target(loss) / (RATE / 1e6 * (1 - HEADERS) * (1 - loss)) for loss in LOSSES]
    axes.plot(range(len(LOSSES)), shares, "k_", markersize=14, label="target")
    axes.set_xticks(range(len(LOSSES)), labels=[f"{100 * loss:.0f}" for loss in LOSSES])
    axes.set_xlabel("loss in each direction, %")
    axes.set_ylabel("goodput of one stream,\n% of what the link lets through")
    axes.set_title("20 Mbit/s, round trip of 100 ms, packets of 1,500 bytes")
    axes.set_ylim(0, 103)
    axes.legend(loc="lower left")


def _draw_latency(axes: Axes, results: Sequence[Result]) -> None:
    for name, points in _curves(results).items():
        places = [100 * point.reading.x for point in points]
        _plot(axes, name, places, points, [1.0] * len(points))
    for _, high in TARGETS:
        axes.plot([30], [high], "k_", markersize=12)
    axes.plot([], [], "k_", label="targets at 30 %")
    axes.set_yscale("log")
    axes.set_yticks(TICKS, labels=[str(tick) for tick in TICKS])
    axes.minorticks_off()
    axes.set_xlabel("loss in each direction, %")
    axes.set_ylabel("round trip of so many of the echoes, ms")
    axes.set_title(f"64 bytes every {1e3 * INTERVAL:.0f} ms, round trip of 100 ms")
    axes.legend()


def _curves(results: Sequence[Result]) -> Mapping[str, Sequence[Result]]:
    curves: dict[str, list[Result]] = {}
    for result in results:
        if result.reading.curve:
            curves.setdefault(result.reading.curve, []).append(result)
    return curves


def _plot(
    axes: Axes,
    name: str,
    places: Sequence[float],
    points: Sequence[Result],
    scales: Sequence[float],
) -> None:
    """
    The means, with bars from the least to the greatest.
    """
    each = list(zip(points, scales, strict=True))
    means = [scale * point.mean for point, scale in each]
    below = [scale * (point.mean - min(point.values)) for point, scale in each]
    above = [scale * (max(point.values) - point.mean) for point, scale in each]
    line = ":" if "burst" in name else "-"
    bars = [below, above]
    axes.errorbar(places, means, yerr=bars, fmt="o" + line, markersize=3, capsize=2, label=name)
