"""Series + origins -> ModelInputs: the one place where a feature value is named and computed.

Trainer and agent run this very code. Nothing at or after an origin is read, except the calendar.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Final
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from edge_agent.contract.baseline import QUANTILE_LEVELS, YARDSTICK, Climatology
from edge_agent.contract.errors import ConfigError, DataError, closest
from edge_agent.contract.localtime import DAY_S, local_seconds, weekdays
from edge_agent.contract.schema import ROLES, HouseSpec
from edge_agent.contract.series import MIN_KNOWN_SHARE, Cumulative, Series

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Float32s = npt.NDArray[np.float32]

SCALE_DAYS: Final = 28
MIN_SCALE_W: Final = 1.0
"""A house that uses less than this on average is scaled by this: dividing by nothing helps nobody."""
HOUR_AROUND_S: Final = 1800
LAGS_D: Final = (1, 2, 7)


def _calendar(times: Ints, zone: ZoneInfo) -> dict[str, Floats]:
    """Calendar features at `times`, each of the same shape."""
    local = local_seconds(times, zone)
    day_share = (local % DAY_S) / DAY_S
    weekday = weekdays(local // DAY_S)
    day, week = 2 * np.pi * day_share, 2 * np.pi * (weekday + day_share) / 7
    return {
        "time_of_day_sin": np.sin(day),
        "time_of_day_cos": np.cos(day),
        "day_of_week_sin": np.sin(week),
        "day_of_week_cos": np.cos(week),
        "weekend": (weekday >= 5).astype(np.float64),
    }


CALENDAR: Final = ("time_of_day_sin", "time_of_day_cos", "day_of_week_sin", "day_of_week_cos", "weekend")


@dataclass(frozen=True)
class FeaturePlan:
    """What a model reads and forecasts; travels in the bundle's manifest.

    Context features: `target` (mean per house step), `sensor:NAME`, `role:ROLE` (mean over the house's sensors of that role), and the calendar.
    Future features: the calendar, `lead` (0 … 1 over the horizon), `lag_Nd` (the target N days before that step) and `lag_Nd_hour` (its mean over
    the hour around), N in 1, 2, 7.
    """

    target: str
    """Name of the target, as in `house.toml`."""
    role: str
    """Role of the target's sensor."""
    step_s: int
    """The house's step in s; a plan made for several steps is bound to one by `at_step`."""
    horizon: int
    """Steps forecast."""
    context_step_s: int
    """Step of the context grid in s."""
    context_length: int
    """Context steps read before the origin."""
    context: tuple[str, ...]
    """Channels of the input `context`, in order."""
    future: tuple[str, ...] = ()
    """Channels of the input `future`, in order."""
    anchored: bool = False
    """Whether the model also reads `anchor` (rolling-climatology quantiles and mean) and `scale` (28-day mean)."""
    quantile_levels: tuple[float, ...] = QUANTILE_LEVELS

    def __post_init__(self) -> None:
        for name in self.context:
            if name not in ("target", *CALENDAR) and name.partition(":")[0] not in ("sensor", "role"):
                raise ConfigError(f"unknown context feature {name!r}: {closest(name, ('target', 'sensor:NAME', 'role:ROLE', *CALENDAR))}")
            if name.startswith("role:") and name[5:] not in ROLES:
                raise ConfigError(f"unknown role in context feature {name!r}: {closest(name[5:], ROLES)}")
        for name in self.future:
            if name not in (*CALENDAR, *_FUTURE):
                raise ConfigError(f"unknown future feature {name!r}: {closest(name, (*CALENDAR, *_FUTURE))}")

    @property
    def context_s(self) -> int:
        """Seconds of the context."""
        return self.context_length * self.context_step_s

    @property
    def history_s(self) -> int:
        """Seconds of history before the origin that one forecast looks at."""
        return max(self.context_s, (YARDSTICK.days_back + 1) * DAY_S if self.anchored else 0)

    @property
    def unit(self) -> str:
        """Unit of the forecast; energy is per step."""
        return ROLES[self.role].unit

    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each model input, without the batch axis."""
        shapes: dict[str, tuple[int, ...]] = {"context": (self.context_length, len(self.context))}
        if self.future:
            shapes["future"] = (self.horizon, len(self.future))
        if self.anchored:
            shapes["anchor"] = (self.horizon, len(self.quantile_levels) + 1)
            shapes["scale"] = (1,)
        return shapes

    def at_step(self, step_s: int) -> FeaturePlan:
        """The same plan for a house with another step; the horizon keeps its length in time.

        Raises:
            ConfigError: the plan reads single sensors on the house's own grid and cannot change its step.
        """
        if step_s == self.step_s:
            return self
        if not self.anchored:
            raise ConfigError(f"this model forecasts steps of {self.step_s} s, the house has {step_s} s: set step = {self.step_s} or train again")
        return replace(self, step_s=step_s, horizon=self.horizon * self.step_s // step_s)

    def sensors(self, house: HouseSpec) -> tuple[str, ...]:
        """Sensors of `house` that the plan reads: the target's first, each once.

        Raises:
            ConfigError: the house has no such target, or lacks a sensor that the plan names.
        """
        target = house.target(self.target).sensor
        role = house.sensor(target).role
        if role != self.role:
            raise ConfigError(f"target {self.target!r} of house {house.site!r} is {role}, the model forecasts {self.role}: use a model for {role}")
        names = [target]
        for feature in self.context:
            kind, _, which = feature.partition(":")
            if kind == "sensor":
                names.append(house.sensor(which).name)
            elif kind == "role":
                names.extend(s.name for s in house.sensors if s.role == which)
        return tuple(dict.fromkeys(names))

    def describe(self) -> list[dict[str, str]]:
        """Every input channel in order, with its unit, for the manifest."""
        rows = [{"input": "context", "name": n, "unit": self._unit_of(n)} for n in self.context]
        rows += [{"input": "future", "name": n, "unit": self._unit_of(n)} for n in self.future]
        if self.anchored:
            rows += [{"input": "anchor", "name": f"q{level:g}", "unit": self.unit} for level in self.quantile_levels]
            rows += [{"input": "anchor", "name": "mean", "unit": self.unit}, {"input": "scale", "name": "mean_28d", "unit": self.unit}]
        return rows

    def _unit_of(self, name: str) -> str:
        if name == "target" or name.startswith("lag"):
            return self.unit
        if name.startswith("role:"):
            return ROLES[name[5:]].unit
        return "canonical unit of the sensor" if name.startswith("sensor:") else "1"

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> FeaturePlan:
        """The inverse of `to_dict`.

        Raises:
            ConfigError: keys or feature names that this version does not know.
        """
        unknown = set(data) ^ set(cls.__dataclass_fields__)
        if unknown:
            raise ConfigError(f"feature plan has missing or unknown keys {sorted(unknown)}: upgrade, or train again")
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        return cls(**values)


@dataclass(frozen=True, eq=False)
class ModelInputs:
    """What a model reads for a batch of origins."""

    origins: Ints
    """Unix s, `(n,)`."""
    arrays: dict[str, Float32s]
    """By input name, `(n, *plan.input_shapes()[name])`, physical units, NaN unknown (masking and scaling happen inside the graph)."""


class FeatureBuilder:
    """Computes model inputs for any origins of one series."""

    def __init__(self, plan: FeaturePlan, series: Series, *, target: str, zone: ZoneInfo) -> None:
        """Prepare.

        Args:
            plan: what to compute; its step must be the series'.
            series: the house's history; must hold the target's sensor and every `sensor:` of the plan.
            target: sensor name of the target.
            zone: the house's time zone.

        Raises:
            DataError: another step, or a sensor is missing.
        """
        if plan.step_s != series.step_s:
            raise DataError(f"the plan has steps of {plan.step_s} s, the series of {series.step_s} s: resample the series, or use plan.at_step")
        self.plan, self.series, self.zone = plan, series, zone
        self.target = series.column(target)
        self.cumulative = Cumulative(series)
        self.target_column = series.position(target)
        self._columns = {name: self._columns_of(name) for name in plan.context if name not in CALENDAR}
        self.climatology = Climatology(self.target, start=series.start, step_s=series.step_s, zone=zone, horizon=3 * DAY_S // series.step_s)

    def _columns_of(self, name: str) -> list[int]:
        kind, _, which = name.partition(":")
        if kind == "target":
            return [self.target_column]
        if kind == "sensor":
            return [self.series.position(which)]
        return [i for i, feature in enumerate(self.series.features) if feature.role == which]

    def inputs(self, origins: Ints, anchors: Float32s | None = None) -> ModelInputs:
        """Model inputs for `origins` (unix s, `(n,)`, on the series' grid).

        `anchors` `(n, horizon, n_levels + 1)` may be given where they are known already: they cost most of the time.
        """
        plan = self.plan
        arrays = {"context": self._context(origins)}
        if plan.future:
            arrays["future"] = self._future(origins)
        if plan.anchored:
            arrays["anchor"] = self.anchors(origins) if anchors is None else anchors
            arrays["scale"] = self.scales(origins)
        return ModelInputs(origins, arrays)

    def anchors(self, origins: Ints) -> Float32s:
        """Rolling-climatology quantiles and mean, float32 `(n, horizon, n_levels + 1)`; zero where nothing at all is known."""
        out = np.empty((len(origins), self.plan.horizon, len(self.plan.quantile_levels) + 1), np.float32)
        for i, origin in enumerate(origins):
            quantiles, mean = self.climatology.filled(self.series.index(int(origin)), self.plan.horizon, self.plan.quantile_levels)
            out[i, :, :-1], out[i, :, -1] = quantiles, mean
        return np.nan_to_num(out, nan=0.0)

    def scales(self, origins: Ints) -> Float32s:
        """The target's mean over the 28 days before each origin, float32 `(n, 1)`; never below what 1 W makes in a step."""
        edges = np.stack([origins - SCALE_DAYS * DAY_S, origins], axis=1)
        means, _ = self.cumulative.means(edges, [self.target_column])
        floor = MIN_SCALE_W * self.plan.step_s / 3600
        return np.fmax(means[:, :, 0], floor).astype(np.float32)

    def _context(self, origins: Ints) -> Float32s:
        plan = self.plan
        edges = origins[:, None] + plan.context_step_s * np.arange(-plan.context_length, 1)
        calendar = _calendar(edges[:, :-1], self.zone) if set(plan.context) & set(CALENDAR) else {}
        needed = sorted({c for columns in self._columns.values() for c in columns})
        means = self._context_means(origins, edges, needed)
        out = np.empty((len(origins), plan.context_length, len(plan.context)), np.float32)
        for channel, name in enumerate(plan.context):
            out[..., channel] = calendar[name] if name in calendar else _mean_known(means[..., [needed.index(c) for c in self._columns[name]]])
        return out

    def _context_means(self, origins: Ints, edges: Ints, columns: list[int]) -> Floats:
        """Mean per house step of the columns over each context interval, `(n, context_length, n_columns)`."""
        plan = self.plan
        if plan.context_step_s == plan.step_s:  # the values themselves: exact, and several times faster
            rows = (origins[:, None] - self.series.start) // plan.step_s + np.arange(-plan.context_length, 0)
            values = self.series.values[:, columns][np.clip(rows, 0, max(len(self.series) - 1, 0))]
            values[(rows < 0) | (rows >= len(self.series))] = np.nan
            return values
        means, known = self.cumulative.means(edges, columns)
        means[known < MIN_KNOWN_SHARE] = np.nan
        return means

    def _future(self, origins: Ints) -> Float32s:
        plan = self.plan
        times = origins[:, None] + plan.step_s * np.arange(plan.horizon)
        calendar = _calendar(times, self.zone)
        out = np.empty((len(origins), plan.horizon, len(plan.future)), np.float32)
        for channel, name in enumerate(plan.future):
            out[..., channel] = calendar[name] if name in calendar else _FUTURE[name](self, origins, times)
        return out

    def lead(self, _origins: Ints, times: Ints) -> Floats:
        """Position in the horizon, 0 … 1."""
        lead = (np.arange(self.plan.horizon) + 0.5) / self.plan.horizon
        return np.tile(lead, (len(times), 1))

    def lag(self, origins: Ints, times: Ints, days: int) -> Floats:
        """The target `days` before each time; NaN where that is not yet past at the origin."""
        past = times - days * DAY_S
        rows = (past - self.series.start) // self.plan.step_s
        known = (rows >= 0) & (rows < len(self.series)) & (past < origins[:, None])
        return np.where(known, self.target[np.clip(rows, 0, max(len(self.series) - 1, 0))], np.nan)

    def lag_hour(self, origins: Ints, times: Ints, days: int) -> Floats:
        """The target's mean per step in the hour around the time `days` before, as far as it lies before the origin."""
        middle = times - days * DAY_S + self.plan.step_s // 2
        edges = np.stack([middle - HOUR_AROUND_S, middle + HOUR_AROUND_S], axis=-1)
        means, _ = self.cumulative.means(np.minimum(edges, origins[:, None, None]), [self.target_column])
        return means[..., 0, 0]

    def known_share(self, origin: int, sensor: str, seconds: int) -> float:
        """Share of the `seconds` before `origin` for which `sensor` is known."""
        _, known = self.cumulative.means(np.array([origin - seconds, origin], np.int64), [self.series.position(sensor)])
        return float(known[0, 0])


def _mean_known(values: Floats) -> Floats:
    """Mean over the last axis of what is known; NaN where nothing is."""
    if values.shape[-1] == 1:
        return values[..., 0]
    known = np.isfinite(values)
    counts = known.sum(axis=-1)
    total = np.where(known, values, 0.0).sum(axis=-1)
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)


_Feature = Callable[[FeatureBuilder, Ints, Ints], Floats]


def _future_features() -> dict[str, _Feature]:
    table: dict[str, _Feature] = {"lead": FeatureBuilder.lead}
    for days in LAGS_D:
        table[f"lag_{days}d"] = lambda b, o, t, d=days: b.lag(o, t, d)  # type: ignore[misc]
        table[f"lag_{days}d_hour"] = lambda b, o, t, d=days: b.lag_hour(o, t, d)  # type: ignore[misc]
    return table


_FUTURE: Final = _future_features()
