"""The weather ahead, and of the past where no sensor tells it: forecasts by when they were issued, and the perfect one, known only afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from edge_agent.contract.errors import DataError
from edge_agent.contract.series import Series

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Float32s = npt.NDArray[np.float32]

MAX_AGE_S: Final = 12 * 3600
"""A forecast issued longer ago than this is not used: weather services issue one every one to six hours."""
MAX_SPACING_S: Final = 3 * 3600
"""Between two valid times further apart than this nothing is known: a straight line would miss the afternoon."""
EDGE_S: Final = 3600
"""So long before its first and after its last valid time a forecast still holds: hourly values stand for hours."""


class WeatherSource(Protocol):
    """What is known at an origin of the weather after it, and what was known of the weather before it."""

    def ahead(self, origins: Ints, *, horizon: int, step_s: int, roles: Sequence[str]) -> Float32s:
        """Means over the steps after each of `origins` (unix s, `(n,)`), `(n, horizon, n_roles)`, canonical units, NaN unknown."""

    def before(self, times: Ints, *, step_s: int, role: str) -> Floats:
        """Means over the steps that begin at `times` (unix s, ascending, `(n,)`) as known when each began, `(n,)`, canonical unit, NaN unknown.

        It stands in for sensors of `role` that a house lacks, or that were silent.
        """

    def lack(self, role: str, origin: int, *, seconds: int) -> str | None:
        """Why the forecast of `role` for the `seconds` after `origin` (unix s) is not whole, in words; None when it is."""


@dataclass(frozen=True, eq=False)
class WeatherForecast:
    """One issue of the forecast of one role."""

    role: str
    issued_at: float
    """Unix s."""
    times: Ints
    """Valid times, unix s, ascending, `(n,)`."""
    values: Floats
    """At these times, canonical unit, `(n,)`."""

    def __post_init__(self) -> None:
        fits = 0 < len(self.times) == len(self.values)
        if not fits or (np.diff(self.times) <= 0).any() or not np.isfinite(self.values).all():
            raise DataError(f"a forecast of {self.role} is damaged: times that ascend, each with a finite value, are expected")

    def at(self, times: Ints) -> Floats:
        """The forecast at `times` (unix s, any shape): straight lines between valid times, NaN where it says nothing."""
        right = np.searchsorted(self.times, times, side="right")
        before, after = self.times[np.maximum(right - 1, 0)], self.times[np.minimum(right, len(self.times) - 1)]
        known = (times >= self.times[0] - EDGE_S) & (times <= self.times[-1] + EDGE_S) & (after - before <= MAX_SPACING_S)
        return np.where(known, np.interp(times, self.times, self.values), np.nan)

    def near_issue(self) -> WeatherForecast | None:
        """The part that `WeatherForecasts.before` may read, a copy; None where there is none."""
        near = (self.times >= self.issued_at - MAX_SPACING_S) & (self.times <= self.issued_at + MAX_AGE_S + MAX_SPACING_S)
        return WeatherForecast(self.role, self.issued_at, self.times[near], self.values[near]) if near.any() else None


class WeatherForecasts:
    """Forecasts as they were issued; at an origin only the newest one issued until then counts, for each role its own."""

    def __init__(self, forecasts: Iterable[WeatherForecast]) -> None:
        """Order `forecasts`; of several of one role and time of issue the last one counts."""
        issues: dict[str, dict[float, WeatherForecast]] = {}
        for forecast in forecasts:
            issues.setdefault(forecast.role, {})[forecast.issued_at] = forecast
        self._issues = {role: [by_time[t] for t in sorted(by_time)] for role, by_time in issues.items()}
        self._issued_at = {role: np.array([f.issued_at for f in found]) for role, found in self._issues.items()}

    @property
    def roles(self) -> tuple[str, ...]:
        """Roles that there is any forecast of."""
        return tuple(self._issues)

    def newest(self, role: str, origin: int) -> WeatherForecast | None:
        """The newest forecast of `role` issued at or before `origin` (unix s), however old."""
        found = self._issues.get(role, [])
        number = int(np.searchsorted(self._issued_at[role], origin, side="right")) if found else 0
        return found[number - 1] if number else None

    def ahead(self, origins: Ints, *, horizon: int, step_s: int, roles: Sequence[str]) -> Float32s:
        """As `WeatherSource`: the value at the middle of each step; forecasts older than MAX_AGE_S say nothing."""
        out = np.full((len(origins), horizon, len(roles)), np.nan, np.float32)
        middles = step_s * np.arange(horizon) + step_s // 2
        for i, origin in enumerate(origins):
            for channel, role in enumerate(roles):
                forecast = self.newest(role, int(origin))
                if forecast is not None and origin - forecast.issued_at <= MAX_AGE_S:
                    out[i, :, channel] = forecast.at(origin + middles)
        return out

    def before(self, times: Ints, *, step_s: int, role: str) -> Floats:
        """As `WeatherSource`: of each step what the newest forecast issued by its beginning said of its middle, none older than MAX_AGE_S."""
        out = np.full(len(times), np.nan)
        issued_at = self._issued_at.get(role, np.empty(0))
        edges = np.searchsorted(times, [*issued_at, np.inf])
        for forecast, first, end in zip(self._issues.get(role, ()), edges[:-1], edges[1:], strict=True):
            fresh = times[first:end]
            fresh = fresh[fresh - forecast.issued_at <= MAX_AGE_S]
            out[first : first + len(fresh)] = forecast.at(fresh + step_s // 2)
        return out

    def lack(self, role: str, origin: int, *, seconds: int) -> str | None:
        """As `WeatherSource`."""
        forecast = self.newest(role, origin)
        if forecast is None:
            return f"no forecast of {role} has come yet"
        age_h = (origin - forecast.issued_at) / 3600
        if 3600 * age_h > MAX_AGE_S:
            return f"the last forecast of {role} is {age_h:.0f} h old, {MAX_AGE_S // 3600} h at most are expected"
        known = np.isfinite(forecast.at(origin + np.arange(0, seconds, 600) + 300)).mean()
        return None if known == 1.0 else f"the forecast of {role} covers {known:.0%} of the next {seconds / 3600:g} h"


class PerfectWeather:
    """What the house's own sensors measured later: a forecast without error, for training and for a bound on what a forecast can bring."""

    def __init__(self, series: Series) -> None:
        """Look at `series`; of a role it gives the mean over the sensors that have it."""
        self.series = series
        self._means: dict[str, Floats] = {}

    def ahead(self, origins: Ints, *, horizon: int, step_s: int, roles: Sequence[str]) -> Float32s:
        """As `WeatherSource`.

        Raises:
            DataError: another step than the series'.
        """
        series = self.series
        if step_s != series.step_s:
            raise DataError(f"steps of {step_s} s are asked of a series of {series.step_s} s: resample the series")
        rows = (origins[:, None] - series.start) // step_s + np.arange(horizon)
        inside = (rows >= 0) & (rows < len(series))
        rows = np.clip(rows, 0, max(len(series) - 1, 0))
        channels = [np.where(inside, self._mean(role)[rows], np.nan) for role in roles]
        return np.stack(channels, axis=-1).astype(np.float32)

    def before(self, times: Ints, *, step_s: int, role: str) -> Floats:  # noqa: ARG002  as in WeatherSource
        """As `WeatherSource`: nothing that the series does not hold itself."""
        return np.full(len(times), np.nan)

    def lack(self, _role: str, _origin: int, *, seconds: int) -> str | None:  # noqa: ARG002  as in WeatherSource
        """As `WeatherSource`: it lacks nothing that the house measures."""
        return None

    def _mean(self, role: str) -> Floats:
        if role not in self._means:
            columns = [i for i, feature in enumerate(self.series.features) if feature.role == role]
            self._means[role] = mean_known(self.series.values[:, columns])
        return self._means[role]


def mean_known(values: Floats) -> Floats:
    """Mean over the last axis of what is known; NaN where nothing is."""
    if values.shape[-1] == 1:
        return values[..., 0]
    known = np.isfinite(values)
    counts = known.sum(axis=-1)
    total = np.where(known, values, 0.0).sum(axis=-1)
    return np.where(counts > 0, total / np.maximum(counts, 1), np.nan)
