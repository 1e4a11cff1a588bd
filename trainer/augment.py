"""Homes that might be: a home's energy changed in ways that homes differ in, so that a model meets more of them than there are tables.

Each function gives a new Series on its own grid or a finer one. Unknown stays unknown, nothing becomes negative, and the generator decides all.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate
from typing import Final

import numpy as np
import numpy.typing as npt

from edge_agent.contract.localtime import DAY_S
from edge_agent.contract.series import Series

Floats = npt.NDArray[np.float64]

YEAR_S: Final = 365.25 * DAY_S
STRANGE_DAYS: Final = 57
"""As long as the climatology looks back: a history before it is forgotten."""


def slow_level(series: Series, sensor: str, rng: np.random.Generator) -> Series:
    """The home when people come and go: its energy times exp(an AR(1) process in days)."""
    n_days = len(series) * series.step_s // DAY_S + 2
    level = _ar1(n_days, persistence=rng.uniform(0.5, 0.97), spread=rng.uniform(0.05, 0.45), rng=rng)
    factor = np.exp(np.interp(np.arange(len(series)) * series.step_s / DAY_S, np.arange(n_days), level))
    return _with(series, sensor, series.column(sensor) * factor)


def weather_load(series: Series, sensor: str, temperature: Floats, rng: np.random.Generator) -> Series:
    """The home with air conditioning, or electric heating, that follows the weather of some climate.

    Args:
        series: the home.
        sensor: its energy.
        temperature: outdoors at each step, degC, all known; its swings are kept, its climate is not.
        rng: decides climate, thermal mass, set point, timetable and size.
    """
    climate = (temperature - temperature.mean()) * rng.uniform(0.8, 1.6) + rng.uniform(10.0, 26.0)
    keep = np.exp(-series.step_s / (3600 * rng.uniform(2.0, 14.0)))
    felt = np.array(list(accumulate(climate.tolist(), lambda inside, outside: keep * inside + (1 - keep) * outside)))
    demand = np.maximum(felt - rng.uniform(20.0, 24.0), 0.0) if rng.random() < 0.65 else np.maximum(rng.uniform(12.0, 18.0) - felt, 0.0)
    load = demand * _timetable(rng)[series.times // 3600 % 24]
    if rng.random() < 0.7:
        load = load * rng.gamma(4.0, 0.25, len(load))
    share = rng.uniform(0.3, 2.0)
    usual = series.column(sensor)[np.isfinite(series.column(sensor))]
    if usual.size and load.mean() > 0:
        load = load * (share * usual.mean() / load.mean())
    changed = _with(series, sensor, series.column(sensor) + load)
    outdoors = [i for i, feature in enumerate(series.features) if feature.role == "outdoor_temperature"]
    changed.values[:, outdoors] = climate[:, None]  # else its sensors would tell of another climate
    return changed


def _timetable(rng: np.random.Generator) -> Floats:
    """How much the device runs in each hour of the day, `(24,)`; half of them are turned down for part of the day."""
    share = np.ones(24)
    if rng.random() < 0.5:
        share[(rng.integers(24) + np.arange(rng.integers(4, 12))) % 24] = rng.uniform(0.2, 0.7)
    return share


def some_temperature(series: Series, rng: np.random.Generator) -> Floats:
    """An outdoor temperature that might have been, degC, `(n_steps,)`: the year, the day, and weather that lasts for days."""
    times = series.times
    year = rng.uniform(4.0, 12.0) * np.sin(2 * np.pi * (times / YEAR_S - 0.29))
    day = rng.uniform(2.0, 6.0) * np.sin(2 * np.pi * (times / DAY_S - 0.375))
    n_days = len(series) * series.step_s // DAY_S + 2
    weather = _ar1(n_days, persistence=0.8, spread=rng.uniform(2.0, 4.0), rng=rng)
    return 12.0 + year + day + np.interp((times - series.start) / DAY_S, np.arange(n_days), weather)


def together(series: Series, sensor: str, other: Floats) -> Series:
    """Two homes on one meter; `other` is the second one's energy at the same steps, `(n_steps,)`."""
    return _with(series, sensor, series.column(sensor) + other)


def disaggregate(series: Series, sensor: str, step_s: int, rng: np.random.Generator) -> Series:
    """The home on a finer step, as spiky as meters with such a step are: a base load spread evenly, the rest in gamma-weighted spikes.

    The energy of every old step is the sum over its new ones.
    """
    pieces = series.step_s // step_s
    kinds = np.array([feature.kind == "energy" for feature in series.features])
    fine = Series(series.start, step_s, series.features, np.repeat(series.values / np.where(kinds, pieces, 1), pieces, axis=0))
    energy = series.column(sensor)
    known = energy[np.isfinite(energy)]
    base = np.minimum(energy, np.quantile(known, 0.2) if known.size else 0.0)
    weights = rng.gamma(rng.uniform(0.25, 1.2), 1.0, (len(series), pieces)) + 1e-9
    weights /= weights.sum(axis=1, keepdims=True)
    return _with(fine, sensor, (base[:, None] / pieces + (energy - base)[:, None] * weights).ravel())


def interrupted(series: Series, sensor: str, rng: np.random.Generator) -> Series:
    """The home as a gateway knows it that was installed lately, again and again.

    All sensors are unknown for STRANGE_DAYS, then known for 9 to 40 days, so that every origin sees a short history; and the target's meter misses up
    to 15 % of the quarter days besides.
    """
    values = series.values.copy()
    per_day = DAY_S // series.step_s
    row = int(rng.integers(9, 40)) * per_day
    while row < len(values):
        values[row : row + STRANGE_DAYS * per_day] = np.nan
        row += (STRANGE_DAYS + int(rng.integers(9, 40))) * per_day
    lost = np.repeat(rng.random((len(values) // per_day + 1) * 4) < rng.uniform(0.0, 0.15), per_day // 4)[: len(values)]
    values[lost, series.position(sensor)] = np.nan
    return replace(series, values=values)


def _ar1(n: int, *, persistence: float, spread: float, rng: np.random.Generator) -> Floats:
    """A stationary AR(1) process around zero with standard deviation `spread`, `(n,)`."""
    news = rng.normal(0.0, spread * np.sqrt(1 - persistence**2), n)
    news[0] = rng.normal(0.0, spread)
    return np.array(list(accumulate(news.tolist(), lambda before, new: persistence * before + new)))


def _with(series: Series, sensor: str, energy: Floats) -> Series:
    values = series.values.copy()
    values[:, series.position(sensor)] = energy
    return replace(series, values=values)
