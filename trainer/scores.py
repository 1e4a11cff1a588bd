"""Scores of probabilistic forecasts over many origins, in all and by lead time, hour and day type. Unknown actuals count nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from edge_agent.contract.baseline import QUANTILE_LEVELS
from edge_agent.contract.errors import DataError
from edge_agent.contract.localtime import DAY_S, local_days, local_seconds, weekdays

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

WEEKDAY: Final = 0
WEEKEND: Final = 1
DAY_TYPES: Final = ("weekday", "weekend")
"""Their names."""
NOTHING_KNOWN: Final = (
    "no actual value is known at these origins, or nothing of the week before them: nothing can be scored; give more --data or another span"
)


@dataclass(frozen=True, eq=False)
class Predictions:
    """Forecasts of one method at many origins, and what then happened, in the target's unit."""

    origins: Ints
    """Unix s, `(n_origins,)`."""
    step_s: int
    quantile_levels: tuple[float, ...]
    """Ascending; 0.5 is among them."""
    quantiles: Floats
    """`(n_origins, horizon, n_levels)`."""
    mean: Floats
    """`(n_origins, horizon)`."""
    actual: Floats
    """`(n_origins, horizon)`, NaN unknown."""

    def __post_init__(self) -> None:
        n, horizon = self.actual.shape
        shapes = {"origins": (n,), "quantiles": (n, horizon, len(self.quantile_levels)), "mean": (n, horizon)}
        for name, expected in shapes.items():
            found = getattr(self, name).shape
            if found != expected:
                raise DataError(f"predictions: {name} has shape {found}, {expected} is expected beside actual values of {self.actual.shape}")
        if 0.5 not in self.quantile_levels:
            raise DataError(f"predictions have levels {self.quantile_levels}: the median (0.5) must be among them")

    @property
    def times(self) -> Ints:
        """Unix s of each step forecast, `(n_origins, horizon)`."""
        return self.origins[:, None] + self.step_s * np.arange(self.actual.shape[1], dtype=np.int64)

    @property
    def median(self) -> Floats:
        """`(n_origins, horizon)`."""
        return self.quantiles[:, :, self.quantile_levels.index(0.5)]

    @property
    def is_point(self) -> bool:
        """Whether all quantiles of a step are one number in memory, as `point_predictions` makes them: scored in a tenth of the time."""
        return self.quantiles.strides[2] == 0


def point_predictions(
    origins: Ints, values: Floats, actual: Floats, *, step_s: int, quantile_levels: tuple[float, ...] = QUANTILE_LEVELS
) -> Predictions:
    """Predictions of a method that gives one number: every quantile and the mean are `values` `(n_origins, horizon)`."""
    quantiles = np.broadcast_to(values[:, :, None], (*values.shape, len(quantile_levels)))
    return Predictions(origins, step_s, quantile_levels, quantiles, values, actual)


def rows_of(predictions: Predictions, rows: Ints) -> Predictions:
    """The forecasts of some origins, by their numbers; copied, so that the others can go."""
    return concatenated([predictions], rows)


def concatenated(parts: Sequence[Predictions], rows: Ints | slice = slice(None)) -> Predictions:
    """The origins of all parts in one, or with these rows of each."""
    first = parts[0]
    origins, mean, actual = (np.concatenate([getattr(p, name)[rows] for p in parts]) for name in ("origins", "mean", "actual"))
    if all(p.is_point for p in parts):
        return point_predictions(origins, mean, actual, step_s=first.step_s, quantile_levels=first.quantile_levels)
    return Predictions(origins, first.step_s, first.quantile_levels, np.concatenate([p.quantiles[rows] for p in parts]), mean, actual)


def where_all_known(predictions: dict[str, Predictions]) -> dict[str, Predictions]:
    """The same predictions with the actual unknown wherever any method has none, so that all are scored on the same steps."""
    common = np.logical_and.reduce([_answered(p) for p in predictions.values()])
    return {name: replace(p, actual=np.where(common, p.actual, np.nan)) for name, p in predictions.items()}


def _answered(predictions: Predictions) -> npt.NDArray[np.bool_]:
    """Where there is a forecast, `(n_origins, horizon)`."""
    has_mean = np.isfinite(predictions.mean)
    if predictions.is_point:
        return has_mean & np.isfinite(predictions.median)
    # one sum for all levels: a reduction over an axis of nine is five times as slow as a product
    return has_mean & np.isfinite(predictions.quantiles @ np.ones(len(predictions.quantile_levels)))


@dataclass(frozen=True)
class Scores:
    """How good forecasts were; errors in the target's unit, lower is better."""

    mae: float
    """Mean absolute error of the median."""
    rmse: float
    """Root mean squared error of the mean."""
    crps: float
    """Continuous ranked probability score: twice the mean pinball loss over the levels (nine deciles: Gneiting and Ranjan 2011, equation 17)."""
    coverage: float
    """Share of actual values between the lowest and the highest quantile, bounds included; p10 to p90 should hold 0.8."""
    total_mae: float
    """Mean absolute error of the sum over the horizon, over origins known throughout; NaN in parts of the horizon, where there is no such sum."""
    n_values: int
    """Known actual values scored."""
    n_totals: int
    """Origins whose actual values are all known."""


def score(predictions: Predictions) -> Scores:
    """Scores over all origins and steps.

    Raises:
        DataError: a forecast is NaN where the actual value is known, or nothing is known at all.
    """
    everything = score_groups(predictions, np.zeros(predictions.actual.shape, np.int64))[0]
    is_whole = np.isfinite(predictions.actual).all(axis=1)
    errors = predictions.mean[is_whole].sum(axis=1) - predictions.actual[is_whole].sum(axis=1)
    total_mae = float(np.abs(errors).mean()) if len(errors) else float("nan")
    return replace(everything, total_mae=total_mae, n_totals=len(errors))


def score_groups(predictions: Predictions, groups: Ints) -> dict[int, Scores]:
    """Scores of each group of steps.

    Args:
        predictions: what to score.
        groups: not negative, `(n_origins, horizon)`; see `leads`, `hours` and `day_types`.

    Raises:
        DataError: a forecast is NaN where the actual value is known, or nothing is known at all.
    """
    known = _known(predictions)
    labels = groups[known]
    per_value = {name: values[known] for name, values in losses(predictions).items()}
    counts = np.bincount(labels)
    means = {name: np.bincount(labels, weights=values) / np.maximum(counts, 1) for name, values in per_value.items()}
    means["rmse"] = np.sqrt(means["rmse"])
    return {
        int(group): Scores(
            **{name: float(values[group]) for name, values in means.items()}, total_mae=float("nan"), n_values=int(counts[group]), n_totals=0
        )
        for group in np.flatnonzero(counts)
    }


def _known(predictions: Predictions) -> npt.NDArray[np.bool_]:
    """Where the actual value is known, `(n_origins, horizon)`."""
    known = np.isfinite(predictions.actual)
    if not known.any():
        raise DataError(NOTHING_KNOWN)
    silent = known & ~_answered(predictions)
    if silent.any():
        raise DataError(f"{silent.sum():,} forecasts are NaN where the actual value is known: compare methods by where_all_known, or start later")
    return known


def losses(predictions: Predictions) -> dict[str, Floats]:
    """What each value adds to the scores, by their names, `(n_origins, horizon)`; for `rmse` the squared error. NaN where forecast or actual is.

    The pinball losses of all levels together are sum(level) * actual - sum(level * quantile) + sum(max(quantile - actual, 0)).
    """
    actual, quantiles, levels = predictions.actual, predictions.quantiles, np.asarray(predictions.quantile_levels)
    over = actual - predictions.median
    absolute, low, high = np.abs(over), quantiles[:, :, 0], quantiles[:, :, -1]
    if predictions.is_point:
        crps = 2 * (levels.mean() * over + np.maximum(-over, 0.0))
    else:
        above = np.maximum(quantiles - actual[:, :, None], 0.0) @ np.ones(len(levels))
        crps = 2 / len(levels) * (levels.sum() * actual - quantiles @ levels + above)
    is_inside = np.where(np.isfinite(absolute), (low <= actual) & (actual <= high), np.nan)
    return {"mae": absolute, "rmse": (predictions.mean - actual) ** 2, "crps": crps, "coverage": is_inside}


def pinball_losses(quantiles: Floats, actual: Floats, levels: tuple[float, ...]) -> Floats:
    """Pinball loss of each value and level, `(n, n_levels)`.

    Args:
        quantiles: `(n, n_levels)`.
        actual: `(n,)`, all known.
        levels: the quantiles' levels.
    """
    over = actual[:, None] - quantiles
    level = np.asarray(levels)
    return np.maximum(level * over, (level - 1) * over)


def pinball_by_level(predictions: Predictions) -> Floats:
    """Mean pinball loss of each level over all known values, `(n_levels,)`. Raises as `score`."""
    known = _known(predictions)
    losses = pinball_losses(predictions.quantiles[known], predictions.actual[known], predictions.quantile_levels)
    return np.asarray(losses.mean(axis=0))


def coverage_by_level(predictions: Predictions) -> Floats:
    """Share of known values at or below each quantile, `(n_levels,)`; should equal the level. Raises as `score`.

    Where many values and quantiles coincide (a meter with coarse steps), the share is above the level even for a perfect forecast.
    """
    known = _known(predictions)
    return np.asarray((predictions.actual[known][:, None] <= predictions.quantiles[known]).mean(axis=0))


def skill(scores: Scores, baseline: Scores) -> dict[str, float]:
    """1 - score / baseline's score for each error: above 0 is better than the baseline; NaN where the baseline makes no error."""
    out = {}
    for name in ("mae", "rmse", "crps", "total_mae"):
        reference = getattr(baseline, name)
        out[name] = 1.0 - getattr(scores, name) / reference if reference > 0 else float("nan")
    return out


def figure(value: float) -> str:
    """An error with four significant digits and no exponent, or a dash for what is unknown."""
    if not np.isfinite(value):
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def leads(predictions: Predictions) -> Ints:
    """Step of the horizon, 0 being the first, `(n_origins, horizon)`."""
    return np.broadcast_to(np.arange(predictions.actual.shape[1], dtype=np.int64), predictions.actual.shape)


def hours(predictions: Predictions, zone: ZoneInfo) -> Ints:
    """Local hour of the day of each step, 0 … 23, `(n_origins, horizon)`."""
    return local_seconds(predictions.times, zone) % DAY_S // 3600


def day_types(predictions: Predictions, zone: ZoneInfo) -> Ints:
    """`WEEKDAY` or `WEEKEND` of each step by the local date, `(n_origins, horizon)`."""
    return np.where(weekdays(local_days(predictions.times, zone)) >= 5, WEEKEND, WEEKDAY).astype(np.int64)
