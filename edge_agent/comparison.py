"""Two models' scores, day by day, from the forecasts that both issued at the same origins: what a take-over or a step back rests on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

import numpy as np

from edge_agent.contract.localtime import DAY_S, day_bounds, local_date
from edge_agent.contract.schema import HouseSpec
from edge_agent.contract.series import Floats
from edge_agent.history import History
from edge_agent.issued import IssuedForecast, issued_between
from edge_agent.standing import DayPair

LEAST_SHARE: Final = 0.5
"""Of a forecast's steps that must be known, and of a day's origins that must tell the two models apart."""


@dataclass(frozen=True)
class Comparison:
    """Two models of one target, and the days that they have been compared on."""

    target: str
    current: str
    """`Forecaster.model_id`, as are the forecasts'."""
    shadow: str
    since: int
    """Unix s; local days that begin later count."""
    pairs: tuple[DayPair, ...] = ()
    looked_until: date | None = None
    """The last day that was looked at, whether or not it could be scored."""

    @property
    def summary(self) -> dict[str, Any]:
        """How many days could be compared, and both mean scores over them (CRPS, canonical unit; lower is better)."""
        if not self.pairs:
            return {"days_compared": 0}
        current, shadow = np.mean([(pair.current, pair.shadow) for pair in self.pairs], axis=0)
        return {"days_compared": len(self.pairs), "score": round(float(shadow), 4), "current_score": round(float(current), 4)}

    def continued(self, stored: Mapping[str, Any] | None) -> Comparison:
        """With the days that were `stored`, where they are of the same two models since the same time."""
        if stored is None or [stored[key] for key in ("current", "shadow", "since")] != [self.current, self.shadow, self.since]:
            return self
        pairs = tuple(DayPair(date.fromisoformat(day), current, shadow) for day, current, shadow in stored["pairs"])
        looked = stored["looked_until"]
        return Comparison(self.target, self.current, self.shadow, self.since, pairs, None if looked is None else date.fromisoformat(looked))

    def to_json(self) -> dict[str, Any]:
        """What `continued` takes."""
        pairs = [(pair.day.isoformat(), pair.current, pair.shadow) for pair in self.pairs]
        looked = None if self.looked_until is None else self.looked_until.isoformat()
        return {"current": self.current, "shadow": self.shadow, "since": self.since, "pairs": pairs, "looked_until": looked}

    def extended(self, history: History, house: HouseSpec) -> Comparison:
        """With every further day whose forecasts have all come to their end.

        Raises:
            ServiceError: the history cannot be read.
        """
        last = history.last_closed()
        if last is None:
            return self
        first = local_date(self.since, house.zone) if self.looked_until is None else self.looked_until
        pairs, looked = list(self.pairs), self.looked_until
        day = first + timedelta(days=1)
        while day_bounds(day, house.zone)[1] + DAY_S <= last + house.step_s:
            pair = day_pair(history, house, self, day)
            pairs += [] if pair is None else [pair]
            looked, day = day, day + timedelta(days=1)
        return Comparison(self.target, self.current, self.shadow, self.since, tuple(pairs), looked)


def day_pair(history: History, house: HouseSpec, comparison: Comparison, day: date) -> DayPair | None:
    """Both models' mean CRPS over the origins of a local day; None when it tells nothing.

    An origin counts where both issued a forecast, enough of its steps came to be known, and not both are the climatology's.
    """
    start, end = day_bounds(day, house.zone)
    by_origin = _by_origin(issued_between(history, comparison.target, start, end))
    feature = house.sensor(house.target(comparison.target).sensor).feature
    actual = history.series((feature,), start, end + DAY_S, house.step_s).values[:, 0]
    both = [
        (found[comparison.current], found[comparison.shadow]) for found in by_origin.values() if {comparison.current, comparison.shadow} <= set(found)
    ]
    told = [pair for pair in both if any(forecast.grade != "baseline" for forecast in pair)]
    scores = [tuple(_crps(forecast, actual[(forecast.origin - start) // house.step_s :]) for forecast in pair) for pair in told]
    known = np.array([pair for pair in scores if np.isfinite(pair).all()]).reshape(-1, 2)
    if len(known) == 0 or len(known) < LEAST_SHARE * len(both):
        return None
    current, shadow = known.mean(axis=0)
    return DayPair(day, float(current), float(shadow))


def _by_origin(issued: Iterable[IssuedForecast]) -> dict[int, dict[str, IssuedForecast]]:
    found: dict[int, dict[str, IssuedForecast]] = {}
    for forecast in issued:
        found.setdefault(forecast.origin, {})[forecast.model] = forecast
    return found


def _crps(forecast: IssuedForecast, actual: Floats) -> float:
    """Twice the mean pinball loss over levels and known steps; NaN where too few are known.

    Args:
        forecast: with a horizon of h steps.
        actual: from its origin on, `(h or more,)`, NaN unknown.
    """
    actual = actual[: len(forecast.mean)]
    known = np.isfinite(actual)
    if not len(actual) or known.mean() < LEAST_SHARE:
        return float("nan")
    over = actual[known, None] - forecast.quantiles[known].astype(np.float64)
    levels = np.asarray(forecast.levels)
    return float(2 * np.maximum(levels * over, (levels - 1) * over).mean())
