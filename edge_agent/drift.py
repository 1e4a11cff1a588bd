"""Tells when forecasts have become worse than a plain average, or what is forecast has left its usual range, and what may be the cause."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import numpy as np

from edge_agent.scores import DayScore

WEEK, MONTH = 7, 30
LEAST_OF_WEEK, LEAST_OF_MONTH = 5, 14
"""Scored days that are needed to say anything."""
MOST_SPREADS: Final = 3.0
"""By how many standard deviations of single days a week's mean may differ from the weeks before."""
NOTABLE: Final = 0.25
"""Change of use that is named as a cause."""


def drift(target: str, scores: Sequence[DayScore]) -> list[str]:
    """What the owner should know, in words; nothing when all is well.

    Args:
        target: name of the target.
        scores: of its days, ascending.
    """
    if not scores:
        return []
    last = scores[-1].day
    month = [score for score in scores if score.day > last - timedelta(days=MONTH)]
    week = [score for score in month if score.day > last - timedelta(days=WEEK)]
    before = month[: -len(week)]
    if len(week) < LEAST_OF_WEEK or len(month) < LEAST_OF_MONTH:
        return []
    found = [error_drift(week, month, before), input_drift(week, before)]
    return [f"{target}: {text}" for text in found if text is not None]


def error_drift(week: Sequence[DayScore], month: Sequence[DayScore], before: Sequence[DayScore]) -> str | None:
    """That the week's forecasts were worse than the climatology, where the month's are better; with a cause."""
    now, usual = skill(week), skill(month)
    if not now < 0 < usual:
        return None
    worse = f"forecasts of the last {WEEK} days were {-now:.0%} worse than a plain average, over {MONTH} days {usual:.0%} better"
    return f"{worse}: {cause(week, before)}"


def input_drift(week: Sequence[DayScore], before: Sequence[DayScore]) -> str | None:
    """That what is measured has left its usual range."""
    usual = np.array([score.used for score in before])
    level = float(np.mean([score.used for score in week]))
    if abs(level - usual.mean()) <= MOST_SPREADS * usual.std() or np.isclose(level, usual.mean()):
        return None
    earlier = f"{usual.mean():.4g} ({usual.min():.4g} to {usual.max():.4g}) in the weeks before"
    return f"what is measured has changed: {level:.4g} a step in the mean of {WEEK} days, {earlier}"


def cause(week: Sequence[DayScore], before: Sequence[DayScore]) -> str:
    """What is most likely behind it, in words."""
    full, full_before = (float(np.mean([score.full for score in days])) for days in (week, before))
    used, used_before = (float(np.mean([score.used for score in days])) for days in (week, before))
    if full < full_before - NOTABLE:
        return f"only {full:.0%} of them had all inputs ({full_before:.0%} before): look for silent sensors"
    change = used / used_before - 1 if used_before > 0 else 0.0
    if abs(change) > NOTABLE:
        return f"the mean of what is measured is {abs(change):.0%} {'higher' if change > 0 else 'lower'} than before"
    return "neither inputs nor level explain it; habits may have changed, and a model tuned anew may help if it stays so"


def skill(scores: Sequence[DayScore]) -> float:
    """By what share the CRPS is lower than the climatology's."""
    ours, theirs = sum(score.crps for score in scores), sum(score.crps_climatology for score in scores)
    return 1 - ours / theirs if theirs > 0 else 0.0
