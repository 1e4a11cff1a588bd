"""Pictures of a training run and of its forecasts, for MLflow and for people. Each function returns a matplotlib Figure and shows nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import DateFormatter, HourLocator
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from trainer.scores import Predictions, coverage_by_level, hours, leads, pinball_losses, score, score_groups

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MODEL: Final = "#0b6e8f"
ACTUAL: Final = "#222222"
BANDS: Final = ("#cde2e9", "#93bfce")
"""Outer and inner band; opaque, so that the legend shows what the panel shows."""
OTHERS: Final = ("#c8553d", "#8a8a8a", "#b8a13a", "#7a9e6b", "#a67fb5", "#6f86b3")
"""Baselines, in the order they are given."""
LINES: Final = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))
"""One style each, so that the lines can be told apart without colour too."""

STYLE: Final = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#777777",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "lines.solid_capstyle": "butt",
    "xtick.color": "#444444",
    "ytick.color": "#444444",
}


def quantity(target: str, unit: str, step_s: int) -> str:
    """Axis label of a target: `energy (Wh in 10 min)`, `living_room (degC)`."""
    return f"{target} ({unit} in {step_s // 60} min)" if unit == "Wh" else f"{target} ({unit})"


def _figure(width: float, height: float, *, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure of `rows` panels that share the x axis' width, with a canvas of its own: pyplot would keep it alive."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), dpi=120, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(rows, 1, squeeze=False)[:, 0]
    return figure, list(axes)


def loss_curves(training: Sequence[float], validation: Sequence[float], *, best_epoch: int, loss: str, first_epoch: int = 1) -> Figure:
    """Loss of each epoch on both spans, with the epoch whose weights are kept.

    Args:
        training: loss by epoch, the first epoch first.
        validation: the same on the validation span.
        best_epoch: number of the epoch whose weights are kept.
        loss: what the loss is, for the axis.
        first_epoch: number of the first one; 0 is the untrained network, which has no training loss (NaN).
    """
    figure, (axes,) = _figure(7.2, 4.0)
    with mpl.rc_context(STYLE):
        epochs = range(first_epoch, first_epoch + len(training))
        axes.plot(epochs, training, color=OTHERS[1], label="training span", marker="o", markersize=3)
        axes.plot(epochs, validation, color=MODEL, label="validation span", marker="o", markersize=3)
        kept = {"color": MODEL, "markersize": 9, "markerfacecolor": "none", "label": f"kept: epoch {best_epoch}"}
        axes.plot([best_epoch], [validation[best_epoch - first_epoch]], "o", **kept)
        axes.set(xlabel="epoch", ylabel=loss, title="Loss by epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()
    return figure


def gains_by_share(gains: Mapping[str, Floats], shares: Sequence[float], *, kept: float) -> Figure:
    """What mixtures of the base and its tuned selves gained on the days held out.

    Args:
        gains: 1 - CRPS / the base's, `(n_folds, n_shares)`, by what to call the training.
        shares: of the tuned weights in the mixture.
        kept: share of what is kept.
    """
    figure, (axes,) = _figure(7.2, 4.0)
    with mpl.rc_context(STYLE):
        for (name, by_fold), color, style in zip(gains.items(), (OTHERS[1], MODEL, OTHERS[0]), LINES, strict=False):
            axes.plot(shares, by_fold.T, color=color, linewidth=0.7, alpha=0.35)
            axes.plot(shares, by_fold.mean(axis=0), color=color, linestyle=style, linewidth=2, marker="o", markersize=4, label=name)
        axes.axhline(0, color=ACTUAL, linewidth=0.8)
        axes.axvline(kept, color=ACTUAL, linewidth=0.8, linestyle=":", label=f"kept: {kept:.0%}")
        axes.set(xlabel="tuned weights in the mixture with the base", ylabel="CRPS beside the base, + is better")
        axes.set_title("Gain on held-out days: mean (thick) and each fold (thin)")
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=1))
        axes.legend()
    return figure


def typical_rows(predictions: Predictions) -> dict[str, int]:
    """An easy, a typical and a hard origin: those at 10, 50 and 90 % of the origins' CRPS, by what to call them.

    Origins with an unknown actual value are left out unless there is no other.
    """
    actual = predictions.actual
    n, horizon = actual.shape
    losses = pinball_losses(predictions.quantiles.reshape(n * horizon, -1), actual.ravel(), predictions.quantile_levels)
    crps = 2 * losses.mean(axis=1).reshape(n, horizon).mean(axis=1)
    rows = np.flatnonzero(np.isfinite(crps))
    order = rows[np.argsort(crps[rows])] if len(rows) else np.arange(n)
    names = {"easier than 9 in 10": 0.1, "typical": 0.5, "harder than 9 in 10": 0.9}
    return {name: int(order[round(share * (len(order) - 1))]) for name, share in names.items()}


def forecasts_against_actual(
    predictions: Predictions, rows: Mapping[str, int], *, zone: ZoneInfo, label: str, baseline: Predictions | None = None
) -> Figure:
    """The forecasts of some origins, with bands, and what happened.

    Args:
        predictions: the model's.
        rows: which origins, by what to call them; see `typical_rows`.
        zone: the clock of the x axis.
        label: axis label; see `quantity`.
        baseline: its median is drawn too.
    """
    figure, panels = _figure(9.6, 2.5 * len(rows) + 0.5, rows=len(rows))
    with mpl.rc_context(STYLE):
        for axes, (name, row) in zip(panels, rows.items(), strict=True):
            _draw_forecast(axes, predictions, row, zone=zone, baseline=baseline)
            start = datetime.fromtimestamp(int(predictions.origins[row]), zone)
            axes.set_title(f"{start:%A %d %B %Y}, from {start:%H:%M}: {name}")
            axes.set_ylabel(label)
        panels[0].legend(loc="upper center", bbox_to_anchor=(0.5, 1.36), ncols=6, fontsize=8.5, columnspacing=1.2)
        panels[-1].set_xlabel(f"time of day ({zone.key})")
    return figure


def _draw_forecast(axes: Axes, predictions: Predictions, row: int, *, zone: ZoneInfo, baseline: Predictions | None) -> None:
    edges = _edges(predictions, row)
    draw_bands(axes, edges, predictions.quantiles[row], predictions.quantile_levels)
    if baseline is not None:
        axes.step(edges, _closed(baseline.median[row]), where="post", color=OTHERS[0], linewidth=1.1, linestyle="--", label="baseline's median")
    axes.step(edges, _closed(predictions.median[row]), where="post", color=MODEL, linewidth=1.6, label="median")
    axes.step(edges, _closed(predictions.actual[row]), where="post", color=ACTUAL, linewidth=1.0, label="actual")
    axes.xaxis.set_major_locator(HourLocator(byhour=range(0, 24, 3), tz=zone))
    axes.xaxis.set_major_formatter(DateFormatter("%H:%M", tz=zone))
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(bottom=0 if np.nanmin(predictions.quantiles[row]) >= 0 else None)


def _edges(predictions: Predictions, row: int) -> list[datetime]:
    """Start of each step and the end of the last."""
    times = predictions.times[row]
    return [datetime.fromtimestamp(int(t), UTC) for t in (*times, times[-1] + predictions.step_s)]


def _closed(values: Floats) -> Floats:
    """The values with the last repeated, so that a step line reaches the end of the horizon."""
    return np.append(values, values[-1])


def draw_bands(axes: Axes, edges: Sequence[datetime], quantiles: Floats, levels: Sequence[float]) -> None:
    """Draw a pair of quantiles as one band each, outermost first and palest.

    Args:
        axes: where to.
        edges: start of each step and the end of the last, `(horizon + 1,)`.
        quantiles: `(horizon, n_levels)`.
        levels: the quantiles' levels, ascending and symmetric.
    """
    pairs = [(i, len(levels) - 1 - i) for i in range(len(levels) // 2)]
    for color, (low, high) in zip(BANDS, pairs[:1] + pairs[2:3], strict=False):  # p10-p90 and p30-p70 of nine deciles: more bands hide each other
        axes.fill_between(
            edges,
            _closed(quantiles[:, low]),
            _closed(quantiles[:, high]),
            step="post",
            color=color,
            linewidth=0,
            label=f"p{100 * levels[low]:g} to p{100 * levels[high]:g}",
        )


def error_by_lead_time(methods: Mapping[str, Predictions], *, label: str) -> Figure:
    """Mean absolute error of the median by lead time, in hours' means; the first method is the model.

    Args:
        methods: by name, all at the same origins.
        label: axis label; see `quantity`.
    """
    figure, (axes,) = _figure(7.2, 4.2)
    with mpl.rc_context(STYLE):
        for number, (name, predictions) in enumerate(methods.items()):
            per_hour = max(3600 // predictions.step_s, 1)
            by_hour = score_groups(predictions, leads(predictions) // per_hour)
            ahead = [hour * per_hour * predictions.step_s / 3600 + 0.5 for hour in by_hour]
            axes.plot(ahead, [s.mae for s in by_hour.values()], label=f"{name} ({score(predictions).mae:.3g})", **line(number))
        axes.set(xlabel="hours ahead", ylabel=f"mean absolute error of {label}", title="Error by lead time (mean over all in brackets)")
        axes.set_ylim(bottom=0)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 3, 6, 10]))
        axes.legend(ncols=2, fontsize=8.5)
    return figure


def line(number: int) -> dict[str, object]:
    """Colour and style of the method with this number: the model's is the strong one."""
    if number == 0:
        return {"color": MODEL, "linewidth": 2.2}
    return {"color": OTHERS[(number - 1) % len(OTHERS)], "linewidth": 1.3, "linestyle": LINES[number % len(LINES)]}


def reliability(methods: Mapping[str, Predictions]) -> Figure:
    """How many values came at or below each quantile, against how many should have; the first method is the model."""
    figure, (axes,) = _figure(5.2, 5.0)
    with mpl.rc_context(STYLE):
        axes.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=1, label="as it should be")
        for number, (name, predictions) in enumerate(methods.items()):
            axes.plot(predictions.quantile_levels, coverage_by_level(predictions), marker="o", markersize=4, label=name, **line(number))
        axes.set(xlabel="quantile level", ylabel="share of values at or below the quantile", title="Coverage by level", xlim=(0, 1), ylim=(0, 1))
        axes.set_aspect("equal")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(10))
            axis.set_major_formatter(PercentFormatter(1.0))
        axes.legend(loc="upper left")
    return figure


def residuals_by_hour(predictions: Predictions, *, zone: ZoneInfo, label: str) -> Figure:
    """What happened minus the mean forecast, by local hour: the mean, and the bands that hold the middle 50 and 80 %.

    Args:
        predictions: the model's.
        zone: whose hours.
        label: axis label; see `quantity`.
    """
    residuals, hour_of = (predictions.actual - predictions.mean).ravel(), hours(predictions, zone).ravel()
    known = np.isfinite(residuals)
    present = np.unique(hour_of[known])
    spread = np.array([np.quantile(residuals[known & (hour_of == hour)], [0.1, 0.25, 0.75, 0.9]) for hour in present])
    means = [residuals[known & (hour_of == hour)].mean() for hour in present]
    figure, (axes,) = _figure(7.2, 4.0)
    with mpl.rc_context(STYLE):
        axes.axhline(0, color="#777777", linewidth=1)
        axes.bar(present + 0.5, spread[:, 3] - spread[:, 0], 0.8, bottom=spread[:, 0], color=MODEL, alpha=0.2, label="middle 80 %")
        axes.bar(present + 0.5, spread[:, 2] - spread[:, 1], 0.8, bottom=spread[:, 1], color=MODEL, alpha=0.4, label="middle 50 %")
        axes.plot(present + 0.5, means, "o", color=ACTUAL, markersize=4, label="mean")
        axes.set(xlabel=f"hour of the day ({zone.key})", ylabel=f"actual - forecast mean, {label}", title="Residuals by hour", xlim=(0, 24))
        axes.set_xticks(range(0, 25, 3))
        axes.legend(ncols=3, fontsize=8.5)
    return figure
