"""Tells when forecasts have become worse than a plain average, or what is forecast or read has left its usual range, and what may be the cause."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta
from typing import Final

import numpy as np

from edge_agent.contract.localtime import DAY_S
from edge_agent.contract.schema import Sensor
from edge_agent.history import History
from edge_agent.scores import DayScore

WEEK, MONTH = 7, 30
LEAST_OF_WEEK, LEAST_OF_MONTH = 5, 14
"""Scored days that are needed to say anything."""
MOST_SPREADS: Final = 3.0
"""By how many standard deviations of single days a week's mean may differ from the weeks before."""
MOST_SENSOR_SPREADS: Final = 5.0
"""The same for a sensor, whose week must also lie beyond every single day before: rooms warm up in spring. (In the reference house's 25 sensors and
108 days this names one of them on one day; three standard deviations would on 77.)"""
LEAST_SPREAD: Final = 0.002
"""Of a sensor's valid range, taken for the spread of one that hardly moves."""
NOTABLE: Final = 0.25
"""Change of use that is named as a cause."""

_DAILY: Final = """
SELECT (? - 1 - time) / 86400 AS ago, avg(value), count(*) FROM steps JOIN sensors ON sensor = id WHERE name = ? AND time >= ? AND time < ?
GROUP BY ago
"""


def drift(target: str, scores: Sequence[DayScore], moved: Collection[str]) -> list[str]:
    """What the owner should know, in words; nothing when all is well.

    Args:
        target: name of the target.
        scores: of its days, ascending.
        moved: of the sensors that its forecasts read, those that `moved_sensors` names.
    """
    if not scores:
        return []
    last = scores[-1].day
    month = [score for score in scores if score.day > last - timedelta(days=MONTH)]
    week = [score for score in month if score.day > last - timedelta(days=WEEK)]
    before = month[: -len(week)]
    if len(week) < LEAST_OF_WEEK or len(month) < LEAST_OF_MONTH:
        return []
    found = [error_drift(week, month, before, moved), input_drift(week, before)]
    return [f"{target}: {text}" for text in found if text is not None]


def moved_sensors(history: History, sensors: Iterable[Sensor], *, step_s: int) -> dict[str, str]:
    """Sensors whose mean of the last week lies far beyond the days of the three weeks before, and how far, in words.

    Args:
        history: of the house.
        sensors: those that forecasts read; what they read of energy is not looked at, because a plug may be idle for weeks.
        step_s: the house's.

    Raises:
        ServiceError: the history cannot be read.
    """
    found, last = dict[str, str](), history.last_closed()
    end = 0 if last is None else last + step_s
    for sensor in sensors:
        if sensor.feature.kind == "state":
            rows = history.rows(_DAILY, end, sensor.name, end - MONTH * DAY_S, end)
            means = {ago: mean for ago, mean, n in rows if 2 * n * step_s >= DAY_S}
            text = _has_moved(sensor, [v for ago, v in means.items() if ago < WEEK], [v for ago, v in means.items() if ago >= WEEK])
            if text is not None:
                found[sensor.name] = text
    return found


def _has_moved(sensor: Sensor, week: Sequence[float], before: Sequence[float]) -> str | None:
    if len(week) < LEAST_OF_WEEK or len(week) + len(before) < LEAST_OF_MONTH:
        return None
    level, usual, unit = float(np.mean(week)), np.array(before), sensor.feature.unit
    spread = max(float(usual.std()), LEAST_SPREAD * (sensor.high - sensor.low))
    if usual.min() <= level <= usual.max() or abs(level - usual.mean()) <= MOST_SENSOR_SPREADS * spread:
        return None
    earlier = f"{usual.mean():.4g} ({usual.min():.4g} to {usual.max():.4g}) in the weeks before"
    return f"{level:.4g} {unit} in the mean of {WEEK} days, {earlier}: was it moved, set anew, or is something beside it?"


def error_drift(week: Sequence[DayScore], month: Sequence[DayScore], before: Sequence[DayScore], moved: Collection[str]) -> str | None:
    """That the week's forecasts were worse than the climatology, where the month's are better; with a cause."""
    now, usual = skill(week), skill(month)
    if not now < 0 < usual:
        return None
    worse = f"forecasts of the last {WEEK} days were {-now:.0%} worse than a plain average, over {MONTH} days {usual:.0%} better"
    return f"{worse}: {cause(week, before, moved)}"


def input_drift(week: Sequence[DayScore], before: Sequence[DayScore]) -> str | None:
    """That what is measured has left its usual range."""
    usual = np.array([score.used for score in before])
    level = float(np.mean([score.used for score in week]))
    if abs(level - usual.mean()) <= MOST_SPREADS * usual.std() or np.isclose(level, usual.mean()):
        return None
    earlier = f"{usual.mean():.4g} ({usual.min():.4g} to {usual.max():.4g}) in the weeks before"
    return f"what is measured has changed: {level:.4g} a step in the mean of {WEEK} days, {earlier}"


def cause(week: Sequence[DayScore], before: Sequence[DayScore], moved: Collection[str]) -> str:
    """What is most likely behind it, in words."""
    full, full_before = (float(np.mean([score.full for score in days])) for days in (week, before))
    used, used_before = (float(np.mean([score.used for score in days])) for days in (week, before))
    if full < full_before - NOTABLE:
        return f"only {full:.0%} of them had all inputs ({full_before:.0%} before): look for silent sensors"
    if moved:
        return f"{', '.join(sorted(moved))} left the usual range"
    change = used / used_before - 1 if used_before > 0 else 0.0
    if abs(change) > NOTABLE:
        return f"the mean of what is measured is {abs(change):.0%} {'higher' if change > 0 else 'lower'} than before"
    return "neither inputs nor level explain it; habits may have changed, and a model tuned anew may help if it stays so"


def skill(scores: Sequence[DayScore]) -> float:
    """By what share the CRPS is lower than the climatology's."""
    ours, theirs = sum(score.crps for score in scores), sum(score.crps_climatology for score in scores)
    return 1 - ours / theirs if theirs > 0 else 0.0
