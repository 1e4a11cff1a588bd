"""The report's pictures, as SVG text whose colours are the page's own: they change with it from light to dark."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, DateFormatter, HourLocator
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from trainer import pictures
from trainer.scores import Predictions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes

Floats = npt.NDArray[np.float64]


def _variables() -> dict[str, str]:
    others = {color: f"other-{number}" for number, color in enumerate(pictures.OTHERS)}
    bands = dict(zip(pictures.BANDS, ("band-outer", "band-inner"), strict=True))
    return {pictures.MODEL: "model", pictures.ACTUAL: "ink", **bands, **others, "#e6e6e6": "grid", "#777777": "muted", "#444444": "muted"}


VARIABLES: Final = _variables()
"""The page's colour by the one that is drawn with."""
STYLE: Final = {
    **pictures.STYLE,
    "font.size": 12,
    "legend.fontsize": 11,
    "text.color": pictures.ACTUAL,
    "axes.labelcolor": "#444444",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "svg.fonttype": "none",
    "svg.hashsalt": "hearthcast",
}
WIDTH_IN: Final = 4.9
"""Text is then as large on a phone as beside two others on a desk."""


@contextmanager
def _panel(height: float = 3.4) -> Iterator[tuple[Figure, Axes]]:
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_IN, height), layout="constrained")
        FigureCanvasSVG(figure)
        yield figure, figure.subplots()


def svg(figure: Figure) -> str:
    """The figure as an `svg` element that fills its place."""
    text = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    drawn = text.getvalue()[text.getvalue().index("<svg") :]
    drawn = re.sub(r' (width|height)="[\d.]+pt"', "", drawn, count=2)
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn, flags=re.DOTALL)
    drawn = re.sub(r'<g id="[^"]*">', "<g>", drawn)  # the same names in every figure of the page
    for color, variable in VARIABLES.items():
        drawn = drawn.replace(color, f"var(--{variable})")
    return drawn


def day(methods: Mapping[str, Predictions], names: Mapping[str, str], *, zone: ZoneInfo, unit: str) -> Figure:
    """One day: the model's band and best guess, one baseline's, and what came. Energy as mean power.

    Args:
        methods: the forecasts of one origin by label, the model's first.
        names: what to call two of them, the model first.
        zone: the clock of the axis.
        unit: of the forecasts.
    """
    (model, baseline), own = names, next(iter(methods.values()))
    factor = 3600 / own.step_s if unit == "Wh" else 1.0
    top = max(np.nanmax(own.quantiles[0]), np.nanmax(own.actual[0])) * factor
    factor, shown = (factor / 1000, "kW") if unit == "Wh" and top >= 2000 else (factor, "W" if unit == "Wh" else unit)
    times = own.times[0]
    edges = [datetime.fromtimestamp(int(t), UTC) for t in (*times, times[-1] + own.step_s)]
    with _panel() as (figure, axes):
        pictures.draw_bands(axes, edges, factor * own.quantiles[0], own.quantile_levels)
        _step(axes, edges, factor * methods[baseline].mean[0], label=names[baseline], color=pictures.OTHERS[0], linewidth=1.1, linestyle="--")
        _step(axes, edges, factor * own.mean[0], label=names[model], color=pictures.MODEL, linewidth=1.8)
        _step(axes, edges, factor * own.actual[0], label="what came", color=pictures.ACTUAL, linewidth=1.1)
        axes.xaxis.set_major_locator(HourLocator(byhour=range(0, 24, 6), tz=zone))
        axes.xaxis.set_major_formatter(DateFormatter("%H:%M", tz=zone))
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(bottom=0 if unit == "Wh" else None)
        axes.set_ylabel(_degrees(shown))
        _legend(figure, axes)
    return figure


def _step(axes: Axes, edges: Sequence[datetime], values: Floats, **style: object) -> None:
    axes.step(edges, np.append(values, values[-1]), where="post", **style)


def _degrees(unit: str) -> str:
    return "°C" if unit == "degC" else unit


def _legend(figure: Figure, axes: Axes, columns: int = 2) -> None:
    handles, labels = axes.get_legend_handles_labels()
    labels = [{"p10 to p90": "8 in 10", "p30 to p70": "4 in 10"}.get(label, label) for label in labels]
    figure.legend(handles, labels, loc="outside upper left", ncols=columns, columnspacing=1.2, handlelength=1.6, borderpad=0.1)


def timeline(origins: Floats, actual: Floats, forecast: Floats, band: tuple[float, float] | None, *, zone: ZoneInfo, unit: str, name: str) -> Figure:
    """Each day's total (or mean): forecast, with its band, and what came.

    Args:
        origins: unix s of the days' starts, `(n,)`.
        actual: `(n,)`.
        forecast: `(n,)`.
        band: low and high over the forecast.
        zone: whose dates.
        unit: of the values.
        name: of the model.
    """
    dates = [datetime.fromtimestamp(int(t), zone) for t in origins]
    with _panel() as (figure, axes):
        if band is not None:
            axes.fill_between(dates, band[0] * forecast, band[1] * forecast, color=pictures.BANDS[0], linewidth=0, label="8 in 10")
        axes.plot(dates, forecast, color=pictures.MODEL, linewidth=1.8, label=name)
        points = {"marker": "o", "markersize": 3.2 if len(dates) < 70 else 1.8, "linestyle": "none"}
        axes.plot(dates, actual, color=pictures.ACTUAL, label="what came", **points)
        locator = AutoDateLocator(tz=zone, minticks=3, maxticks=6)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=zone))
        axes.set_ylim(bottom=0 if unit.endswith("Wh") else None)
        axes.set_ylabel(_degrees(unit) + (" a day" if unit.endswith("Wh") else ", mean of the day"))
        _legend(figure, axes, columns=3)
    return figure


def against(actual: Floats, forecast: Floats, *, unit: str) -> Figure:
    """Each day a dot: forecast total (or mean) across, what came upwards."""
    both = np.concatenate([actual, forecast])
    span = np.array([0.0 if unit.endswith("Wh") else both.min(), both.max()])
    margin = 0.04 * (span[1] - span[0])
    with _panel() as (figure, axes):
        axes.plot(span, span, color="#777777", linewidth=1, label="right on")
        axes.plot(forecast, actual, "o", color=pictures.MODEL, markersize=4 if len(actual) < 70 else 2.2, alpha=0.75, label="a day")
        axes.set(
            xlim=(span[0] - (0 if span[0] == 0 else margin), span[1] + margin), ylim=(span[0] - (0 if span[0] == 0 else margin), span[1] + margin)
        )
        axes.set_aspect("equal")
        axes.set(xlabel=f"forecast, {_degrees(unit)}", ylabel=f"came, {_degrees(unit)}")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(5))
        _legend(figure, axes)
    return figure


def errors(curves: Mapping[str, tuple[Floats, Floats]], *, across: str, upwards: str, is_share: bool = False) -> Figure:
    """Error of some methods against hours; the first is the model's.

    Args:
        curves: hours and errors by name, `(n,)` each.
        across: label of the x axis.
        upwards: label of the y axis.
        is_share: whether errors are shares, shown as percent.
    """
    with _panel() as (figure, axes):
        for number, (name, (hours, values)) in enumerate(curves.items()):
            axes.plot(hours, values, label=name, **pictures.line(number))
        axes.set(xlabel=across, ylabel=upwards, xlim=(0, 24))
        axes.set_ylim(bottom=0)
        axes.set_xticks(range(0, 25, 6))
        if is_share:
            axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        _legend(figure, axes)
    return figure


def calibration(levels: Sequence[float], below: Floats, *, name: str) -> Figure:
    """How much came at or below each quantile, against how much should have."""
    with _panel() as (figure, axes):
        axes.plot([0, 1], [0, 1], color="#777777", linewidth=1, label="as it should be")
        axes.plot(levels, below, marker="o", markersize=4.5, color=pictures.MODEL, linewidth=1.8, label=name)
        axes.set(xlabel="promised", ylabel="came at or below", xlim=(0, 1), ylim=(0, 1))
        axes.set_aspect("equal")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(5))
            axis.set_major_formatter(PercentFormatter(1.0))
        _legend(figure, axes)
    return figure


def bars(values: Mapping[str, float], *, unit: str, texts: Sequence[str]) -> Figure:
    """One bar a method with its name above it, the model's first and coloured; `texts` stand at their ends."""
    with _panel(0.6 + 0.62 * len(values)) as (figure, axes):
        colors = [pictures.MODEL, *[pictures.BANDS[1]] * (len(values) - 1)]
        drawn = axes.barh(range(len(values)), list(values.values()), 0.42, color=colors)
        axes.bar_label(drawn, texts, padding=4, color=pictures.ACTUAL)
        for row, name in enumerate(values):
            axes.annotate(name, (0, row - 0.25), (0, 2), textcoords="offset points", color="#444444", verticalalignment="bottom")
        axes.set_yticks([])
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(_degrees(unit))
        axes.set_ylim(len(values) - 0.65, -0.8)
        axes.set_xlim(0, 1.65 * max(values.values()) or 1.0)
        axes.xaxis.set_major_locator(MaxNLocator(4))
    return figure


def homes(skills: Mapping[str, Floats]) -> Figure:
    """One dot a home, from the worst to the best, for each of some skills; floors at -50 %."""
    with _panel() as (figure, axes):
        axes.axhline(0, color="#777777", linewidth=1)
        for number, (name, values) in enumerate(skills.items()):
            ranked = np.sort(values[np.isfinite(values)])
            axes.plot(
                np.arange(1, len(ranked) + 1),
                np.maximum(ranked, -0.5),
                "o-"[: 1 + (len(ranked) > 1)],
                label=name,
                markersize=3,
                **{k: v for k, v in pictures.line(number).items() if k != "linestyle"},
            )
        axes.set(xlabel="homes, from the worst to the best", ylabel="better than without a model")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        _legend(figure, axes, columns=1)
    return figure
