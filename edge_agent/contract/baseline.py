"""Rolling climatology and the seasonal-naive family: the anchor, the fallback and the yardstick are this one code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from edge_agent.contract.localtime import DAY_S, local_seconds, utc_offsets_s, weekdays

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

QUANTILE_LEVELS: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class ClimatologySettings:
    """How past values are weighed; the defaults are the yardstick that every score is compared with."""

    days_back: int = 56
    decay_days: float = 28.0
    neighbour_s: int = 1800
    """Values up to this much earlier or later in the day count too, with triangular weight."""
    other_day_type: float = 0.35
    """Weight of weekend values for a weekday and of weekday values for a weekend."""


YARDSTICK: Final = ClimatologySettings()


class Climatology:
    """Weighted quantiles and mean of past values at the same local time of day.

    Built once for a series, then asked at many origins; nothing at or after an origin is looked at.
    """

    def __init__(self, values: Floats, *, start: int, step_s: int, zone: ZoneInfo, horizon: int, settings: ClimatologySettings = YARDSTICK) -> None:
        """Prepare for origins up to the end of `values`.

        Args:
            values: the target, `(n,)`, NaN unknown.
            start: unix s of `values[0]`.
            step_s: the step in s.
            zone: the house's time zone.
            horizon: most steps an origin is asked for.
            settings: the weights.
        """
        self.values = values
        self.settings = settings
        self.step_s = step_s
        times = start + step_s * np.arange(len(values) + horizon, dtype=np.int64)
        self.offset_steps = utc_offsets_s(times, zone) // step_s
        self.is_weekend = weekdays(local_seconds(times, zone) // DAY_S) >= 5
        self.horizon = horizon
        self._lags, self._lag_weights = _lags(settings, step_s)

    def _candidates(self, origin: int, first: int, last: int) -> tuple[Floats, Floats]:
        """Past values for the steps in [first, last) and their weights, `(last - first, n_candidates)` each."""
        step = np.arange(first, last)[:, None]
        index = step - self._lags
        inside = np.clip(index, 0, origin - 1)
        index = index + self.offset_steps[step] - self.offset_steps[inside]  # the same wall time, also across a clock change
        inside = np.clip(index, 0, origin - 1)
        values = self.values[inside]
        same_type = self.is_weekend[step] == self.is_weekend[inside]
        weights = self._lag_weights * np.where(same_type, 1.0, self.settings.other_day_type)
        weights[(index != inside) | np.isnan(values)] = 0.0
        return values, weights

    def at(self, origin: int, horizon: int | None = None, levels: tuple[float, ...] = QUANTILE_LEVELS, *, skip: int = 0) -> tuple[Floats, Floats]:
        """Quantiles and mean for the steps after `origin`.

        Args:
            origin: row of the first step to forecast, in 0 … len(values).
            horizon: steps to forecast; the one given at the start when None.
            levels: quantile levels, ascending.
            skip: leave out this many of the first steps.

        Returns:
            Quantiles `(horizon - skip, n_levels)`, ascending along the last axis, and mean `(horizon - skip,)`; NaN where there is no past value at
            that time of day.
        """
        horizon = self.horizon if horizon is None else horizon
        if origin <= 0 or horizon <= skip:
            return np.full((horizon - skip, len(levels)), np.nan), np.full(horizon - skip, np.nan)
        return weighted_quantiles(*self._candidates(origin, origin + skip, origin + horizon), levels)

    def filled(self, origin: int, horizon: int | None = None, levels: tuple[float, ...] = QUANTILE_LEVELS, *, skip: int = 0) -> tuple[Floats, Floats]:
        """As `at`, but where that time of day has no past value, the quantiles and mean of the last days as a whole; NaN when nothing is known."""
        quantiles, mean = self.at(origin, horizon, levels, skip=skip)
        empty = np.isnan(mean)
        if empty.any():
            recent = self.values[max(origin - self.settings.days_back * DAY_S // self.step_s, 0) : origin]
            recent = recent[np.isfinite(recent)]
            if recent.size:
                quantiles[empty], mean[empty] = np.quantile(recent, levels), recent.mean()
        return quantiles, mean


def _lags(settings: ClimatologySettings, step_s: int) -> tuple[Ints, Floats]:
    """Steps back from the step forecast to each candidate, and the candidates' weights by age and distance in the day."""
    per_day = DAY_S // step_s
    days = np.arange(1, settings.days_back + 1)
    reach = settings.neighbour_s // step_s
    aside = np.arange(-reach, reach + 1)
    triangle = 1.0 - np.abs(aside) * step_s / (settings.neighbour_s + step_s)
    lags = days[:, None] * per_day - aside
    weights = np.exp(-days / settings.decay_days)[:, None] * triangle
    return lags.ravel().astype(np.int64), weights.ravel()


def weighted_quantiles(values: Floats, weights: Floats, levels: tuple[float, ...]) -> tuple[Floats, Floats]:
    """Row-wise weighted quantiles (inverse of the step distribution function) and means.

    Args:
        values: `(n_rows, n)`; where the weight is zero a value may be NaN.
        weights: `(n_rows, n)`, not negative.
        levels: ascending.

    Returns:
        `(n_rows, n_levels)` and `(n_rows,)`; a row without weight is NaN.
    """
    order = np.argsort(values, axis=1)
    values = np.take_along_axis(values, order, axis=1)
    weights = np.take_along_axis(weights, order, axis=1)
    cumulative = np.cumsum(weights, axis=1)
    total = cumulative[:, -1]
    known = total > 0
    safe_total = np.where(known, total, 1.0)
    # One search for all rows: row r's distribution function is shifted to [2r, 2r + 1], so that the flat array ascends.
    rows = 2.0 * np.arange(len(values))[:, None]
    flat = (cumulative / safe_total[:, None] + rows).ravel()
    # a hair below each level, because sums of floats may fall a hair short of it
    found = np.searchsorted(flat, (np.asarray(levels) - 1e-12 + rows).ravel(), side="left").reshape(len(values), -1)
    column = np.minimum(found - values.shape[1] * np.arange(len(values))[:, None], values.shape[1] - 1)
    quantiles = np.take_along_axis(values, np.maximum(column, 0), axis=1)
    means = np.einsum("ij,ij->i", np.where(weights > 0, values, 0.0), weights) / safe_total
    return np.where(known[:, None], quantiles, np.nan), np.where(known, means, np.nan)


def seasonal_naive(values: Floats, *, origin: int, horizon: int, step_s: int) -> dict[str, Floats]:
    """Point forecasts that cost nothing, by name, `(horizon,)` each.

    `persistence` repeats the last value, `yesterday` and `last_week` the same time 1 and 7 days before, `mean_28d` is the mean of the last 28 days at
    that time. NaN where the past is unknown.
    """
    per_day = DAY_S // step_s
    steps = np.arange(origin, origin + horizon)

    def past(days: int) -> Floats:
        index = steps - per_day * (days + (horizon - 1) // per_day)
        return np.where(index >= 0, values[np.maximum(index, 0)], np.nan)

    stack = np.stack([past(day) for day in range(1, 29)])
    counts = np.isfinite(stack).sum(axis=0)
    with np.errstate(invalid="ignore"):
        mean_28d = np.where(counts > 0, np.nansum(stack, axis=0) / counts, np.nan)
    last = values[origin - 1] if origin > 0 else np.nan
    return {"persistence": np.full(horizon, last), "yesterday": stack[0], "last_week": stack[6], "mean_28d": mean_28d}


def recent_mean(values: Floats, *, origin: int, step_s: int, days: int = 28) -> float:
    """Mean of the known values of the last `days` before `origin`: the house's scale. NaN when nothing is known."""
    recent = values[max(origin - days * DAY_S // step_s, 0) : origin]
    known = recent[np.isfinite(recent)]
    return float(known.mean()) if known.size else float("nan")
