"""Weather forecasts that might have been issued: what was measured later, with errors that grow with the lead time.

A model trained on perfect forecasts would believe real ones too much. The sizes are assumptions in the range that verifications of regional models
print (temperature off by about 1 K after six hours and 2 K after a day), larger rather than smaller, because a house's own sensor is not where the
forecast is for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt

from edge_agent.contract.localtime import DAY_S
from edge_agent.contract.plan import FeaturePlan
from edge_agent.contract.series import Series
from edge_agent.contract.weather import PerfectWeather, WeatherSource

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Float32s = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ErrorSize:
    """Standard deviation of one role's forecast error: at once and after a day, growing evenly and no further."""

    at_once: float
    after_a_day: float
    lowest: float = -np.inf
    highest: float = np.inf
    relative: bool = False
    """Whether it is the error's logarithm: forecast = truth * exp(error). Night stays dark."""


SIZES: Final = {
    "outdoor_temperature": ErrorSize(0.7, 2.0),
    "outdoor_humidity": ErrorSize(5.0, 12.0, 0.0, 100.0),
    "wind_speed": ErrorSize(0.7, 2.0, 0.0),
    "solar_radiation": ErrorSize(0.25, 0.5, 0.0, relative=True),
}
HOURLY_PERSISTENCE: Final = 0.85
"""Correlation of the errors an hour apart: one lasts for about six hours."""
N_PATHS: Final = 2048
"""Different courses of the error."""
MIXER: Final = 0x9E3779B97F4A7C15
"""2^64 over the golden ratio (Knuth, multiplicative hashing): neighbouring origins get courses far apart."""


class FaultyForecasts:
    """A weather source with errors that depend on the origin and the seed alone, so that a resumed training sees the same."""

    def __init__(self, truth: WeatherSource, *, seed: int) -> None:
        """Make forecasts of `truth`."""
        self.truth, self.seed = truth, seed

    def ahead(self, origins: Ints, *, horizon: int, step_s: int, roles: Sequence[str]) -> Float32s:
        """As `WeatherSource`."""
        values = self.truth.ahead(origins, horizon=horizon, step_s=step_s, roles=roles)
        mixed = (origins.astype(np.uint64) + np.uint64(self.seed)) * np.uint64(MIXER)
        which = (mixed >> np.uint64(40)) % np.uint64(N_PATHS)
        leads_h = (np.arange(horizon) + 0.5) * step_s / 3600
        left = leads_h.astype(int)
        share = (leads_h - left).astype(np.float32)
        for channel, role in enumerate(roles):
            paths = _paths(role, int(leads_h[-1]) + 2)[which]
            error = paths[:, left] * (1 - share) + paths[:, left + 1] * share
            size = SIZES[role]
            faulty = values[:, :, channel] * np.exp(error) if size.relative else values[:, :, channel] + error
            values[:, :, channel] = np.clip(faulty, size.lowest, size.highest)
        return values

    def before(self, times: Ints, *, step_s: int, role: str) -> Floats:
        """As `WeatherSource`."""
        return self.truth.before(times, step_s=step_s, role=role)

    def lack(self, role: str, origin: int, *, seconds: int) -> str | None:
        """As `WeatherSource`."""
        return self.truth.lack(role, origin, seconds=seconds)


@cache
def _paths(role: str, hours: int) -> Float32s:
    """Courses of the error of `role`, hourly, `(N_PATHS, hours)`: an AR(1) process whose spread grows with the lead time; the same for all homes."""
    rng = np.random.default_rng(list(SIZES).index(role))
    path = rng.standard_normal((N_PATHS, hours))
    for hour in range(1, hours):
        path[:, hour] = HOURLY_PERSISTENCE * path[:, hour - 1] + np.sqrt(1 - HOURLY_PERSISTENCE**2) * path[:, hour]
    size = SIZES[role]
    spread = size.at_once + (size.after_a_day - size.at_once) * np.minimum(np.arange(hours) * 3600 / DAY_S, 1.0)
    return (spread * path).astype(np.float32)


def training_weather(plan: FeaturePlan, series: Series, *, seed: int) -> WeatherSource | None:
    """What a model of `plan` is trained, calibrated and scored with: faulty forecasts of the series' own weather; None where it reads none."""
    return FaultyForecasts(PerfectWeather(series), seed=seed) if plan.weather else None
