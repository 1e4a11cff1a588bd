"""What is kept of one home's backtest: sums, days and three examples; a few kB however many origins."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from edge_agent.contract.forecast import PUBLISHED_LEVELS
from edge_agent.contract.localtime import iso_utc
from edge_agent.contract.schema import HouseSpec
from trainer.baselines import YESTERDAY, yardstick
from trainer.daily import DayBook, Days
from trainer.rolling import Home, Part
from trainer.scores import DAY_TYPES, Predictions, Scores, skill, where_all_known
from trainer.seen import Seen, looked_at_until, seen_days
from trainer.tally import Tally, slots

NO_WEATHER: Final = "no weather forecast"


@dataclass(frozen=True, eq=False)
class Card:
    """Scores of one target of one house, by every method on the same steps."""

    house: HouseSpec
    target: str
    unit: str
    method: str
    """Label of the model among the methods."""
    version: str
    """Of the model."""
    weather: str
    """Which weather forecast the model was given."""
    step_s: int
    n_origins: int
    first: int
    """Unix s of the first origin."""
    last: int
    """And of the last."""
    seen: Seen
    """Which of the days the model has looked at before."""
    grades: dict[str, int]
    """Origins by grade: where the inputs do not allow the model, its forecast is the climatology's, as on the gateway."""
    tallies: dict[str, Tally]
    """By label; the model's first, the rolling climatology's last."""
    days: Days
    total_band: tuple[float, float] | None
    """p10 and p90 of a day's total over its forecast, as published; None without a model."""
    examples: dict[str, dict[str, Predictions]]
    """A good, a typical and a bad day: the forecasts of each method, by label."""

    @property
    def name(self) -> str:
        """Site and target."""
        return f"{self.house.site}:{self.target}"

    @property
    def adds_up(self) -> bool:
        """Whether steps are parts of a sum (energy) or means (states)."""
        return self.unit == "Wh"

    @property
    def seen_note(self) -> str:
        """Of days that the model has looked at before; empty when there are none."""
        return self.seen.note(f"a house called {self.house.site}")

    def scores(self) -> dict[str, Scores]:
        """Scores by label, all on the same steps."""
        return {label: tally.whole() for label, tally in self.tallies.items()}


class Account:
    """Takes up a home's forecasts part by part."""

    def __init__(self, home: Home) -> None:
        self.home, plan = home, home.forecaster.plan
        self._tallies: dict[str, Tally] = {}
        self._grades: Counter[str] = Counter()
        self._days = DayBook(home.method, home.forecaster.zone, adds_up=plan.unit == "Wh")

    def add(self, part: Part) -> None:
        """Count one part in, on the steps that all methods answer."""
        known = where_all_known(part.predictions)
        where = slots(known[self.home.method], self.home.forecaster.zone)
        for label, predictions in known.items():
            tally = self._tallies.setdefault(label, Tally(horizon=where.shape[1], quantile_levels=predictions.quantile_levels))
            tally.add(predictions, where)
        self._grades.update(part.grades)
        self._days.add(known)

    def card(self) -> Card:
        """What came of it.

        Raises:
            DataError: nothing is known at any origin.
        """
        forecaster, origins, model = self.home.forecaster, self.home.origins, self.home.forecaster.model
        for tally in self._tallies.values():
            tally.whole()
        days, examples = self._days.close()
        return Card(
            house=forecaster.house,
            target=forecaster.plan.target,
            unit=forecaster.plan.unit,
            method=self.home.method,
            version=forecaster.identity["version"] if model is not None else "",
            weather=self.home.weather.label if self.home.weather else NO_WEATHER,
            step_s=forecaster.plan.step_s,
            n_origins=len(origins),
            first=int(origins[0]),
            last=int(origins[-1]),
            seen=seen_days(origins, forecaster.house, looked_at_until(model.bundle.manifest.training) if model is not None else {}),
            grades=dict(self._grades),
            tallies=self._tallies,
            days=days,
            total_band=self._total_band(),
            examples=examples,
        )

    def _total_band(self) -> tuple[float, float] | None:
        forecaster = self.home.forecaster
        if forecaster.model is None or forecaster.plan.unit != "Wh":
            return None
        low, high = np.interp((PUBLISHED_LEVELS[0], PUBLISHED_LEVELS[-1]), forecaster.plan.quantile_levels, forecaster.calibration.total_ratio)
        return float(low), float(high)


def to_json(card: Card) -> dict[str, Any]:
    """All scores of one home, JSON-able; NaN as null."""
    head = {
        "site": card.house.site,
        "target": card.target,
        "model": card.method,
        "version": card.version,
        "weather": card.weather,
        "unit": card.unit,
        "step_s": card.step_s,
        "origins": {"n": card.n_origins, "first": iso_utc(card.first), "last": iso_utc(card.last)},
        "grades": card.grades,
        "seen": {**asdict(card.seen), "note": card.seen_note},
    }
    return finite({**head, **scores_json(card.tallies, card.method), "days": _days_json(card.days)})


def _days_json(days: Days) -> dict[str, Any]:
    """Averages over the days that each were forecast once, in the target's unit: Wh, or the mean of the day."""
    if not len(days):
        return {"n": 0}
    by_method = {
        label: {"total_error": float(days.errors(label).mean()), "misplaced": float(days.misplaced[label].mean())} for label in days.forecast
    }
    return {"n": len(days), "actual": float(days.actual.mean()), "by": by_method}


def scores_json(tallies: dict[str, Tally], method: str) -> dict[str, Any]:
    """Scores by method: of all steps, and by lead time, hour and day type."""
    scores, own = {label: tally.whole() for label, tally in tallies.items()}, tallies[method]
    groups = {"lead_step": Tally.leads, "hour": Tally.hours, "day_type": Tally.day_types}
    return {
        "scores": {
            label: {**asdict(row), "skill": skill(row, scores[yardstick(scores)]), "skill_over_yesterday": skill(row, scores[YESTERDAY])}
            for label, row in scores.items()
        },
        "coverage_by_level": dict(zip(map(str, own.quantile_levels), own.coverage_by_level().tolist(), strict=True)),
        "by": {
            name: {label: {_group(name, g): asdict(row) for g, row in scores_by(tally).items()} for label, tally in tallies.items()}
            for name, scores_by in groups.items()
        },
    }


def _group(name: str, number: int) -> str:
    return DAY_TYPES[number] if name == "day_type" else str(number)


def finite(value: Any) -> Any:
    """The same with NaN as None: JSON knows no NaN."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
