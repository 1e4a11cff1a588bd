"""Rolling climatology and the seasonal-naive family: the anchor, the fallback and the yardstick are this one code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from edge_agent.contract.localtime import DAY_S, utc_offsets_s, weekdays

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
BLOCK_VALUES: Final = 16_000
"""Candidates worked on together: arrays of 128 kB stay in the cache, and larger ones are fresh memory each time, which costs more than the work."""


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
        self.horizon = horizon
        times = start + step_s * np.arange(len(values) + horizon, dtype=np.int64)
        offsets = utc_offsets_s(times, zone)
        self._offset_steps = offsets // step_s
        self._offset_changes = np.cumsum(np.diff(self._offset_steps, prepend=self._offset_steps[:1]) != 0)
        self._is_weekend = (weekdays((times + offsets) // DAY_S) >= 5).astype(np.int64)
        self._lags, self._lag_weights = _lags(settings, step_s)
        known = np.isfinite(values)
        self._known_values = np.where(known, values, 0.0)
        same_type = np.arange(2)[:, None] == self._is_weekend[: len(values)]
        # of each value, for a step on a working day and for one on a weekend: (2 * n,), flat because one `take` is faster than a pair of indices
        self._value_weights = (known * np.where(same_type, 1.0, settings.other_day_type)).ravel()
        self._bits = len(self._lags).bit_length()
        self._ascending, self._sort_keys = _sort_keys(values, self._bits)

    def rows(self, steps: Ints, cutoffs: Ints, levels: tuple[float, ...]) -> tuple[Floats, Floats]:
        """Quantiles `(n, n_levels)` and mean `(n,)` for each of `steps`, from the values before its own cutoff; both are row numbers, `(n,)`."""
        size = max(BLOCK_VALUES // len(self._lags), 1)
        parts = [self._block(steps[i : i + size], cutoffs[i : i + size], levels) for i in range(0, len(steps), size)]
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])

    def _block(self, steps: Ints, cutoffs: Ints, levels: tuple[float, ...]) -> tuple[Floats, Floats]:
        inside, is_out = self._candidates(steps, cutoffs)
        weights = self._lag_weights * self._value_weights.take(inside + len(self.values) * self._is_weekend[steps][:, None])
        if is_out is not None:
            weights[is_out] = 0.0
        means = np.einsum("ij,ij->i", self._known_values.take(inside), weights)
        # The keys sort as the values do and carry the candidate's number in their low bits: four times as fast as sorting the values themselves.
        keys = np.bitwise_or(self._sort_keys.take(inside), np.arange(len(self._lags), dtype=self._sort_keys.dtype))
        keys.sort(axis=1)
        candidates = (keys & ((1 << self._bits) - 1)) + len(self._lags) * np.arange(len(steps))[:, None]
        columns, total = quantile_columns(weights.take(candidates), levels)
        known = total > 0
        quantiles = self._ascending[np.take_along_axis(keys, columns, axis=1) >> self._bits]
        return np.where(known[:, None], quantiles, np.nan), np.where(known, means / np.where(known, total, 1.0), np.nan)

    def _candidates(self, steps: Ints, cutoffs: Ints) -> tuple[Ints, npt.NDArray[np.bool_] | None]:
        """Rows of the candidates of each step, `(n, n_lags)`, and which of them lie outside the past; None when none does."""
        index = steps[:, None] - self._lags
        first, last = int(steps.min() - self._lags.max()), int(steps.max() - self._lags.min())
        changes = self._offset_changes.take([max(first, 0), int(steps.max())])
        if changes[0] != changes[1]:  # the same wall time, also across a clock change
            index += self._offset_steps[steps][:, None] - self._offset_steps.take(np.maximum(index, 0))
        elif first >= 0 and last < cutoffs.min():
            return index, None
        inside = np.maximum(np.minimum(index, cutoffs[:, None] - 1), 0)
        return inside, index != inside

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
        steps = np.arange(origin + skip, origin + horizon)
        return self.rows(steps, np.full_like(steps, origin), levels)

    def filled(self, origin: int, horizon: int | None = None, levels: tuple[float, ...] = QUANTILE_LEVELS, *, skip: int = 0) -> tuple[Floats, Floats]:
        """As `at`, but where that time of day has no past value, the quantiles and mean of the last days as a whole; NaN when nothing is known."""
        quantiles, mean = self.at(origin, horizon, levels, skip=skip)
        self._fill(origin, quantiles, mean, levels)
        return quantiles, mean

    def filled_at(self, origins: Ints, horizon: int, levels: tuple[float, ...] = QUANTILE_LEVELS) -> tuple[Floats, Floats]:
        """As `filled`, at many origins: quantiles `(n, horizon, n_levels)` and mean `(n, horizon)`.

        Origins that lie close together share most rows, because a row depends on its origin only where a candidate lies beyond it.
        """
        quantiles, mean = np.full((len(origins), horizon, len(levels)), np.nan), np.full((len(origins), horizon), np.nan)
        past = np.flatnonzero(origins > 0)
        if len(past):
            steps, cutoffs = origins[past, None] + np.arange(horizon), np.repeat(origins[past, None], horizon, axis=1)
            is_own = self._latest(int(steps.min()), int(steps.max()) + 1)[steps - steps.min()] >= cutoffs
            shared, place = _distinct(steps[~is_own])
            found = self.rows(np.append(shared, steps[is_own]), np.append(np.full_like(shared, len(self.values)), cutoffs[is_own]), levels)
            where = np.empty_like(steps)
            where[~is_own], where[is_own] = place, np.arange(len(shared), len(found[1]))
            quantiles[past], mean[past] = found[0].take(where, axis=0), found[1].take(where)
        for i in np.flatnonzero(np.isnan(mean).any(axis=1)):
            self._fill(int(origins[i]), quantiles[i], mean[i], levels)
        return quantiles, mean

    def _latest(self, first: int, last: int) -> Ints:
        """Row of the latest candidate of each step in `[first, last)`."""
        steps = np.arange(first, last)
        least = int(self._lags.min())
        lags = self._lags[self._lags <= least + int(np.ptp(self._offset_steps))][:, None]
        index = steps - lags
        return np.asarray((index + self._offset_steps[steps] - self._offset_steps.take(np.maximum(index, 0))).max(axis=0))

    def _fill(self, origin: int, quantiles: Floats, mean: Floats, levels: tuple[float, ...]) -> None:
        """Fill unknown steps, in place, from the last days as a whole."""
        empty = np.isnan(mean)
        if empty.any():
            recent = self.values[max(origin - self.settings.days_back * DAY_S // self.step_s, 0) : origin]
            recent = recent[np.isfinite(recent)]
            if recent.size:
                quantiles[empty], mean[empty] = np.quantile(recent, levels), recent.mean()


def _distinct(numbers: Ints) -> tuple[Ints, Ints]:
    """The distinct ones in ascending order, and the place of each among them: faster than sorting where they lie close together."""
    if not numbers.size:
        return numbers, numbers
    first = int(numbers.min())
    present = np.zeros(int(numbers.max()) - first + 1, np.bool_)
    present[numbers - first] = True
    return first + np.flatnonzero(present), (np.cumsum(present) - 1)[numbers - first]


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


def _sort_keys(values: Floats, bits: int) -> tuple[Floats, npt.NDArray[np.int32] | Ints]:
    """The values in ascending order, and for each value its place in that order, shifted to leave `bits` low bits free."""
    order = np.argsort(values, kind="stable")
    keys = np.empty(len(values), np.int64)
    keys[order] = np.arange(len(values)) << bits
    return values[order], keys.astype(np.int32) if len(values) << bits <= np.iinfo(np.int32).max else keys


def quantile_columns(weights: Floats, levels: tuple[float, ...]) -> tuple[Ints, Floats]:
    """Where weighted quantiles stand among ascending values: the first column at which the share of the weight reaches each level.

    This is the inverse of the step distribution function: a quantile is always one of the values, never a number between two.

    Args:
        weights: of values that ascend along the rows, `(n_rows, n)`, not negative.
        levels: ascending.

    Returns:
        Columns `(n_rows, n_levels)` and total weights `(n_rows,)`; the columns of a row without weight mean nothing.
    """
    n_rows, n = weights.shape
    cumulative = np.cumsum(weights, axis=1)
    total: Floats = cumulative[:, -1].copy()
    # One search for all rows: row r's distribution function is shifted to [2r, 2r + 1], so that the flat array ascends.
    row = np.arange(n_rows)[:, None]
    cumulative /= np.where(total > 0, total, 1.0)[:, None]
    cumulative += 2.0 * row
    # a hair below each level, because sums of floats may fall a hair short of it
    found = np.searchsorted(cumulative.ravel(), (np.asarray(levels) - 1e-12 + 2.0 * row).ravel(), side="left")
    columns: Ints = np.clip(found.reshape(n_rows, -1) - n * row, 0, n - 1)
    return columns, total


def seasonal_naive(values: Floats, *, origin: int, horizon: int, step_s: int) -> dict[str, Floats]:
    """Point forecasts that cost nothing, by name, `(horizon,)` each.

    `persistence` repeats the last value, `yesterday` and `last_week` the same time 1 and 7 days before, `mean_28d` is the mean of the last 28 days at
    that time, `change` begins at the last value and moves as yesterday did. NaN where the past is unknown.
    """
    return {name: rows[0] for name, rows in seasonal_naive_at(values, np.array([origin]), horizon=horizon, step_s=step_s).items()}


def seasonal_naive_at(values: Floats, origins: Ints, *, horizon: int, step_s: int) -> dict[str, Floats]:
    """As `seasonal_naive`, at many origins (rows): `(n, horizon)` each. What lies a day or more back does not depend on the origin."""
    per_day = DAY_S // step_s
    steps, place = _distinct(origins[:, None] + np.arange(horizon))

    def past(days: int) -> Floats:
        index = steps - per_day * (days + (horizon - 1) // per_day)
        return np.where(index >= 0, values.take(np.maximum(index, 0)), np.nan)

    stack = np.stack([past(day) for day in range(1, 29)])
    counts = np.isfinite(stack).sum(axis=0)
    with np.errstate(invalid="ignore"):
        mean_28d = np.where(counts > 0, np.nansum(stack, axis=0) / counts, np.nan)
    last = np.where(origins > 0, values.take(np.maximum(origins - 1, 0)), np.nan)
    before = np.where(origins > per_day, values.take(np.maximum(origins - 1 - per_day, 0)), np.nan)
    by_step = {name: row[place] for name, row in (("yesterday", stack[0]), ("last_week", stack[6]), ("mean_28d", mean_28d))}
    return {
        "persistence": np.repeat(last[:, None], horizon, axis=1),
        **by_step,
        "change": (last - before)[:, None] + by_step["yesterday"],
    }
