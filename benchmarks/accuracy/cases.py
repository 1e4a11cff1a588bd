"""A case: one target of one home at the origins that are scored, with what a method may see of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from math import gcd
from typing import Final

import numpy as np
import numpy.typing as npt

from edge_agent.contract.features import FeatureBuilder
from edge_agent.contract.localtime import DAY_S
from edge_agent.contract.schema import HouseSpec
from edge_agent.contract.series import Series
from edge_agent.forecaster import climatology_plan
from trainer.backtest import choose_origins
from trainer.baselines import actual_values
from trainer.datasets import fingerprint
from trainer.scores import Predictions

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

HOUR_S: Final = 3600
WEEK_H: Final = 168
FEW_STEPS: Final = 2400
"""Steps forecast in all by methods that need seconds for each origin, the more the finer its step: 100 origins of 24 hours."""
FEWEST: Final = 30
SOME: Final = 700
"""Origins for the cases with less to see, of which there are many."""
COUNTER_WH: Final = 10.0
"""A counter that shows 0.01 kWh."""
OUTAGE_H: Final = 12.0
"""Mean length of a sensor's outage."""


@dataclass(frozen=True, eq=False)
class Case:
    """One target of one home, its origins and what happened after them."""

    home: str
    variant: str
    """What is taken away from the methods; `full`: nothing."""
    target: str
    spec: HouseSpec
    series: Series
    """What methods may see, up to each origin."""
    origins: Ints
    """Unix s: full hours whose horizon lies in the last 20 %."""
    actual: Floats
    """`(n_origins, horizon)`, the target's unit, NaN unknown; never altered."""
    train_end: int
    """Unix s after the first 80 %: what a method may be trained on."""
    days_seen: int | None = None
    """How many days before each origin may be looked at; None: all."""

    @property
    def horizon(self) -> int:
        """Steps forecast."""
        return DAY_S // self.spec.step_s

    @property
    def sensor(self) -> str:
        """The target's sensor."""
        return self.spec.target(self.target).sensor

    @property
    def is_energy(self) -> bool:
        """Whether the target adds up over time, and is never negative."""
        return self.spec.sensor(self.sensor).feature.kind == "energy"

    @property
    def values(self) -> Floats:
        """The target as methods see it, `(n_steps,)`."""
        return self.series.column(self.sensor)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 over all that a method's forecasts depend on; not over how a house is described, which changes with every version."""
        what = (self.spec.time_zone, self.target, self.sensor, self.variant, self.train_end, self.days_seen)
        digest = hashlib.sha256(f"{fingerprint(self.series)} {what}".encode())
        digest.update(self.origins.tobytes())
        return digest.hexdigest()

    def predictions(self, quantiles: Floats, mean: Floats, levels: tuple[float, ...]) -> Predictions:
        """A method's forecasts beside what happened."""
        return Predictions(self.origins, self.spec.step_s, levels, quantiles, mean, self.actual)


def whole(home: str, spec: HouseSpec, target: str, series: Series) -> Case:
    """The case of a target at every full hour of the last 20 %, nothing taken away."""
    plan = climatology_plan(spec, target)
    origins = choose_origins(series, plan.horizon * spec.step_s, start=None, end=None, every_s=HOUR_S)
    builder = FeatureBuilder(plan, series.select(plan.sensors(spec)), target=spec.target(target).sensor, zone=spec.zone)
    train_end = series.start + int(len(series) * 0.8) * series.step_s
    return Case(home, "full", target, spec, series, origins, actual_values(builder, origins), train_end)


def thinned(case: Case, most: int) -> Case:
    """The case at about `most` of its origins, spread evenly over the span, the hours of the day and the days of the week."""
    every = max(len(case.origins) // most, 1)
    while gcd(every, WEEK_H) > 1:
        every += 1
    return replace(case, origins=case.origins[::every], actual=case.actual[::every])


def at_origins(predictions: Predictions, origins: Ints) -> Predictions:
    """The predictions at some of their origins."""
    rows = np.searchsorted(predictions.origins, origins)
    arrays = {name: getattr(predictions, name)[rows] for name in ("quantiles", "mean", "actual")}
    return replace(predictions, origins=origins, **arrays)


def with_history(case: Case, days: int) -> Case:
    """Nothing older than `days` before an origin may be looked at."""
    return replace(case, variant=f"history_{days}d", days_seen=days)


def with_rounded_counter(case: Case) -> Case:
    """The target as a meter shows it that counts in 0.01 kWh; what happened stays exact."""
    column = case.series.position(case.sensor)
    values = case.series.values.copy()
    values[:, column] = rounded(values[:, column])
    return replace(case, variant="counter", series=replace(case.series, values=values))


def rounded(energy_wh: Floats) -> Floats:
    """Energy of each step from a counter cut to COUNTER_WH, `(n,)`; NaN stays NaN and does not move the counter."""
    known = np.isfinite(energy_wh)
    # a counter is cut, never rounded up: what is not shown yet is shown later. The margin is for sums of decimals in binary
    shown = np.floor(np.cumsum(np.where(known, energy_wh, 0.0)) / COUNTER_WH + 1e-6) * COUNTER_WH
    return np.where(known, np.diff(shown, prepend=0.0), np.nan)


def without_covariates(case: Case, share: float, *, seed: int = 0) -> Case:
    """Every sensor but the target's is silent for `share` of the time, in outages of its own of half a day on average."""
    column = case.series.position(case.sensor)
    values = case.series.values.copy()
    dice = np.random.default_rng(seed)
    for other in range(values.shape[1]):
        silent = outages(len(values), share, mean_length=OUTAGE_H * HOUR_S / case.series.step_s, dice=dice)
        if other != column:
            values[silent, other] = np.nan
    return replace(case, variant=f"missing_{round(100 * share)}", series=replace(case.series, values=values))


def outages(n: int, share: float, *, mean_length: float, dice: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Which of `n` steps are silent: alternating stretches of exponential length, silent for `share` of the time on average, `(n,)`."""
    if share >= 1:
        return np.ones(n, bool)
    count = int(4 * n / mean_length) + 8
    silent = dice.exponential(mean_length, count)
    heard = dice.exponential(mean_length * (1 - share) / share, count)
    edges = np.cumsum(np.stack([heard, silent], axis=1).ravel())
    return np.asarray(np.searchsorted(edges, np.arange(n), side="right") % 2 == 1)


PERFECT_WEATHER: Final = "perfect_weather"


def with_perfect_weather(case: Case) -> Case:
    """A model that reads a weather forecast is given what was measured later: a bound on what a forecast can bring."""
    return replace(case, variant=PERFECT_WEATHER)


DEGRADED: Final[dict[str, Callable[[Case], Case]]] = {
    "history_7d": lambda case: with_history(case, 7),
    "history_14d": lambda case: with_history(case, 14),
    "history_28d": lambda case: with_history(case, 28),
    "missing_10": lambda case: without_covariates(case, 0.1),
    "missing_30": lambda case: without_covariates(case, 0.3),
    "missing_100": lambda case: without_covariates(case, 1.0),
    "counter": with_rounded_counter,
}
TITLES: Final = {
    "full": "nothing taken away",
    "history_7d": "7 days of history",
    "history_14d": "14 days of history",
    "history_28d": "28 days of history",
    "missing_10": "other sensors silent for 10 % of the time",
    "missing_30": "other sensors silent for 30 % of the time",
    "missing_100": "no other sensor",
    "counter": "counter rounded to 0.01 kWh",
    PERFECT_WEATHER: "perfect weather forecast",
}
