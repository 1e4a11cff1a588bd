"""What the agent's forecasts were worth: read from its MQTT messages, scored beside the baselines, and shown as tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal

import numpy as np
from rich.table import Table

from edge_agent.contract.features import FeatureBuilder
from edge_agent.contract.forecast import PUBLISHED_LEVELS
from edge_agent.contract.localtime import day_bounds, local_date
from edge_agent.contract.schema import HouseSpec
from edge_agent.contract.series import Floats, Ints, Series
from edge_agent.forecaster import climatology_plan
from trainer.baselines import CLIMATOLOGY, actual_values, baseline_predictions
from trainer.scores import Predictions, score, where_all_known

Payload = dict[str, Any]

MODEL: Final = "Hearthcast"
SCORE_EVERY_S: Final = 3600
BAR_CELLS: Final = 24


@dataclass(frozen=True)
class Line:
    """Scores of one way to forecast, in the target's unit."""

    crps: float
    """Twice the mean pinball loss of the published levels, per step."""
    mae: float
    """Mean absolute error of the median, per step."""
    total_mae: float
    """Mean absolute error of the day's total (energy), for forecasts issued at local midnight."""
    coverage: float | None
    """Share of steps between p10 and p90; None for single numbers."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """Scores by label, the model's first, and how many forecasts they are about."""

    lines: dict[str, Line]
    n_origins: int
    n_days: int

    def skill(self, label: str, score: Literal["crps", "total_mae"] = "crps") -> float:
        """1 - score / the rolling climatology's; NaN where that makes no error, or the score is not known."""
        own, reference = (getattr(self.lines[name], score) for name in (label, CLIMATOLOGY))
        return 1.0 - own / reference if reference > 0 else float("nan")


def unix_s(text: str) -> int:
    """A time as the agent writes it, in unix s."""
    return int(datetime.fromisoformat(text).timestamp())


def predictions_from(payloads: Sequence[Payload], actual: Floats) -> Predictions:
    """The published quantiles of `payloads`; `actual` is `(n, horizon)`. Messages carry no mean: the median stands in for it."""
    rows = [[[step[key] for key in ("p10", "value", "p90")] for step in payload["forecast"]] for payload in payloads]
    quantiles = np.array(rows, dtype=np.float64)
    origins = np.array([unix_s(payload["origin"]) for payload in payloads], np.int64)
    return Predictions(origins, payloads[0]["step_s"], PUBLISHED_LEVELS, quantiles, quantiles[:, :, 1], actual)


def climatology_builder(series: Series, house: HouseSpec, target: str) -> FeatureBuilder:
    """Makes the rolling climatology's quantiles at the levels that the agent publishes."""
    plan = replace(climatology_plan(house, target), quantile_levels=PUBLISHED_LEVELS)
    sensor = house.target(target).sensor
    return FeatureBuilder(plan, series.select((sensor,)), target=sensor, zone=house.zone)


def score_forecasts(payloads: Sequence[Payload], series: Series, house: HouseSpec, target: str) -> Outcome:
    """Scores of the agent's forecasts issued at full hours, beside the baselines at the same origins; `series` says what happened."""
    builder = climatology_builder(series, house, target)
    chosen = [
        p for p in payloads if unix_s(p["origin"]) % SCORE_EVERY_S == 0 and unix_s(p["origin"]) + builder.plan.horizon * house.step_s <= series.end
    ]
    origins = np.array([unix_s(p["origin"]) for p in chosen], np.int64)
    own = predictions_from(chosen, actual_values(builder, origins))
    table = where_all_known({MODEL: own, **baseline_predictions(builder, origins)})
    at_midnight = [i for i, origin in enumerate(origins.tolist()) if day_bounds(local_date(origin, house.zone), house.zone)[0] == origin]
    lines = {}
    for label, predictions in table.items():
        scores = score(predictions)
        totals = _published_totals(chosen, at_midnight) if label == MODEL else predictions.mean[at_midnight].sum(axis=1)
        errors = np.abs(totals - own.actual[at_midnight].sum(axis=1))
        is_point = bool((predictions.quantiles[:, :, 0] == predictions.quantiles[:, :, -1]).all())
        lines[label] = Line(scores.crps, scores.mae, float(errors.mean()) if len(errors) else float("nan"), None if is_point else scores.coverage)
    return Outcome(lines, len(chosen), len(at_midnight))


def _published_totals(payloads: Sequence[Payload], picked: Sequence[int]) -> Floats:
    """Totals of tomorrow in messages issued at local midnight, when tomorrow is the very day that begins; NaN for states."""
    return np.array([payloads[i]["totals"].get("tomorrow", {}).get("value", np.nan) for i in picked], dtype=np.float64)


def score_table(outcome: Outcome, unit: str) -> Table:
    """Scores as a table for the terminal."""
    table = Table(
        title=f"{outcome.n_origins} forecasts issued at full hours of the replayed days",
        caption=f"Errors in {unit} a step (total: {unit} a day, {outcome.n_days} forecasts issued at midnight); lower is better. "
        f"Skill: 1 - error / error of the {CLIMATOLOGY}. CRPS from the published p10, p50 and p90.",
    )
    for heading in ("forecast", "MAE", "CRPS", "skill", "day total", "skill", "in p10-p90"):
        table.add_column(heading, justify="left" if heading == "forecast" else "right")
    for label, line in outcome.lines.items():
        total = ("-", "-") if np.isnan(line.total_mae) else (f"{line.total_mae:,.0f}", f"{outcome.skill(label, 'total_mae'):+.1%}")
        cover = "-" if line.coverage is None else f"{line.coverage:.0%}"
        cells = (f"{line.mae:.1f}", f"{line.crps:.1f}", f"{outcome.skill(label):+.1%}", *total, cover)
        table.add_row(label, *cells, style="bold" if label == MODEL else None)
    return table


def forecast_table(hourly: Payload, series: Series, house: HouseSpec, target: str) -> Table:
    """The next day by the hour: forecast with its band, what then happened, and a bar."""
    unit = hourly["unit"]
    first = datetime.fromisoformat(hourly["forecast"][0]["time"])
    table = Table(title=f"Forecast of {target} for {first:%A %-d %B %Y}, issued {datetime.fromisoformat(hourly['origin']):%Y-%m-%d %H:%M} UTC")
    for heading in ("hour", f"forecast {unit}", "p10 to p90", "then happened", ""):
        table.add_column(heading, justify="left" if heading in ("hour", "") else "right")
    happened = _hourly_actual(hourly, series, house, target)
    highest = max([row["value"] for row in hourly["forecast"]] + [1e-9])
    for row, actual in zip(hourly["forecast"], happened, strict=True):
        known = "-" if np.isnan(actual) else f"{actual:.2f}"
        bar = "█" * round(max(row["value"], 0.0) / highest * BAR_CELLS)
        table.add_row(f"{datetime.fromisoformat(row['time']):%H:%M}", f"{row['value']:.2f}", f"{row['p10']:.2f} to {row['p90']:.2f}", known, bar)
    total = hourly["totals"].get("tomorrow")
    if total is not None:
        table.add_section()
        known = "-" if np.isnan(happened).any() else f"{happened.sum():.2f}"
        table.add_row("whole day", f"{total['value']:.2f}", f"{total['p10']:.2f} to {total['p90']:.2f}", known, "", style="bold")
    return table


def _hourly_actual(hourly: Payload, series: Series, house: HouseSpec, target: str) -> Floats:
    """What happened in each hour of `hourly`, in its unit, `(n_hours,)`; NaN unknown."""
    starts: Ints = np.array([unix_s(row["time"]) for row in hourly["forecast"]], np.int64)
    sensor = house.target(target).sensor
    column = series.select((sensor,)).between(int(starts[0]), int(starts[-1]) + SCORE_EVERY_S).values[:, 0].reshape(len(starts), -1)
    if house.unit_of[target] != "Wh":
        return np.asarray(column.mean(axis=1))
    return np.asarray(column.sum(axis=1)) / (1e3 if hourly["unit"] == "kWh" else 1.0)
