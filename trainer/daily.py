"""What an owner asks of a forecast: each day's total, and how much energy came in another hour or amount than forecast."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from edge_agent.contract.localtime import DAY_S, HOUR_S, local_seconds
from trainer.scores import Predictions, concatenated, losses, rows_of

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

EXAMPLES: Final = {"good": 0.1, "typical": 0.5, "bad": 0.9}
"""Days at these shares of the days' CRPS."""


@dataclass(frozen=True, eq=False)
class Days:
    """One forecast of each local day: the one from the first origin of its date. Only days of which everything is known."""

    origins: Ints
    """Unix s, `(n,)`."""
    actual: Floats
    """Total of the day (the mean, for states), `(n,)`."""
    forecast: dict[str, Floats]
    """The same, as each method forecast it, by label."""
    misplaced: dict[str, Floats]
    """Energy that came in another hour or amount than each method forecast, each Wh once, `(n,)`: what came beyond the forecast in some hours, or
    what was forecast and did not come in others, whichever is more. For states the mean of |actual - forecast| over the hours."""
    crps: Floats
    """Mean over the day of the model's forecast, `(n,)`."""

    def __len__(self) -> int:
        return len(self.origins)

    def errors(self, label: str) -> Floats:
        """|actual - forecast| of the day's total (or mean), `(n,)`."""
        return np.abs(self.actual - self.forecast[label])

    def examples(self) -> dict[str, int]:
        """A good, a typical and a bad day by the model's CRPS, by name; each another day where there are three."""
        order = np.argsort(self.crps, kind="stable")
        return {name: int(order[round(share * (len(order) - 1))]) for name, share in EXAMPLES.items()} if len(order) else {}


class DayBook:
    """Collects the days of one home as its forecasts come in."""

    def __init__(self, method: str, zone: ZoneInfo, *, adds_up: bool) -> None:
        """Begin.

        Args:
            method: label of the model.
            zone: whose days.
            adds_up: whether hours and days are sums (energy) or means (states).
        """
        self.method, self.zone, self.adds_up = method, zone, adds_up
        self._last_date = -1
        self._kept: list[dict[str, Predictions]] = []

    def add(self, predictions: dict[str, Predictions]) -> None:
        """Take up the first origin of each new date."""
        dates = local_seconds(next(iter(predictions.values())).origins, self.zone) // DAY_S
        new = np.flatnonzero(np.diff(dates, prepend=self._last_date))
        self._last_date = int(dates[-1])
        if len(new):
            self._kept.append({label: rows_of(p, new) for label, p in predictions.items()})

    def close(self) -> tuple[Days, dict[str, dict[str, Predictions]]]:
        """The days, and the forecasts of the examples by name and label."""
        everything = {label: concatenated([part[label] for part in self._kept]) for label in self._kept[0]}
        own = everything[self.method]
        seconds = local_seconds(own.origins, self.zone) % DAY_S
        # A first date that begins at noon is no day. An hour more or less is the clock change of a grid in UTC.
        is_day = (seconds <= seconds.min() + HOUR_S) & np.isfinite(own.actual).all(axis=1)
        everything = {label: rows_of(p, np.flatnonzero(is_day)) for label, p in everything.items()}
        days = self._days(everything)
        return days, {name: {label: rows_of(p, np.array([row])) for label, p in everything.items()} for name, row in days.examples().items()}

    def _days(self, everything: dict[str, Predictions]) -> Days:
        own = everything[self.method]
        add = np.sum if self.adds_up else np.mean
        actual = self._hours(own.actual, own.step_s)
        forecast = {label: self._hours(p.mean, own.step_s) for label, p in everything.items()}
        return Days(
            own.origins,
            add(actual, axis=1),
            {label: add(values, axis=1) for label, values in forecast.items()},
            {label: self._misplaced(actual - values) for label, values in forecast.items()},
            losses(own)["crps"].mean(axis=1),
        )

    def _misplaced(self, over: Floats) -> Floats:
        """From the differences by hour, `(n, n_hours)`."""
        if not self.adds_up:
            return np.asarray(np.abs(over).mean(axis=1))
        return np.maximum(np.maximum(over, 0.0).sum(axis=1), np.maximum(-over, 0.0).sum(axis=1))

    def _hours(self, values: Floats, step_s: int) -> Floats:
        """By hours of the horizon, `(n, n_hours)`."""
        per_hour = max(HOUR_S // step_s, 1)
        hours = values.reshape(len(values), values.shape[1] // per_hour, per_hour)
        return np.asarray(hours.sum(axis=2) if self.adds_up else hours.mean(axis=2))
