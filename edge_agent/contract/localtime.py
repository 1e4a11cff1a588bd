"""UTC inside; the house's zone only here: calendar fields and day totals. 23- and 25-hour days exist."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

HOUR_S = 3600
DAY_S = 86_400
TABLE_DAYS = 512
"""Clock changes are looked up in spans of this many days, so that a window that moves on keeps meeting spans known already."""
TABLE_S = TABLE_DAYS * DAY_S


@lru_cache(maxsize=4096)
def utc_offset_s(unix_s: int, zone: ZoneInfo) -> int:
    """Seconds that local time in `zone` is ahead of UTC at `unix_s`."""
    offset = datetime.fromtimestamp(unix_s, zone).utcoffset()
    return 0 if offset is None else int(offset.total_seconds())


def utc_offsets_s(times: Ints, zone: ZoneInfo) -> Ints:
    """Seconds ahead of UTC at each of `times` (unix s, any order, any shape)."""
    if times.size == 0:
        return np.zeros(times.shape, np.int64)
    first, last = int(times.min()) // TABLE_S * TABLE_DAYS, (int(times.max()) // TABLE_S + 1) * TABLE_DAYS
    if last - first > 40_000:  # over a century: a clock fault, not a series
        return np.array([utc_offset_s(int(t), zone) for t in times.ravel()], np.int64).reshape(times.shape)
    changes, offsets = _offset_changes(first, last, zone)
    return offsets[np.searchsorted(changes, times, side="right")]


@lru_cache(maxsize=64)
def _offset_changes(first_day: int, last_day: int, zone: ZoneInfo) -> tuple[Ints, Ints]:
    """Times at which the offset changes, and the offsets before, between and after them."""
    changes: list[int] = []
    offsets = [utc_offset_s(first_day * DAY_S, zone)]
    for day in range(first_day, last_day):
        after = utc_offset_s((day + 1) * DAY_S, zone)
        if after != offsets[-1]:
            changes.append(_change_between(day * DAY_S, (day + 1) * DAY_S, zone))
            offsets.append(after)
    return np.array(changes, np.int64), np.array(offsets, np.int64)


def _change_between(low: int, high: int, zone: ZoneInfo) -> int:
    """The first second in `(low, high]` with the offset of `high`, by bisection."""
    after = utc_offset_s(high, zone)
    while high - low > 1:
        middle = (low + high) // 2
        if utc_offset_s(middle, zone) == after:
            high = middle
        else:
            low = middle
    return high


def local_seconds(times: Ints, zone: ZoneInfo) -> Ints:
    """Local wall time as seconds since 1970-01-01 00:00 local."""
    return times + utc_offsets_s(times, zone)


def local_days(times: Ints, zone: ZoneInfo) -> Ints:
    """Local calendar day of each time, as days since 1970-01-01."""
    return local_seconds(times, zone) // DAY_S


def weekdays(days: Ints) -> Ints:
    """Day of the week (Monday 0) of days since 1970-01-01, which was a Thursday."""
    return (days + 3) % 7


def local_date(unix_s: int, zone: ZoneInfo) -> date:
    """The calendar date in `zone` at `unix_s`."""
    return datetime.fromtimestamp(unix_s, zone).date()


def day_bounds(day: date, zone: ZoneInfo) -> tuple[int, int]:
    """Unix seconds of the first instant of local `day` and of the next: 23, 24 or 25 hours apart."""
    return _midnight(day, zone), _midnight(day + timedelta(days=1), zone)


def _midnight(day: date, zone: ZoneInfo) -> int:
    """First instant of `day`; where the clock skips midnight, the instant after the gap (fold=0 reads the gap with the offset before it)."""
    return int(datetime.combine(day, time(), zone).timestamp())


def day_totals(times: Ints, values: Floats, zone: ZoneInfo) -> dict[date, float]:
    """Sum of `values` by the local date that each step begins on; a day with an unknown value has an unknown (NaN) total.

    Only the steps given count: the first and last day may be parts of days.
    """
    days = local_days(times, zone)
    return {date.fromordinal(int(day) + date(1970, 1, 1).toordinal()): float(values[days == day].sum()) for day in np.unique(days)}


def iso_utc(unix_s: float) -> str:
    """`2026-11-24T00:00:00Z`."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def iso_local(unix_s: int, zone: ZoneInfo) -> str:
    """`2026-11-24T01:00:00+01:00`: time-zone aware, as every time that leaves the agent."""
    return datetime.fromtimestamp(unix_s, zone).isoformat()
