"""The simulation's clock: a step grid, the minutes under it, and local wall time on both."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from edge_agent.contract.localtime import DAY_S, local_days, local_seconds, utc_offsets_s, weekdays

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

FREE_DATES = ("01-01", "05-01", "12-24", "12-25", "12-26")
"""Month and day of days off that fall on any weekday."""


@dataclass(frozen=True)
class Grid:
    """Steps of `step_s` from `start` (unix s) for `days` times 24 hours, with the minutes that appliances switch on."""

    start: int
    days: int
    step_s: int
    zone: ZoneInfo

    @property
    def n_steps(self) -> int:
        """Number of steps."""
        return self.days * DAY_S // self.step_s

    @property
    def n_minutes(self) -> int:
        """Number of minutes."""
        return self.days * DAY_S // 60

    @cached_property
    def times(self) -> Ints:
        """Unix seconds of every step's start, `(n_steps,)`."""
        return self.start + self.step_s * np.arange(self.n_steps, dtype=np.int64)

    @cached_property
    def local_s(self) -> Ints:
        """Local wall time of every step's start as seconds since 1970-01-01 local, `(n_steps,)`."""
        return local_seconds(self.times, self.zone)

    @cached_property
    def minute_hours(self) -> Floats:
        """Local hour of the day, 0 to 24, of every minute, `(n_minutes,)`."""
        times = self.start + 60 * np.arange(self.n_minutes, dtype=np.int64)
        return (local_seconds(times, self.zone) % DAY_S) / 3600

    @cached_property
    def dates(self) -> Ints:
        """Local calendar days that the grid touches, one before included for evenings that last past midnight; days since 1970-01-01."""
        first, last = local_days(np.array([self.start, self.start + self.days * DAY_S - 1]), self.zone)
        return np.arange(first - 1, last + 1)

    @cached_property
    def is_free(self) -> Flags:
        """Which of `dates` are weekends or public holidays."""
        names = np.datetime_as_string(self.dates.astype("datetime64[D]"))
        return (weekdays(self.dates) >= 5) | np.isin([name[5:] for name in names], FREE_DATES)

    def minute(self, date: Ints, hour: Floats) -> Ints:
        """Minute of the grid at wall time `hour` of local day `date`; `hour` may pass 24, the result may lie outside the grid."""
        wall = (date * DAY_S + np.asarray(hour) * 3600).astype(np.int64)
        guess = wall - utc_offsets_s(wall, self.zone)
        return (wall - utc_offsets_s(guess, self.zone) - self.start) // 60

    def spans(self, date: Ints, begin_h: Floats, end_h: Floats, weight: Floats | float = 1.0) -> Floats:
        """How many spans between two wall times each minute lies in, each counted `weight` times, `(n_minutes,)`."""
        first = self.minute(date, begin_h)
        return blocks(self.n_minutes, first, self.minute(date, end_h) - first, weight)

    def steps(self, minutes: Floats) -> Floats:
        """Mean over every step of values by minute, `(n_steps,)`."""
        return np.asarray(minutes.reshape(self.n_steps, -1).mean(axis=1))

    def minutes(self, steps: Floats) -> Floats:
        """Values by step, repeated for every minute, `(n_minutes,)`."""
        return np.repeat(steps, self.step_s // 60)


def blocks(n: int, first: Ints, length: Ints, height: Floats | float) -> Floats:
    """Sum of blocks `height` high over `[first, first + length)`, `(n,)`; what lies outside 0 … n is cut off."""
    low = np.clip(first, 0, n)
    high = np.clip(first + np.maximum(length, 0), 0, n)
    heights = np.broadcast_to(np.asarray(height, dtype=np.float64), low.shape).ravel()
    edges = np.bincount(low.ravel(), heights, n + 1) - np.bincount(high.ravel(), heights, n + 1)
    total = np.cumsum(edges[:n])
    return np.where(np.abs(total) < 1e-9, 0.0, total)  # sums of floats leave dust where the last block ended


def lag(values: Floats, steps: float) -> Floats:
    """First-order lag with a time constant of `steps`, starting in balance, same shape."""
    share = 1.0 - math.exp(-1.0 / steps)
    return np.fromiter(accumulate(values.tolist(), lambda state, value: state + share * (value - state)), np.float64, len(values))


def wander(rng: np.random.Generator, n: int, steps: float) -> Floats:
    """Gaussian noise of mean 0 and variance 1 that remembers about `steps` steps (autoregressive of order one), `(n,)`."""
    keep = math.exp(-1.0 / steps)
    shocks = rng.standard_normal(n) * math.sqrt(1.0 - keep * keep)
    shocks[0] = rng.standard_normal()
    return np.fromiter(accumulate(shocks.tolist(), lambda state, shock: keep * state + shock), np.float64, n)
