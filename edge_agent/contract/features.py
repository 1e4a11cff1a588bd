"""Series + origins -> ModelInputs: the one place where a feature value is named and computed.

Trainer and agent run this very code. Nothing at or after an origin is read, except the calendar; the weather ahead, and that of the past where no
sensor tells it, is what its source says.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from edge_agent.contract.baseline import Climatology
from edge_agent.contract.errors import DataError
from edge_agent.contract.localtime import DAY_S, local_seconds
from edge_agent.contract.mixture import NaiveMixture
from edge_agent.contract.plan import CALENDAR, LAGS, MAX_LAG_S, FeaturePlan
from edge_agent.contract.schema import ROLES, WEATHER_ROLES
from edge_agent.contract.series import MIN_KNOWN_SHARE, Cumulative, Series
from edge_agent.contract.weather import WeatherSource, mean_known

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Float32s = npt.NDArray[np.float32]

SCALE_DAYS: Final = 28
MIN_SCALE_W: Final = 1.0
"""A house that uses less than this on average is scaled by this: dividing by nothing helps nobody."""
HOUR_AROUND_S: Final = 1800
WEEK_S: Final = 7 * DAY_S
SLOT_S: Final = 300
"""Divides every step, and every time zone's offset since 1972."""


def calendar(times: Ints, zone: ZoneInfo) -> Float32s:
    """The features named in CALENDAR at `times` (unix s, any shape), float32 `(..., 5)`."""
    monday = local_seconds(times, zone) + 3 * DAY_S  # 1970-01-01 was a Thursday
    return _week().take(monday % WEEK_S // SLOT_S, axis=0)


@cache
def _week() -> Float32s:
    """Calendar features of every slot of a week, float32 `(2016, 5)`: a look-up is ten times as fast as four sines."""
    second = np.arange(0, WEEK_S, SLOT_S)
    day, week = 2 * np.pi * (second % DAY_S) / DAY_S, 2 * np.pi * second / WEEK_S
    weekend = second >= 5 * DAY_S
    return np.stack([np.sin(day), np.cos(day), np.sin(week), np.cos(week), weekend], axis=-1).astype(np.float32)


@dataclass(frozen=True, eq=False)
class ModelInputs:
    """What a model reads for a batch of origins."""

    origins: Ints
    """Unix s, `(n,)`."""
    arrays: dict[str, Float32s]
    """By input name, `(n, *plan.input_shapes()[name])`, physical units, NaN unknown (masking and scaling happen inside the graph)."""


class FeatureBuilder:
    """Computes model inputs for any origins of one series.

    What a feature is at a step depends on that step alone, but for `lead` and for what an origin cuts off. So each is computed once for every step,
    and the inputs for an origin are copies of rows.
    """

    def __init__(
        self,
        plan: FeaturePlan,
        series: Series,
        *,
        target: str,
        zone: ZoneInfo,
        first_origin: int | None = None,
        weather: WeatherSource | None = None,
    ) -> None:
        """Prepare.

        Args:
            plan: what to compute; its step must be the series'.
            series: the house's history; must hold the target's sensor and every `sensor:` of the plan.
            target: sensor name of the target.
            zone: the house's time zone.
            first_origin: unix s; none before it will be asked for, which saves work. None: the start of the series.
            weather: tells the weather over the horizon, for a plan that reads it, and stands in for sensors of the past; None: it is unknown.

        Raises:
            DataError: another step, or a sensor is missing.
        """
        if plan.step_s != series.step_s:
            raise DataError(f"the plan has steps of {plan.step_s} s, the series of {series.step_s} s: resample the series, or use plan.at_step")
        self.plan, self.series, self.zone, self.weather = plan, series, zone, weather
        self.target = series.column(target)
        self._first_origin = series.start if first_origin is None else first_origin
        self._target_means = Cumulative(series.select((target,)))
        self._context_step_s = min(plan.step_s, plan.context_step_s)
        self._context_rows = self._make_context_rows(target)
        self._future_rows = self._make_future_rows()
        horizon = max(plan.horizon, 3 * DAY_S // plan.step_s)
        self.climatology = Climatology(self.target, start=series.start, step_s=series.step_s, zone=zone, horizon=horizon)
        self.mixture = NaiveMixture(self.target, step_s=series.step_s) if ROLES[plan.role].kind == "state" else None

    def inputs(self, origins: Ints, anchors: Float32s | None = None) -> ModelInputs:
        """Model inputs for `origins` (unix s, `(n,)`, on the series' grid, from the first origin to its end).

        `anchors` `(n, horizon, n_levels + 1)` may be given where they are known already: they cost most of the time.

        Raises:
            DataError: an origin lies outside the series or off its grid.
        """
        plan = self.plan
        arrays = {"context": self._context(origins)}
        if plan.future:
            arrays["future"] = self._future(origins)
        if plan.daily_length:
            arrays["daily"] = self._daily(origins)
        if plan.weather:
            arrays["weather"] = self._weather(origins)
        if plan.anchored:
            arrays["anchor"] = self.anchors(origins) if anchors is None else anchors
            arrays["scale"] = self.scales(origins)
        return ModelInputs(origins, arrays)

    def anchors(self, origins: Ints) -> Float32s:
        """Quantiles and mean without a model, float32 `(n, horizon, n_levels + 1)`; zero where nothing at all is known.

        Energy: the rolling climatology's. States: those of the mixture of naive forecasts, the climatology's where it knows nothing.
        """
        rows, plan = self._rows(origins, since=self.series.start), self.plan
        if self.mixture is None:
            quantiles, mean = self.climatology.filled_at(rows, plan.horizon, plan.quantile_levels)
        else:
            quantiles, mean = self.mixture.at(rows, plan.horizon, plan.quantile_levels)
            lost = np.flatnonzero(np.isnan(quantiles).any(axis=(1, 2)))
            if len(lost):
                quantiles[lost], mean[lost] = self.climatology.filled_at(rows[lost], plan.horizon, plan.quantile_levels)
        anchors: Float32s = np.nan_to_num(np.concatenate([quantiles, mean[..., None]], axis=-1), nan=0.0).astype(np.float32)
        return anchors

    def scales(self, origins: Ints) -> Float32s:
        """The target's mean over the 28 days before each origin, float32 `(n, 1)`; never below what 1 W makes in a step."""
        edges = np.stack([origins - SCALE_DAYS * DAY_S, origins], axis=1)
        means, _ = self._target_means.means(edges)
        floor = MIN_SCALE_W * self.plan.step_s / 3600
        return np.fmax(means[:, :, 0], floor).astype(np.float32)

    def _daily(self, origins: Ints) -> Float32s:
        """The target's mean per step in each of the last spans of 24 hours, the oldest first, float32 `(n, daily_length)`; NaN unknown."""
        edges = origins[:, None] + DAY_S * np.arange(-self.plan.daily_length, 1)
        means, known = self._target_means.means(edges)
        return np.where(known[..., 0] >= MIN_KNOWN_SHARE, means[..., 0], np.nan).astype(np.float32)

    def _weather(self, origins: Ints) -> Float32s:
        """The weather forecast, float32 `(n, horizon, n_roles)`; NaN unknown."""
        plan = self.plan
        if self.weather is None:
            return np.full((len(origins), plan.horizon, len(plan.weather)), np.nan, np.float32)
        return self.weather.ahead(origins, horizon=plan.horizon, step_s=plan.step_s, roles=plan.weather)

    def known_share(self, origin: int, sensor: str, seconds: int) -> float:
        """Share of the `seconds` before `origin` for which `sensor` is known."""
        return float(self.known_shares(np.array([origin], np.int64), sensor, seconds)[0])

    def known_shares(self, origins: Ints, sensor: str, seconds: int) -> Floats:
        """As `known_share`, at many origins, `(n,)`."""
        n_rows, rows = seconds // self.series.step_s, (origins - self.series.start) // self.series.step_s
        low, high = (np.clip(edge, 0, len(self.series)) for edge in (rows - n_rows, rows))
        first = int(low.min())
        known = np.cumsum(np.isfinite(self.series.column(sensor)[first : int(high.max())]))
        counts = np.append(0, known)
        return np.asarray((counts[high - first] - counts[low - first]) / n_rows)

    def _rows(self, origins: Ints, *, since: int) -> Ints:
        """Steps from `since` to each origin."""
        if ((origins - self.series.start) % self.series.step_s).any() or (origins < self._first_origin).any() or (origins > self.series.end).any():
            raise DataError(
                f"an origin lies outside the series or off its grid of {self.series.step_s} s: pad the series with between(), or give others"
            )
        return (origins - since) // self.series.step_s

    def _context(self, origins: Ints) -> Float32s:
        plan, step_s = self.plan, self._context_step_s
        first = self._rows(origins, since=self._first_origin) * (plan.step_s // step_s)
        rows = first[:, None] + plan.context_step_s // step_s * np.arange(plan.context_length)
        context: Float32s = np.take(self._context_rows, rows, axis=0)
        return context

    def _make_context_rows(self, target: str) -> Float32s:
        """Context features of the interval that begins at each row, float32 `(n_rows, n_context)`.

        The rows begin one context before the first origin, on the finer of both grids.
        """
        plan, step_s = self.plan, self._context_step_s
        start = self._first_origin - plan.context_s
        padded = self.series.between(start // plan.step_s * plan.step_s, self.series.end)

        def means_of(values: Floats) -> Floats:
            """Of each interval's values, from values of each step `(n_steps, n)`."""
            finer = np.repeat(values, plan.step_s // step_s, axis=0)[(start - padded.start) // step_s :]
            return _means_of_next(finer, plan.context_step_s // step_s)

        columns = {name: self._columns_of(name, target) for name in plan.context if name not in CALENDAR}
        needed = sorted({column for which in columns.values() for column in which})
        means = means_of(padded.values[:, needed])
        by_time = calendar(start + step_s * np.arange(len(means)), self.zone)
        rows = np.empty((len(means), len(plan.context)), np.float32)
        for channel, name in enumerate(plan.context):
            if name in CALENDAR:
                rows[:, channel] = by_time[:, CALENDAR.index(name)]
                continue
            rows[:, channel] = mean_known(means[:, [needed.index(c) for c in columns[name]]])
            role, unknown = name.removeprefix("role:"), np.isnan(rows[:, channel])
            if self.weather is not None and role in WEATHER_ROLES and unknown.any():
                forecast = means_of(self.weather.before(padded.times, step_s=plan.step_s, role=role)[:, None])
                rows[unknown, channel] = forecast[unknown, 0]
        return rows

    def _columns_of(self, name: str, target: str) -> list[int]:
        kind, _, which = name.partition(":")
        if kind == "role":
            return [i for i, feature in enumerate(self.series.features) if feature.role == which]
        return [self.series.position(target if kind == "target" else which)]

    def _future(self, origins: Ints) -> Float32s:
        plan = self.plan
        out: Float32s = np.take(self._future_rows, self._rows(origins, since=self._first_origin)[:, None] + np.arange(plan.horizon), axis=0)
        for channel, name in enumerate(plan.future):
            if name == "lead":
                out[..., channel] = (np.arange(plan.horizon) + 0.5) / plan.horizon
            elif name in LAGS:
                self._cut_off(out[..., channel], origins, *LAGS[name])
        return out

    def _cut_off(self, lagged: Float32s, origins: Ints, days: int, is_hour: bool) -> None:
        """Take out of the lagged values `(n, horizon)`, in place, what lies at or after the origin."""
        reach_s = self.plan.step_s // 2 + HOUR_AROUND_S if is_hour else self.plan.step_s
        ahead_s = self.plan.step_s * np.arange(self.plan.horizon) - days * DAY_S
        late = ahead_s + reach_s > 0
        if late.any():
            lagged[:, late] = self._hour_around(origins[:, None] + ahead_s[late], before=origins[:, None]) if is_hour else np.nan

    def _make_future_rows(self) -> Float32s:
        """Future features of each step from the first origin to a horizon past the series' end, float32 `(n_rows, n_future)`; `lead` is left open."""
        plan, series, start = self.plan, self.series, self._first_origin
        end = series.end + plan.horizon * plan.step_s if plan.future else start
        past = Series(series.start, series.step_s, series.features[:1], self.target[:, None]).between(start - MAX_LAG_S, end)
        lagged = {False: past.values[:, 0], True: self._hour_around(past.times, before=np.int64(series.end))}
        n_rows = (end - start) // plan.step_s
        by_time = calendar(start + plan.step_s * np.arange(n_rows), self.zone)
        rows = np.zeros((n_rows, len(plan.future)), np.float32)
        for channel, name in enumerate(plan.future):
            if name in CALENDAR:
                rows[:, channel] = by_time[:, CALENDAR.index(name)]
            elif name in LAGS:
                days, is_hour = LAGS[name]
                first = (MAX_LAG_S - days * DAY_S) // plan.step_s
                rows[:, channel] = lagged[is_hour][first : first + n_rows]
        return rows

    def _hour_around(self, times: Ints, *, before: Ints | np.int64) -> Floats:
        """The target's mean per step in the hour around the middle of the step at each of `times`, as far as it lies before `before`."""
        middle = times + self.plan.step_s // 2
        edges = np.stack([np.minimum(middle - HOUR_AROUND_S, before), np.minimum(middle + HOUR_AROUND_S, before)], axis=-1)
        means, _ = self._target_means.means(edges)
        return means[..., 0, 0]


def _means_of_next(values: Floats, count: int) -> Floats:
    """Mean of each row and the `count - 1` after it, `(n, n_columns)`; unknown where less than MIN_KNOWN_SHARE of it is known or rows are wanting."""
    if count == 1:
        return values
    known = np.isfinite(values)
    filled = np.where(known, values, 0.0)
    n = max(len(values) - count + 1, 0)
    total, counts = filled[:n].copy(), known[:n].astype(np.float64)
    for i in range(1, count):
        total += filled[i : i + n]
        counts += known[i : i + n]
    out = np.full(values.shape, np.nan)
    np.divide(total, counts, out=out[:n], where=counts >= MIN_KNOWN_SHARE * count)
    return out
