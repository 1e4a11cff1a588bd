"""Pictures of a search for hyper-parameters: every trial, and which hyper-parameters mattered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from trainer.pictures import MODEL, OTHERS, STYLE
from trainer.search_space import Choice, Range, Space
from trainer.study import Trial

Floats = npt.NDArray[np.float64]

PRUNED: Final = "#cfcfcf"
SHADES: Final = ("#0b6e8f", "#8fb9c4", "#e0d6a8", "#d99a5b")
"""Good to bad; the best trial is drawn apart."""
WORST_SHOWN: Final = 0.8
"""Colours and the axis of the loss end at this share of the complete trials: one hopeless trial would make all others look alike."""
SPREAD: Final = 0.025
"""Lines through one of a few values lie this far beside it at most, the best ones lowest: they would hide each other."""


@dataclass(frozen=True)
class Axis:
    """One upright axis of the picture: where a value lies, 0 at the bottom and 1 at the top, and its ticks."""

    name: str
    places: Floats
    """Of the trials, `(n_trials,)`."""
    ticks: Sequence[tuple[float, str]]


def parallel_coordinates(trials: Sequence[Trial], space: Space) -> Figure:
    """Each trial as a line over an upright axis for each hyper-parameter and the loss; pruned ones are grey, the best one is strong."""
    shown = [trial for trial in trials if np.isfinite(trial.loss) and trial.state in ("complete", "pruned")]
    shown.sort(key=lambda trial: trial.loss)
    losses = np.array([trial.loss for trial in shown])
    axes_of = [_axis(name, part, [trial.values[name] for trial in shown]) for name, part in space.items()]
    low, high = _good_and_bad(shown)
    top = "validation loss" + ("\n(worst ones cut)" if losses.max() > high else "")
    axes_of.append(_numbers(top, np.minimum(losses, high), low, high, is_log=False))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(max(7.2, 1.45 * len(axes_of)), 4.6), dpi=120, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        _lines(axes, shown, axes_of)
        for position, axis in enumerate(axes_of):
            _upright(axes, position, axis)
        n_pruned = sum(trial.state == "pruned" for trial in shown)
        axes.set_title(f"{len(shown)} trials, {n_pruned} of them pruned (grey); the best one strong", pad=24)
    return figure


def _good_and_bad(trials: Sequence[Trial]) -> tuple[float, float]:
    """The best loss, and the one that counts as bad."""
    complete = [trial.loss for trial in trials if trial.state == "complete"]
    return min(trial.loss for trial in trials), float(np.quantile(complete or [trial.loss for trial in trials], WORST_SHOWN))


def _axis(name: str, part: Range | Choice, values: Sequence[Any]) -> Axis:
    if isinstance(part, Choice):
        last = max(len(part.values) - 1, 1)
        places = np.array([part.values.index(value) / last for value in values])
        beside = np.linspace(-SPREAD, SPREAD, len(values)) if len(values) > 1 else 0.0
        return Axis(name.replace("_", " "), places + beside, [(i / last, str(value)) for i, value in enumerate(part.values)])
    return _numbers(name.replace("_", " "), np.array(values, float), part.low, part.high, is_log=part.is_log)


def _numbers(name: str, values: Floats, low: float, high: float, *, is_log: bool) -> Axis:
    """An axis of numbers from `low` to `high`, with a few round ones as ticks."""
    marks = (LogLocator(subs=(1.0, 2.0, 5.0)) if is_log else MaxNLocator(5)).tick_values(low, high)
    inside = [mark for mark in marks if low <= mark <= high]
    if len(inside) > 7:
        inside = [mark for mark in LogLocator().tick_values(low, high) if low <= mark <= high]
    if high <= low:
        return Axis(name, np.full(len(values), 0.5), [(0.5, f"{low:.4g}")])
    forward = np.log if is_log else np.asarray
    bottom, top = forward(low), forward(high)
    place = lambda value: (forward(value) - bottom) / (top - bottom)  # noqa: E731
    return Axis(name, np.asarray(place(values), float), [(float(place(mark)), f"{mark:.4g}") for mark in inside])


def _lines(axes: Axes, trials: Sequence[Trial], axes_of: Sequence[Axis]) -> None:
    """The worst first, so that the good ones lie on top."""
    good, bad = _good_and_bad(trials)
    best = min((trial.loss for trial in trials if trial.state == "complete"), default=None)
    shade = LinearSegmentedColormap.from_list("loss", SHADES)
    for row in sorted(range(len(trials)), key=lambda row: (trials[row].state == "complete", -trials[row].loss)):
        trial, heights = trials[row], [axis.places[row] for axis in axes_of]
        if trial.state == "pruned":
            axes.plot(heights, color=PRUNED, linewidth=0.8, zorder=1)
        elif trial.loss == best:
            axes.plot(heights, color=OTHERS[0], linewidth=2.6, marker="o", markersize=5, zorder=4)
        else:
            axes.plot(heights, color=shade((trial.loss - good) / max(bad - good, 1e-12)), linewidth=1.2, zorder=2)


def _upright(axes: Axes, position: int, axis: Axis) -> None:
    axes.axvline(position, color="#777777", linewidth=0.8, zorder=3)
    for height, text in axis.ticks:
        axes.plot([position - 0.02, position + 0.02], [height, height], color="#777777", linewidth=0.8, zorder=3)
        label = {"boxstyle": "round,pad=0.12", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}
        axes.text(position - 0.04, height, text, ha="right", va="center", fontsize=8, color="#444444", bbox=label, zorder=5)
    axes.text(position, 1.05, axis.name, ha="center", va="bottom", fontsize=9.5)
    axes.set(xticks=[], yticks=[], ylim=(-0.04, 1.04))
    axes.set_xlim(-0.55, position + 0.25)
    for side in axes.spines.values():
        side.set_visible(False)


def importance_bars(importances: Mapping[str, float], *, n_trials: int) -> Figure:
    """How much of the differences between trials each hyper-parameter explains, as bars, most at the top.

    Args:
        importances: shares by hyper-parameter, adding up to 1.
        n_trials: complete trials that they were found from.
    """
    names = sorted(importances, key=lambda name: importances[name])
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 1.4 + 0.36 * len(names)), dpi=120, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        bars = axes.barh([name.replace("_", " ") for name in names], [importances[name] for name in names], color=MODEL, height=0.62)
        axes.bar_label(bars, fmt=lambda share: f"{share:.0%}", padding=4, fontsize=9)
        axes.set(title=f"Share of the differences between {n_trials} complete trials that each explains", xlim=(0, 1.12 * max(importances.values())))
        axes.set_xticks([])
        axes.grid(visible=False)
        axes.spines["bottom"].set_visible(False)
    return figure
