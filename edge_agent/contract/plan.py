"""FeaturePlan: what a model reads and forecasts, and the names of all features."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np

from edge_agent.contract.baseline import QUANTILE_LEVELS, YARDSTICK
from edge_agent.contract.errors import ConfigError, closest
from edge_agent.contract.forecast import PUBLISHED_LEVELS
from edge_agent.contract.localtime import DAY_S
from edge_agent.contract.schema import ROLES, WEATHER_ROLES, HouseSpec

CALENDAR: Final = ("time_of_day_sin", "time_of_day_cos", "day_of_week_sin", "day_of_week_cos", "weekend")
LAG_DAYS: Final = (1, 2, 3, 4, 5, 6, 7, 14, 21, 28)
LAGS: Final = {f"lag_{days}d{hour}": (days, bool(hour)) for days in LAG_DAYS for hour in ("", "_hour")}
"""Days back, and whether it is the mean of the hour around, by feature name."""
FUTURE: Final = (*CALENDAR, "lead", *LAGS)
MAX_LAG_S: Final = LAG_DAYS[-1] * DAY_S
LATER_KEYS: Final = ("weather",)
"""Fields that bundles of the first releases do not have: written only when they say something, so that those bundles stay whole."""


@dataclass(frozen=True)
class FeaturePlan:
    """What a model reads and forecasts; travels in the bundle's manifest.

    Context features: `target` (mean per house step), `sensor:NAME`, `role:ROLE` (mean over the house's sensors of that role; what was forecast,
    where they tell nothing of the weather), and the calendar.
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
    """Whether the model also reads `anchor` (`FeatureBuilder.anchors`: quantiles and mean without a model) and `scale` (28-day mean)."""
    daily_length: int = 0
    """Days before the origin whose means the model reads as the input `daily`: how the level moves from day to day. 0: no such input."""
    quantile_levels: tuple[float, ...] = QUANTILE_LEVELS
    weather: tuple[str, ...] = ()
    """Channels of the input `weather`: roles whose forecast over the horizon the model reads, NaN where there is none. Empty: no such input."""

    def __post_init__(self) -> None:
        for key, least in (("step_s", 1), ("horizon", 1), ("context_step_s", 1), ("context_length", 1), ("daily_length", 0)):
            value = getattr(self, key)
            if type(value) is not int or value < least:
                raise ConfigError(f"feature plan: {key} is {value!r}: a whole number of at least {least} is expected; train again")
        if max(self.step_s, self.context_step_s) % min(self.step_s, self.context_step_s):
            raise ConfigError(
                f"a model with context steps of {self.context_step_s} s cannot run on steps of {self.step_s} s: one must divide the other"
            )
        if self.role not in ROLES:
            raise ConfigError(f"unknown role {self.role!r} of the target: {closest(str(self.role), ROLES)}")
        levels = np.asarray(self.quantile_levels, float)
        if not ((levels > 0) & (levels < 1)).all() or (np.diff(levels) <= 0).any() or not set(PUBLISHED_LEVELS) <= set(self.quantile_levels):
            raise ConfigError(f"quantile levels {self.quantile_levels}: ascending levels between 0 and 1 are expected, {PUBLISHED_LEVELS} among them")
        self._check_names()

    def _check_names(self) -> None:
        for name in self.context:
            if name not in ("target", *CALENDAR) and name.partition(":")[0] not in ("sensor", "role"):
                raise ConfigError(f"unknown context feature {name!r}: {closest(name, ('target', 'sensor:NAME', 'role:ROLE', *CALENDAR))}")
            if name.startswith("role:") and name[5:] not in ROLES:
                raise ConfigError(f"unknown role in context feature {name!r}: {closest(name[5:], ROLES)}")
        for name in self.future:
            if name not in FUTURE:
                raise ConfigError(f"unknown future feature {name!r}: {closest(name, FUTURE)}")
        for name in self.weather:
            if name not in WEATHER_ROLES:
                raise ConfigError(f"no forecast of role {name!r} can be read: {closest(name, WEATHER_ROLES)}")

    @property
    def context_s(self) -> int:
        """Seconds of the context."""
        return self.context_length * self.context_step_s

    @property
    def history_s(self) -> int:
        """Seconds of history before the origin that one forecast looks at."""
        lags_s = MAX_LAG_S + DAY_S if set(self.future) & set(LAGS) else 0
        return max(self.context_s, lags_s, self.daily_length * DAY_S, (YARDSTICK.days_back + 1) * DAY_S if self.anchored else 0)

    @property
    def unit(self) -> str:
        """Unit of the forecast; energy is per step."""
        return ROLES[self.role].unit

    @property
    def is_general(self) -> bool:
        """Whether it serves any house's target of its role: it names no sensor and reads relative to the anchor."""
        return self.anchored and not any(name.startswith("sensor:") for name in self.context)

    def input_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each model input, without the batch axis."""
        shapes: dict[str, tuple[int, ...]] = {"context": (self.context_length, len(self.context))}
        if self.future:
            shapes["future"] = (self.horizon, len(self.future))
        if self.daily_length:
            shapes["daily"] = (self.daily_length,)
        if self.weather:
            shapes["weather"] = (self.horizon, len(self.weather))
        if self.anchored:
            shapes["anchor"] = (self.horizon, len(self.quantile_levels) + 1)
            shapes["scale"] = (1,)
        return shapes

    def at_step(self, step_s: int) -> FeaturePlan:
        """The same plan for a house with another step; the horizon keeps its length in time.

        Raises:
            ConfigError: the plan reads single sensors on the house's own grid and cannot change its step, or the horizon is no multiple of it.
        """
        if step_s == self.step_s:
            return self
        if not self.anchored or self.horizon * self.step_s % step_s:
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

    def training_sensors(self, house: HouseSpec) -> tuple[str, ...]:
        """As `sensors`, and those that measure what the plan reads the forecast of: training makes its forecasts of them."""
        ahead = (sensor.name for sensor in house.sensors if sensor.role in self.weather)
        return tuple(dict.fromkeys((*self.sensors(house), *ahead)))

    def describe(self) -> list[dict[str, str]]:
        """Every input channel in order, with its unit, for the manifest."""
        rows = [{"input": "context", "name": n, "unit": self._unit_of(n)} for n in self.context]
        rows += [{"input": "future", "name": n, "unit": self._unit_of(n)} for n in self.future]
        rows += [{"input": "daily", "name": f"mean_{days}d_ago", "unit": self.unit} for days in range(self.daily_length, 0, -1)]
        rows += [{"input": "weather", "name": role, "unit": ROLES[role].unit} for role in self.weather]
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
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items() if v or k not in LATER_KEYS}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> FeaturePlan:
        """The inverse of `to_dict`.

        Raises:
            ConfigError: keys or feature names that this version does not know.
        """
        unknown = (set(data) | set(LATER_KEYS)) ^ set(cls.__dataclass_fields__)
        if unknown:
            raise ConfigError(f"feature plan has missing or unknown keys {sorted(unknown)}: upgrade, or train again")
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        return cls(**values)
