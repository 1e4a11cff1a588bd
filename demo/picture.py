"""The demo's picture: a day's forecast as it was published, what then really happened, and the climatology."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import DateFormatter, HourLocator
from matplotlib.figure import Figure
from matplotlib.style import context

from demo.outcome import Payload, climatology_builder, predictions_from, unix_s
from edge_agent.contract.localtime import DAY_S
from edge_agent.contract.schema import HouseSpec
from edge_agent.contract.series import Floats, Series

INK: Final = "#1f2d3a"
HEARTH: Final = "#d1495b"
GLOW: Final = "#f6bd60"
CALM: Final = "#3d7ea6"
QUIET: Final = "#5d6b78"
STYLE: Final = {
    "font.size": 11,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#8a97a3",
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6eaed",
    "legend.frameon": False,
}
PAST_S: Final = DAY_S // 2
"""How much of the past is shown before the forecast."""


@dataclass(frozen=True, eq=False)
class Day:
    """All that the picture shows, in W (energy) or the target's own unit."""

    origin: int
    step_s: int
    past: Floats
    """Before the origin, `(n_past,)`."""
    quantiles: Floats
    """`(horizon, 3)`: p10, median, p90."""
    anchor: Floats
    """The climatology's p10, median, p90 and mean, `(horizon, 4)`."""
    actual: Floats
    """`(horizon,)`, NaN unknown."""

    def edges(self, n: int, *, first: int = 0) -> Floats:
        """Edges of `n` steps from the origin on, or `first` steps from it, in days as matplotlib counts them (UTC)."""
        return (self.origin + self.step_s * (first + np.arange(n + 1))) / DAY_S


def gather(payload: Payload, series: Series, house: HouseSpec, target: str) -> Day:
    """What the picture of `payload` shows; `series` holds the past and what then happened."""
    builder = climatology_builder(series, house, target)
    origin, step_s, horizon = unix_s(payload["origin"]), house.step_s, len(payload["forecast"])
    known = series.select((house.target(target).sensor,)).between(origin - PAST_S, origin + horizon * step_s).values[:, 0]
    scale = 3600.0 / step_s if house.unit_of[target] == "Wh" else 1.0  # Wh of a step -> mean W
    past, actual = known[:-horizon], known[-horizon:]
    quantiles = predictions_from([payload], actual[None]).quantiles[0]
    anchor = builder.anchors(np.array([origin], np.int64))[0].astype(np.float64)
    return Day(origin, step_s, past * scale, quantiles * scale, anchor * scale, actual * scale)


def draw_forecast(payload: Payload, series: Series, house: HouseSpec, target: str, *, path: Path) -> None:
    """Write the picture of a full forecast message to `path` (PNG)."""
    day, is_energy = gather(payload, series, house, target), house.unit_of[target] == "Wh"
    with context(STYLE):
        figure = Figure(figsize=(12.0, 8.0 if is_energy else 5.6), layout="constrained", facecolor="white")
        FigureCanvasAgg(figure)
        axes = figure.subplots(2 if is_energy else 1, 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": (2.2, 1.0) if is_energy else (1,)})
        upper, lower = axes[0, 0], axes[-1, 0]
        _course(upper, day)
        upper.set_ylabel("mean power in W" if is_energy else f"{target} in {house.unit_of[target]}")
        if is_energy:
            _growing_total(lower, day, payload["totals"]["tomorrow"])
        _time_axis(lower, day, house)
        _titles(figure, payload, day, house, target)
        figure.savefig(path, dpi=130)


def _course(axes: Axes, day: Day) -> None:
    """Band, median, climatology and truth, step by step."""
    edges = day.edges(len(day.actual))
    low, middle, high = day.quantiles.T
    if len(day.past):
        axes.stairs(day.past, day.edges(len(day.past), first=-len(day.past)), color=INK, alpha=0.4, linewidth=1.0)
    axes.stairs(high, edges, baseline=low, fill=True, color=GLOW, alpha=0.55, label="forecast, p10 to p90")
    axes.stairs(day.anchor[:, 2], edges, color=CALM, linewidth=1.0, linestyle=(0, (1, 1.5)), baseline=None)
    axes.stairs(day.anchor[:, 0], edges, color=CALM, linewidth=1.0, linestyle=(0, (1, 1.5)), baseline=None, label="rolling climatology, p10 and p90")
    axes.stairs(middle, edges, color=HEARTH, linewidth=2.2, baseline=None, label="forecast, median")
    axes.stairs(day.actual, edges, color=INK, linewidth=1.3, baseline=None, label="what then really happened")
    axes.axvline(edges[0], color="#8a97a3", linewidth=1.0)
    axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=4, borderaxespad=0.1)
    axes.annotate(" forecast issued", (edges[0], 1.0), xycoords=("data", "axes fraction"), va="top", color=QUIET, fontsize=10)
    axes.set_ylim(bottom=0.0 if min(day.quantiles.min(), np.nanmin(day.actual, initial=np.inf)) >= 0 else None)


def _growing_total(axes: Axes, day: Day, total: dict[str, Any]) -> None:
    """Energy since the day began, and the published total with its band."""
    edges, kwh = day.edges(len(day.actual)), day.step_s / 3.6e6
    for values, color, style, label in (
        (day.anchor[:, 3], CALM, (0, (4, 2)), "rolling climatology, mean"),
        (day.actual, INK, "solid", "what then really happened"),
    ):
        axes.plot(edges, np.concatenate([[0.0], np.cumsum(values * kwh)]), color=color, linestyle=style, linewidth=1.6, label=label)
    value, low, high = (total[key] / 1e3 for key in ("value", "p10", "p90"))
    axes.errorbar(
        edges[-1],
        value,
        [[value - low], [high - value]],
        color=HEARTH,
        fmt="o",
        markersize=8,
        capsize=6,
        linewidth=2.4,
        label="forecast of the day's total, p10 to p90",
    )
    axes.set_ylabel("energy since\nmidnight in kWh")
    axes.set_ylim(bottom=0.0)
    axes.legend(loc="upper left")


def _time_axis(axes: Axes, day: Day, house: HouseSpec) -> None:
    edges = day.edges(len(day.actual))
    axes.set_xlim(edges[0] - len(day.past) * day.step_s / DAY_S, edges[-1] + 0.02)
    axes.xaxis.set_major_locator(HourLocator(byhour=range(0, 24, 3), tz=house.zone))
    axes.xaxis.set_major_formatter(DateFormatter("%H:%M", tz=house.zone))
    axes.set_xlabel(f"local time ({house.time_zone})")


def _titles(figure: Figure, payload: Payload, day: Day, house: HouseSpec, target: str) -> None:
    date = datetime.fromtimestamp(day.origin, house.zone)
    figure.suptitle(f"{house.site}: forecast of {target} for {date:%A, %-d %B %Y}", x=0.01, ha="left", fontsize=16, fontweight="bold")
    model = f"{payload['model']['name']} {payload['model']['version']}"
    parts = [f"issued at {date:%H:%M} from past data only by {model}, grade {payload['grade']}"]
    if "tomorrow" in payload["totals"]:
        total = payload["totals"]["tomorrow"]
        actual = day.actual.sum() * day.step_s / 3.6e6
        ending = "" if np.isnan(actual) else f", in the end {actual:.1f}"
        parts.append(f"the day's total {total['value'] / 1e3:.1f} kWh ({total['p10'] / 1e3:.1f} to {total['p90'] / 1e3:.1f}){ending}")
    figure.axes[0].set_title("\n".join(parts), loc="left", fontsize=11, color=QUIET, pad=30, linespacing=1.4)
