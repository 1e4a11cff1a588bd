"""A state without a model, such as a room's temperature: naive forecasts, mixed by how well each did of late, in a band of the mixture's past errors.

Which naive forecast is best differs by room, hour and season: a heated room stays as it is, a sunlit one does as it did yesterday. So each is asked
at this time of day on the days before, and weighs by the inverse of its mean squared error at each lead time (Bates and Granger, "The combination of
forecasts", Operational Research Quarterly 20, 1969). On the first 80 % of the reference house that is 17 % (temperature) and 15 % (humidity) better
than the best naive forecast of each room, which nobody knows beforehand; the rolling climatology is 60 % worse (trainer/LOG.md, 2026-11-26).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from edge_agent.contract.localtime import DAY_S, HOUR_S

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MEMBERS: Final = ("persistence", "yesterday", "usual_change", "usual_level")
PAST_DAYS: Final = 28
"""Days on which the members are asked what they would have said."""
DECAY_DAYS: Final = 14.0
CHANGE_DAYS: Final = 3
LEVEL_DAYS: Final = 7
NEAR_H: Final = 2
"""A band is made of the errors of its hour ahead and of these many on either side: 28 errors alone are few."""
LEAST_ERROR: Final = 1e-3
"""degC or %: no member is so good that the others count for nothing."""


class NaiveMixture:
    """Mixed naive forecasts of one series at any origins.

    The members, of which an unknown one is left out: `persistence` is the last known value, a day old at most; `yesterday` the value a day before;
    `usual_change` goes on from the last value as the last three days did on average from theirs; `usual_level` is the mean of the last seven days at
    that time. Days are 24 hours: a clock change costs a day or two of an hour's shift.
    """

    def __init__(self, values: Floats, *, step_s: int) -> None:
        """Prepare. `values` `(n_steps,)`, NaN unknown."""
        self.values, self.step_s, self.per_day = np.asarray(values, np.float64), step_s, DAY_S // step_s
        rows = np.arange(len(values))
        known = np.maximum.accumulate(np.where(np.isfinite(self.values), rows, -self.per_day - 1)) if len(values) else rows
        is_fresh = rows - known < self.per_day
        self._last = np.where(is_fresh, self.values.take(np.maximum(known, 0)), np.nan) if len(values) else self.values

    def at(self, origins: Ints, horizon: int, levels: tuple[float, ...]) -> tuple[Floats, Floats]:
        """Quantiles `(n, horizon, n_levels)`, ascending, and mean `(n, horizon)`, from the values before each origin (row, `(n,)`).

        NaN where nothing is known; of a first day the quantiles, because nothing has been missed yet.
        The band is as wide above as below: 28 days are too few to tell a lasting bias from the weather they had.
        """
        asked = origins[:, None] - self.per_day * np.arange(PAST_DAYS + 1)
        members = self._members(asked, horizon)
        outcomes = self._known_at(asked[:, 1:], origins, horizon)
        weights = self._weights(outcomes[..., None] - members[:, 1:])
        mixed = _mixed(members, weights[:, None])
        width = self._width(np.abs(outcomes - mixed[:, 1:]), horizon, levels)
        mean = mixed[:, 0]
        return mean[..., None] + width, mean

    def _members(self, origins: Ints, horizon: int) -> Floats:
        """Each member's forecast, `(n, n_days, horizon, n_members)`."""
        steps = np.arange(horizon)
        day = self.per_day * -(-(1 + steps) // self.per_day)  # back to the last day that ends before the origin
        rows = origins[..., None] + steps - day
        last = self._last_before(origins)
        days = [self._value(rows - self.per_day * back) for back in range(LEVEL_DAYS)]
        moves = [days[back] - self._last_before(origins - self.per_day * (1 + back)) for back in range(CHANGE_DAYS)]
        return np.stack([np.broadcast_to(last, rows.shape), days[0], last + _mean(moves), _mean(days)], axis=-1)

    def _last_before(self, origins: Ints) -> Floats:
        """The last known value, `(…, 1)`."""
        return self._value(origins - 1, self._last)[..., None]

    def _value(self, rows: Ints, values: Floats | None = None) -> Floats:
        values = self.values if values is None else values
        inside = (rows >= 0) & (rows < len(values))
        return np.where(inside, values.take(np.where(inside, rows, 0)), np.nan) if len(values) else np.full(rows.shape, np.nan)

    def _known_at(self, asked: Ints, origins: Ints, horizon: int) -> Floats:
        """What came after past origins, `(n, n_days, horizon)`, as far as it is known at the origin."""
        rows = asked[..., None] + np.arange(horizon)
        return np.where(rows < origins[:, None, None], self._value(rows), np.nan)

    def _weights(self, errors: Floats) -> Floats:
        """Of the members at each step, `(n, horizon, n_members)`, from their errors on the days before; equal where there are none."""
        squared = self._by_hour(np.square(errors), axis=2)
        days = np.exp(-np.arange(PAST_DAYS) / DECAY_DAYS)[:, None, None]
        known = np.isfinite(squared)
        weight = (known * days).sum(axis=1)
        mean = (np.where(known, squared, 0.0) * days).sum(axis=1) / np.where(weight > 0, weight, 1.0)
        inverse = np.where(weight > 0, 1.0 / (mean + LEAST_ERROR**2), np.nan)
        usual = np.nan_to_num(_mean(list(np.moveaxis(inverse, -1, 0))), nan=1.0)[..., None]
        return np.repeat(np.where(np.isfinite(inverse), inverse, usual), self._per_hour, axis=1)[:, : errors.shape[2]]

    @property
    def _per_hour(self) -> int:
        return max(HOUR_S // self.step_s, 1)

    def _by_hour(self, values: Floats, *, axis: int) -> Floats:
        """Means over the known steps of each hour ahead."""
        hours = np.array_split(values, -(-values.shape[axis] // self._per_hour), axis=axis)
        return np.stack([_mean(list(np.moveaxis(hour, axis, 0))) for hour in hours], axis=axis)

    def _width(self, misses: Floats, horizon: int, levels: tuple[float, ...]) -> Floats:
        """From the mean to each level, `(n, horizon, n_levels)`: quantiles of past misses `(n, n_days, horizon)`, half of them on either side."""
        level = np.asarray(levels)
        inner = np.abs(2 * level - 1)
        parts = []
        for first in range(0, horizon, self._per_hour):
            near = misses[:, :, max(first - NEAR_H * self._per_hour, 0) : first + (NEAR_H + 1) * self._per_hour]
            part = _quantiles_known(near.reshape(len(misses), -1), inner)
            parts.append(np.repeat(part[:, None], min(self._per_hour, horizon - first), axis=1))
        return np.sign(level - 0.5) * np.concatenate(parts, axis=1)


def _mean(parts: list[Floats]) -> Floats:
    """Over the parts that are known; NaN where none is."""
    known = sum(np.isfinite(part) for part in parts)
    total = sum(np.nan_to_num(part, nan=0.0) for part in parts)
    return np.where(known > 0, total / np.maximum(known, 1), np.nan)


def _mixed(members: Floats, weights: Floats) -> Floats:
    """Weighted mean over the last axis of the members that are known; NaN where none is."""
    weights = np.where(np.isfinite(members), weights, 0.0)
    total = weights.sum(axis=-1)
    return np.where(total > 0, (np.nan_to_num(members, nan=0.0) * weights).sum(axis=-1) / np.where(total > 0, total, 1.0), np.nan)


def _quantiles_known(values: Floats, levels: Floats) -> Floats:
    """Quantiles of the known values of each row, `(n_rows, n_levels)`, straight lines between them; NaN where none is known."""
    ordered = np.sort(values, axis=1)  # NaN last
    last = np.isfinite(values).sum(axis=1)[:, None] - 1
    place = levels * np.maximum(last, 0)
    below = np.floor(place).astype(np.int64)
    low = np.take_along_axis(ordered, below, axis=1)
    high = np.take_along_axis(ordered, np.minimum(below + 1, np.maximum(last, 0)), axis=1)
    return np.where(last >= 0, low + (place - below) * (high - low), np.nan)
