"""How good a day's published forecasts were, beside what costs nothing: the rolling climatology, and the day before again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import date
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_agent.contract.baseline import seasonal_naive_at
from edge_agent.contract.errors import DataError
from edge_agent.contract.forecast import PUBLISHED_LEVELS
from edge_agent.contract.localtime import DAY_S, day_bounds
from edge_agent.contract.schema import HouseSpec
from edge_agent.contract.series import Series
from edge_agent.forecaster import Forecaster
from edge_agent.history import History
from edge_agent.issued import IssuedForecast, issued_between

Floats = npt.NDArray[np.float64]

MOST_ORIGINS: Final = 24
"""Of a day, evenly spread: forecasts ten minutes apart tell the same."""
LEAST_SHARE: Final = 0.5
"""Of the steps that must be known for a day to be scored."""


@dataclass(frozen=True)
class DayScore:
    """Mean scores of the forecasts issued on one local day, over the steps after them; in the target's unit (energy: Wh per step)."""

    day: date
    mae: float
    """Of the published median, as the next two."""
    mae_climatology: float
    mae_yesterday: float
    crps: float
    """Of the stored quantiles, without the correction of `conformal`, so that both are on one footing."""
    crps_climatology: float
    coverage: float
    """Share of steps within the published p10 to p90."""
    used: float
    """Mean of what happened."""
    full: float
    """Share of forecasts of the grade `full`."""
    total_error: float | None = None
    """Wh, by how much the last total published before the day was off; None for targets that do not add up and days not known throughout."""
    total_error_climatology: float | None = None
    total_error_yesterday: float | None = None

    def to_json(self) -> dict[str, Any]:
        """What `from_json` takes."""
        return {**asdict(self), "day": self.day.isoformat()}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> DayScore:
        """The inverse of `to_json`."""
        known = {field.name for field in fields(cls)}
        return cls(**{**{key: value for key, value in stored.items() if key in known}, "day": date.fromisoformat(stored["day"])})


def score_day(history: History, house: HouseSpec, target: str, day: date) -> DayScore | None:
    """The scores of a local day that is over, and the day after it; None when too little of it is known.

    Raises:
        ServiceError: the history cannot be read.
    """
    start, end = day_bounds(day, house.zone)
    live = [forecast for forecast in issued_between(history, target, start - DAY_S, end) if forecast.role == "live"]
    issued = [forecast for forecast in live if forecast.origin >= start]
    issued = [forecast for forecast in issued if forecast.levels == issued[-1].levels]  # of models that took turns, the last one's
    issued = issued[:: -(-len(issued) // MOST_ORIGINS) or 1]
    if not issued:
        return None
    climatology = Forecaster(house, None, target=target)
    series = history.series(climatology.features, start - DAY_S - climatology.history_s, end + DAY_S, house.step_s)
    steps = _step_scores(issued, climatology, series)
    return None if steps is None else DayScore(day, **steps, **_total_errors(live, climatology, series, day))


def _step_scores(issued: Sequence[IssuedForecast], climatology: Forecaster, series: Series) -> dict[str, float] | None:
    horizon = min(climatology.plan.horizon, *(len(forecast.mean) for forecast in issued))
    origins = np.array([forecast.origin for forecast in issued], np.int64)
    rows = (origins - series.start) // series.step_s
    values = series.values[:, 0]
    actual = np.stack([values[row : row + horizon] for row in rows])
    yesterday = seasonal_naive_at(values, rows, horizon=horizon, step_s=series.step_s)["yesterday"]
    usual, _ = climatology.batch(climatology.builder(series, first_origin=int(origins[0])), origins)
    known = np.isfinite(actual) & np.isfinite(yesterday)
    if known.mean() < LEAST_SHARE:
        return None
    actual, usual = actual[known], usual[:, :horizon][known]
    band = np.stack([_published(forecast)[:horizon] for forecast in issued])[known]
    levels = climatology.plan.quantile_levels
    return {
        "mae": _mean(np.abs(band[:, 1] - actual)),
        "mae_climatology": _mean(np.abs(usual[:, levels.index(0.5)] - actual)),
        "mae_yesterday": _mean(np.abs(yesterday[known] - actual)),
        "crps": _mean(_crps(np.stack([forecast.quantiles[:horizon] for forecast in issued])[known], actual, issued[0].levels)),
        "crps_climatology": _mean(_crps(usual, actual, levels)),
        "coverage": _mean((band[:, 0] <= actual) & (actual <= band[:, 2])),
        "used": _mean(actual),
        "full": _mean(np.array([forecast.grade == "full" for forecast in issued])),
    }


def _published(forecast: IssuedForecast) -> Floats:
    """p10, median and p90, `(horizon, 3)`."""
    if forecast.published is not None:
        return forecast.published.astype(np.float64)
    columns = [int(np.argmin(np.abs(np.asarray(forecast.levels) - level))) for level in PUBLISHED_LEVELS]
    return forecast.quantiles[:, columns].astype(np.float64)


def _crps(quantiles: npt.NDArray[Any], actual: Floats, levels: tuple[float, ...]) -> Floats:
    """Twice the mean pinball loss over the levels, `(n,)`."""
    over, level = actual[:, None] - quantiles, np.asarray(levels)
    return np.asarray(2 * np.maximum(level * over, (level - 1) * over).mean(axis=1))


def _total_errors(live: Sequence[IssuedForecast], climatology: Forecaster, series: Series, day: date) -> dict[str, float]:
    """Absolute errors of the day's total, by the last forecast before it; nothing where it, or the day, is not known throughout."""
    start, end = day_bounds(day, climatology.zone)
    before = [forecast for forecast in live if forecast.origin <= start and forecast.total is not None and forecast.total.date == day]
    actual = float(series.between(start, end).values.sum())
    if not before or not np.isfinite(actual):
        return {}
    forecast = before[-1]
    assert forecast.total is not None
    try:
        usual = climatology.forecast(series, forecast.origin, issued_at=forecast.origin).totals["tomorrow"].value
    except DataError:  # what it was forecast from has been forgotten since
        return {}
    errors = {"total_error": abs(forecast.total.value - actual), "total_error_climatology": abs(usual - actual)}
    day_before = float(series.between(forecast.origin - DAY_S, forecast.origin).values.sum())
    return errors | ({"total_error_yesterday": abs(day_before - actual)} if np.isfinite(day_before) else {})


def _mean(values: npt.NDArray[Any]) -> float:
    return float(values.mean())
