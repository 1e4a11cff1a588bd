"""What was forecast and what then happened, from the agent's own history."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import numpy as np

from edge_agent.contract.errors import ServiceError
from edge_agent.contract.localtime import DAY_S, day_bounds, local_date
from edge_agent.contract.schema import HouseSpec, Target
from edge_agent.history import History, StoredForecast
from edge_agent.scoreboard import score_lines, stored_scores


def report_lines(house: HouseSpec, history: History, *, days: int, price: float | None = None, currency: str = "EUR") -> Iterator[str]:
    """A table a target: each day's last forecast from the evening before, beside what happened; then how good they were.

    Raises:
        ServiceError: there is no closed step yet.
    """
    last = history.last_step()
    if last is None:
        raise ServiceError(f"{history.path}: no forecast was made from it yet: start the agent, and wait for the first step")
    for target in house.targets:
        unit = house.unit_of[target.name]
        yield f"{target.name} ({'kWh a day' if unit == 'Wh' else f'{unit}, mean of the day'})"
        found = list(_days(house, history, target, end=last + house.step_s, days=days))
        yield from found or ["  no forecast of these days is stored"]
        yield from score_lines(stored_scores(history, target.name), unit=unit, price=price, currency=currency)
        yield ""


def _days(house: HouseSpec, history: History, target: Target, *, end: int, days: int) -> Iterator[str]:
    """One line a local day, from `days` ago to tomorrow."""
    today = local_date(end, house.zone)
    first = today - timedelta(days=days)
    stored = history.forecasts(target.name, day_bounds(first - timedelta(days=1), house.zone)[0])
    for offset in range(days + 2):
        day = first + timedelta(days=offset)
        forecast = _last_before(stored, day, house)
        if forecast is not None:
            yield _line(day, forecast, actual=_actual(house, history, target, day), scale=1e-3 if house.unit_of[target.name] == "Wh" else 1.0)


def _last_before(stored: list[StoredForecast], day: date, house: HouseSpec) -> StoredForecast | None:
    """The last forecast issued before `day` began that says something about it."""
    start, _ = day_bounds(day, house.zone)
    return next((f for f in reversed(stored) if start - DAY_S < f.origin <= start and _predicted(f.payload, day) is not None), None)


def _predicted(payload: dict[str, Any], day: date) -> dict[str, Any] | None:
    """Value and band for the whole of `day`: its total, or the means of its hours."""
    total: dict[str, Any] | None = payload["totals"].get("tomorrow")
    if total is not None:
        return total if total["date"] == day.isoformat() else None
    rows = [row for row in payload["forecast"] if row["time"].startswith(day.isoformat())]
    return {key: sum(row[key] for row in rows) / len(rows) for key in ("value", "p10", "p90")} if rows else None


def _actual(house: HouseSpec, history: History, target: Target, day: date) -> float:
    """The day's total (energy) or mean (states); NaN while it is not known for all of it."""
    feature = house.sensor(target.sensor).feature
    start, end = day_bounds(day, house.zone)
    values = history.series((feature,), start, end, house.step_s).values
    return float(values.sum() if feature.kind == "energy" else values.mean())


def _line(day: date, forecast: StoredForecast, *, actual: float, scale: float) -> str:
    predicted = _predicted(forecast.payload, day)
    assert predicted is not None
    value, low, high = (predicted[key] * scale for key in ("value", "p10", "p90"))
    text = f"  {day}  forecast {value:8.2f}  ({low:.2f} to {high:.2f})  {forecast.payload['grade']:8s}"
    if np.isnan(actual):
        return f"{text}  not over, or not known throughout"
    actual *= scale
    inside = "in the band" if low <= actual <= high else "outside the band"
    return f"{text}  actual {actual:8.2f}  error {value - actual:+.2f}  {inside}"
