"""When to forecast: at every step, or at set local times of the day."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from edge_agent.contract.localtime import DAY_S, local_date

SPARE_S = 5400
"""A forecast may come this much late (a restart, the hour that autumn adds) before it counts as missing."""
SHORTEST_LIFE_S = 7200


def is_due(origin: int, *, step_s: int, at: Sequence[time], zone: ZoneInfo) -> bool:
    """Whether a forecast is wanted at `origin` (unix s): always, or when a time of `at` lies in the step that ended there.

    A time that the clock skips in spring falls an hour later; one that it repeats in autumn counts once.
    """
    if not at:
        return True
    today = local_date(origin, zone)
    wanted = (_instant(day, moment, zone) for day in (today - timedelta(days=1), today) for moment in at)
    return any(origin - step_s < instant <= origin for instant in wanted)


def _instant(day: date, moment: time, zone: ZoneInfo) -> int:
    return int(datetime.combine(day, moment, zone).timestamp())


def lifetime_s(at: Sequence[time], *, step_s: int) -> int:
    """Seconds after which a forecast that was not replaced must no longer be shown: two of its periods are missed or its day is over."""
    if not at:
        return max(2 * step_s + SPARE_S, SHORTEST_LIFE_S)
    seconds = [moment.hour * 3600 + moment.minute * 60 for moment in at]
    gaps = [later - earlier for earlier, later in zip(seconds, [*seconds[1:], seconds[0] + DAY_S], strict=True)]
    return max(max(gaps) + SPARE_S, SHORTEST_LIFE_S)
