"""The scores of every target's days, kept for a year, and what is published of them: means over the last 7 and 30 days."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from functools import partial
from typing import Any, Final

from edge_agent.contract.localtime import DAY_S, day_bounds, local_date
from edge_agent.contract.schema import HouseSpec
from edge_agent.history import History
from edge_agent.keeping import Keeper
from edge_agent.scores import DayScore, score_day

SPANS: Final = (7, 30)
"""Days."""
KEEP_DAYS: Final = 366
DAYS_AT_ONCE: Final = 3
"""Days scored in one go; readings wait meanwhile."""


class Scoreboard:
    """Scores each day once, when the day after it is over."""

    def __init__(self, house: HouseSpec, keeper: Keeper) -> None:
        self.house, self.keeper = house, keeper
        self.scores: dict[str, list[DayScore]] = {}
        """By target, ascending."""
        self._scored_on: date | None = None

    def restore(self) -> None:
        """Go on from what the history holds."""
        self.scores = {target.name: self._known(target.name) for target in self.house.targets}

    def _known(self, target: str) -> list[DayScore]:
        return self.keeper.read(lambda history: stored_scores(history, target), [])

    def score_daily(self, end: int) -> bool:
        """Score the days that have passed, when the local day of `end` (of the last closed step, unix s) is a new one; whether there is news."""
        today = local_date(end, self.house.zone)
        if today == self._scored_on or not self.keeper.save():  # what is not on the disk cannot be scored
            return False
        more = [self.keeper.read(partial(self._score, target.name), False) for target in self.house.targets]
        if not any(more):
            self._scored_on = today
        return any(more)

    def _score(self, target: str, history: History) -> bool:
        """Score a few further days of one target; whether any was looked at."""
        key, last = f"scores {target}", history.last_closed()
        state = history.state(key) or {"looked_until": None, "days": []}
        day = _next_day(history, self.house, target, state["looked_until"])
        looked = 0
        while day is not None and last is not None and looked < DAYS_AT_ONCE and _is_over(day, self.house, last):
            found = score_day(history, self.house, target, day)
            before = [row for row in state["days"] if row["day"] < day.isoformat()]
            state["days"] = before + ([] if found is None else [found.to_json()])
            state["looked_until"] = day.isoformat()
            looked, day = looked + 1, day + timedelta(days=1)
        if looked:
            state["days"] = state["days"][-KEEP_DAYS:]
            history.save_state(key, state)
            self.scores[target] = [DayScore.from_json(row) for row in state["days"]]
        return looked > 0


def stored_scores(history: History, target: str) -> list[DayScore]:
    """What is known of `target`, ascending. Raises ServiceError."""
    return [DayScore.from_json(row) for row in (history.state(f"scores {target}") or {"days": []})["days"]]


def _next_day(history: History, house: HouseSpec, target: str, looked_until: str | None) -> date | None:
    today = local_date(history.last_closed() or 0, house.zone)
    if looked_until is not None and date.fromisoformat(looked_until) >= today:
        return today - timedelta(days=1)  # the clock was ahead
    if looked_until is not None:
        return date.fromisoformat(looked_until) + timedelta(days=1)
    first = history.rows("SELECT min(origin) FROM issued WHERE target = ?", target)[0][0]
    return None if first is None else local_date(first, house.zone)


def _is_over(day: date, house: HouseSpec, last_closed: int) -> bool:
    return day_bounds(day, house.zone)[1] + DAY_S <= last_closed + house.step_s


def score_payload(house: HouseSpec, target: str, scores: Sequence[DayScore], *, price: float | None, currency: str) -> dict[str, Any]:
    """The `score` message (schema 1); a span that holds no scored day is null.

    Args:
        house: the house.
        target: one of its targets.
        scores: of its days, ascending.
        price: of a kWh; None: no money.
        currency: of the price.
    """
    last = scores[-1].day if scores else None
    spans = {f"days_{span}": summary(scores, span, price=price) for span in SPANS}
    money = {} if price is None else {"price": price, "currency": currency}
    return {"schema": 1, "site": house.site, "target": target, "unit": house.unit_of[target], "last_day": last and last.isoformat(), **money, **spans}


def summary(scores: Sequence[DayScore], span: int, *, price: float | None = None) -> dict[str, Any] | None:
    """Means over the scored days among the last `span`; None when there is none."""
    days = [score for score in scores if score.day > scores[-1].day - timedelta(days=span)]
    if not days:
        return None
    mae, usual, naive = (_mean([getattr(day, name) for day in days]) for name in ("mae", "mae_climatology", "mae_yesterday"))
    found = {
        "days": len(days),
        "mae": _short(mae),
        "mae_climatology": _short(usual),
        "mae_yesterday": _short(naive),
        "skill_climatology": skill(mae, usual),
        "skill_yesterday": skill(mae, naive),
        "crps_skill_climatology": skill(_mean([day.crps for day in days]), _mean([day.crps_climatology for day in days])),
        "coverage": round(_mean([day.coverage for day in days]), 4),
    }
    return found | _totals(days, price)


def _totals(days: Sequence[DayScore], price: float | None) -> dict[str, Any]:
    """The day total's mean error over the days that have one, in Wh and in money."""
    found: dict[str, Any] = {}
    for name in ("total_error", "total_error_climatology", "total_error_yesterday"):
        errors = [error for day in days if (error := getattr(day, name)) is not None]
        if errors:
            found[f"day_{name}"] = round(_mean(errors), 1)
            if price is not None:
                found[f"day_{name}_money"] = round(_mean(errors) / 1000 * price, 4)
    return found


def skill(ours: float, theirs: float) -> float | None:
    """By what share our error is smaller than theirs; None where they have none."""
    return round(1 - ours / theirs, 4) if theirs > 0 else None


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def score_lines(scores: Sequence[DayScore], *, unit: str, price: float | None, currency: str) -> list[str]:
    """A few lines for people."""
    lines = []
    for span in SPANS:
        found = summary(scores, span, price=price) if scores else None
        if found is not None:
            lines.append(
                f"  last {span} days ({found['days']} scored): mean error {found['mae']:.4g} {unit} a step, {_beside(found, 'climatology')}, "
                f"{_beside(found, 'yesterday')}; {found['coverage']:.0%} within the band (80 % are meant to be)"
            )
            if "day_total_error" in found:
                money = f" ({found['day_total_error_money']:.2f} {currency})" if price is not None else ""
                lines.append(f"    tomorrow's total off by {found['day_total_error']:.0f} Wh a day on average{money}, {_usual_total(found)}")
    return lines


def _beside(found: dict[str, Any], name: str) -> str:
    share = found[f"skill_{name}"]
    whom = "the plain average" if name == "climatology" else "yesterday again"
    return f"as {whom}" if share is None else f"{abs(share):.0%} {'better' if share >= 0 else 'worse'} than {whom}"


def _usual_total(found: dict[str, Any]) -> str:
    return f"the plain average by {found['day_total_error_climatology']:.0f} Wh"
