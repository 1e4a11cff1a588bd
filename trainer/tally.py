"""Running sums of what forecasts lose, from which all scores follow: as large after a year of origins as after a day."""

from __future__ import annotations

from copy import copy
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from edge_agent.contract.errors import DataError
from trainer.scores import DAY_TYPES, NOTHING_KNOWN, Predictions, Scores, day_types, hours, losses

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

LOSSES: Final = ("mae", "rmse", "crps", "coverage")
HOURS: Final = 24
N_SLOTS: Final = HOURS * len(DAY_TYPES)


class Tally:
    """Sums over one method's forecasts, by lead time and by hour and day type.

    Sums of one home and step may be added to each other; they are the same in any order but for the last digits.
    """

    def __init__(self, *, horizon: int, quantile_levels: tuple[float, ...]) -> None:
        self.quantile_levels = quantile_levels
        self.by_lead = np.zeros((1 + len(LOSSES), horizon))
        """Number of known values, then the sum of each loss, `(5, horizon)`."""
        self.by_slot = np.zeros((1 + len(LOSSES), N_SLOTS))
        """The same by hour and day type, `(5, 48)`; see `slots`."""
        self.below = np.zeros(len(quantile_levels))
        """Known values at or below each quantile, `(n_levels,)`."""
        self.total_error = 0.0
        """Sum of the absolute errors of the sums over the horizon, of whole origins."""
        self.n_totals = 0
        self.actual = 0.0
        """Sum of the known values."""

    def add(self, predictions: Predictions, slots: Ints) -> None:
        """Count these forecasts in.

        Args:
            predictions: some origins' forecasts.
            slots: hour and day type of each step, `(n_origins, horizon)`; see `slots`.

        Raises:
            DataError: a forecast is NaN where the actual value is known.
        """
        known = np.isfinite(predictions.actual)
        lost = losses(predictions)
        parts = [known.astype(np.float64), *(np.where(known, lost[name], 0.0) for name in LOSSES)]
        by_lead = np.stack([part.sum(axis=0) for part in parts])
        if not np.isfinite(by_lead).all():
            raise DataError("forecasts are NaN where the actual value is known: compare methods by where_all_known, or start later")
        self.by_lead += by_lead
        self.by_slot += [np.bincount(slots.ravel(), weights=part.ravel(), minlength=N_SLOTS) for part in parts]
        self.actual += float(np.where(known, predictions.actual, 0.0).sum())
        whole = known.all(axis=1)
        self.total_error += float(np.abs(predictions.mean[whole].sum(axis=1) - predictions.actual[whole].sum(axis=1)).sum())
        self.n_totals += int(whole.sum())
        if not predictions.is_point:
            self.below += (predictions.actual[:, :, None] <= predictions.quantiles).sum(axis=(0, 1))

    def __add__(self, other: Tally) -> Tally:
        out = copy(self)
        for name in ("by_lead", "by_slot", "below", "total_error", "n_totals", "actual"):
            setattr(out, name, getattr(self, name) + getattr(other, name))
        return out

    def scaled(self, factor: float) -> Tally:
        """The same in another unit: values times `factor`."""
        out, by_loss = copy(self), np.array([1.0, *({"rmse": factor**2, "coverage": 1.0}.get(name, factor) for name in LOSSES)])
        out.by_lead, out.by_slot = self.by_lead * by_loss[:, None], self.by_slot * by_loss[:, None]
        out.total_error, out.actual = self.total_error * factor, self.actual * factor
        return out

    @property
    def horizon(self) -> int:
        """Steps forecast."""
        return self.by_lead.shape[1]

    @property
    def n_values(self) -> int:
        """Known values counted."""
        return int(self.by_lead[0].sum())

    @property
    def mean_actual(self) -> float:
        """Of the known values, in the target's unit."""
        return self.actual / self.n_values

    def whole(self) -> Scores:
        """Scores over all origins and steps.

        Raises:
            DataError: nothing is known at all.
        """
        if not self.n_values:
            raise DataError(NOTHING_KNOWN)
        total_mae = self.total_error / self.n_totals if self.n_totals else float("nan")
        return _scores(self.by_lead.sum(axis=1), total_mae=total_mae, n_totals=self.n_totals)

    def leads(self) -> dict[int, Scores]:
        """Scores by step of the horizon, 0 being the first; those of which nothing is known are left out."""
        return _known_only(self.by_lead)

    def lead_hours(self, step_s: int) -> dict[int, Scores]:
        """Scores by hour of the horizon, 0 being the first."""
        per_hour = max(3600 // step_s, 1)
        return _known_only(self.by_lead.reshape(len(self.by_lead), -1, per_hour).sum(axis=2))

    def hours(self) -> dict[int, Scores]:
        """Scores by local hour of the day."""
        return _known_only(self.by_slot.reshape(-1, HOURS, len(DAY_TYPES)).sum(axis=2))

    def day_types(self) -> dict[int, Scores]:
        """Scores of working days and weekends."""
        return _known_only(self.by_slot.reshape(-1, HOURS, len(DAY_TYPES)).sum(axis=1))

    def coverage_by_level(self) -> Floats:
        """Share of known values at or below each quantile, `(n_levels,)`; of a method that gives one number, nothing (0)."""
        return self.below / self.n_values


def slots(predictions: Predictions, zone: ZoneInfo) -> Ints:
    """Local hour and day type of each step as one number, 0 … 47, `(n_origins, horizon)`."""
    return hours(predictions, zone) * len(DAY_TYPES) + day_types(predictions, zone)


def _known_only(sums: Floats) -> dict[int, Scores]:
    return {int(group): _scores(sums[:, group]) for group in np.flatnonzero(sums[0])}


def _scores(sums: Floats, *, total_mae: float = float("nan"), n_totals: int = 0) -> Scores:
    mae, squared, crps, coverage = (float(value) for value in sums[1:] / sums[0])
    return Scores(mae, squared**0.5, crps, coverage, total_mae=total_mae, n_values=int(sums[0]), n_totals=n_totals)
