"""Half-years whose hours are shifted: a table in wall time that is read as UTC, or the other way round.

People keep wall time. Where a table's times are right, the day's pattern by the house's clock goes on as it was when the clock changes; where they
are not, it jumps by an hour. Two things blur that: timers that do not follow the clock, and lamps, which follow the sun. Lamps drive the evening the
same way as times that are late in summer do, so that direction needs the morning and the evening to agree. One home's single year can look shifted
because of its timers; a table of many homes cannot, because only its clock is common to them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from edge_agent.contract.localtime import DAY_S, iso_utc, local_days, local_seconds, utc_offsets_s, weekdays
from edge_agent.contract.schema import HouseSpec, TableClock
from edge_agent.contract.series import Series
from trainer.findings import Finding, Findings

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

COMPARED_DAYS: Final = 28
"""Working days are compared of this many before and after a change of the clock."""
MIN_DAYS: Final = 10
MIN_KNOWN: Final = 0.8
MORNING_H: Final = (4, 11)
EVENING_H: Final = (16, 24)
STEP_S: Final = 1800
MIN_CHANGES: Final = 2
"""A single change may coincide with one in the home."""
MIN_HOMES: Final = 5
"""From so many on, what is common to them decides."""
CLEAR: Final = 5.0
"""Standard errors by which the shifted pattern must fit better. Of 95 homes with right times 3.4 was the most, where times seem early in summer …"""
CLEAR_LATE: Final = 6.0
"""… and 9.2 where they seem late, for a home with timers, whose mornings and evenings did not agree."""
AGREED_LATE: Final = 3.0
COMMON: Final = 2.0
"""The same for the median of many homes: it was -4.9 with right times."""

NEARLY: Final = 0.95
"""All summers are shifted rather than some of them, or all winters, when that explains nearly as much."""


@dataclass(frozen=True)
class Shift:
    """Times from `start` to `end` (unix s) are late by `seconds`; early when negative."""

    start: int
    end: int
    seconds: int


def clock_shifts(series: Series, zone: ZoneInfo, sensors: tuple[str, ...]) -> list[Shift]:
    """Summers, or any half-years between two changes of the clock, whose times are shifted against what is around them.

    Args:
        series: the house's history.
        zone: the house's time zone.
        sensors: energy sensors of the series, each of one home.
    """
    changes = _changes(series, zone)
    series = series.select(sensors).resample(max(STEP_S, series.step_s))
    evidence = {late: _evidence(series, zone, changes, late=late) for late in (True, False)}
    found = [shift for late, by_home in evidence.items() for shift in _shifts(changes, by_home, series, late=late)]
    return sorted(found, key=lambda shift: shift.start)


def settle_clock(series: Series, house: HouseSpec, findings: Findings) -> Series:
    """The house's history with times that follow the house's clock.

    Raises:
        DataError: times are shifted, and no repair is wanted.
    """
    sensors = tuple(sensor.name for sensor in house.sensors if sensor.role == "energy" and np.isfinite(series.column(sensor.name)).any())
    for shift in clock_shifts(series, house.zone, sensors) if sensors else []:
        size, late = abs(shift.seconds), shift.seconds > 0
        what = (
            f"the day's pattern comes {size // 60} minutes {'late' if late else 'early'} by the clock of {house.time_zone} "
            f"from {iso_utc(shift.start)} to {iso_utc(shift.end)}, against what is before and after"
        )
        how = f"moved by {size // 60} minutes to {'earlier' if late else 'later'} times"
        steps = (shift.end - shift.start) // series.step_s
        finding = Finding(findings.source, "clock", what, "repaired", how, "", steps, shift.start, shift.end)
        if findings.decide(finding, expected=_advice(house.table_clock, late=late)):
            series = _moved(series, shift)
    return series


def _advice(clock: TableClock, *, late: bool) -> str:
    if late and clock != "local":
        return f'the file seems to be in wall time, and is said to be in {clock} time: set table_clock = "local" in house.toml'
    if not late and clock == "local":
        return 'the file seems to know no daylight saving: set table_clock = "standard" or "utc" in house.toml'
    return "were these times written by a clock of another zone? Correct the file, or, where its times carry an offset, the offset"


def _moved(series: Series, shift: Shift) -> Series:
    """The history with the shifted times moved back. Unknown then: what has no value any more, and where right and shifted times had met."""
    first, last = (min(max(time - series.start, 0) // series.step_s, len(series)) for time in (shift.start, shift.end))
    steps = shift.seconds // series.step_s
    values = series.values.copy()
    values[max(min(first, first + steps), 0) : max(last, last + steps)] = np.nan
    low, high = max(first, first - steps), min(last, last - steps)
    values[low:high] = series.values[low + steps : high + steps]
    return replace(series, values=values)


def _changes(series: Series, zone: ZoneInfo) -> list[tuple[int, int]]:
    """Unix s of each change of the zone's offset within the series, to the hour, and by how much it changes."""
    hours = np.arange(-(-series.start // 3600) * 3600, series.end, 3600, dtype=np.int64)
    offsets = utc_offsets_s(hours, zone)
    return [(int(hours[row + 1]), int(offsets[row + 1] - offsets[row])) for row in np.flatnonzero(np.diff(offsets))]


def _evidence(series: Series, zone: ZoneInfo, changes: list[tuple[int, int]], *, late: bool) -> Floats:
    """How clearly the pattern jumps at each change as if summers were late (or early), in standard errors, `(n_homes, n_changes, 2)`.

    The last axis holds mornings and evenings; NaN where too little is known.
    """
    first_day, patterns = _patterns(series, zone)
    at = [(int(local_days(np.array([time]), zone)[0]) - first_day, by if late else -by) for time, by in changes]
    return np.array([[_jump(days, first_day, day, by, series.step_s) for day, by in at] for days in patterns]).reshape(len(patterns), len(at), 2)


def _patterns(series: Series, zone: ZoneInfo) -> tuple[int, list[Floats]]:
    """The first local day, and for each home the days by the local clock, `(n_days, steps_per_day)`: logarithms less the day's mean, NaN unknown."""
    local = local_seconds(series.times, zone)
    days, slots = local // DAY_S, local % DAY_S // series.step_s
    out = []
    for energy in series.values.T:
        used = energy[energy > 0]
        grid = np.full((int(days[-1] - days[0]) + 1, DAY_S // series.step_s), np.nan)
        grid[days - days[0], slots] = np.log1p(np.maximum(energy, 0.0) / (np.median(used) if used.size else 1.0))
        grid[np.isfinite(grid).mean(axis=1) < MIN_KNOWN] = np.nan
        known = np.isfinite(grid)
        out.append(grid - np.where(known, grid, 0.0).sum(axis=1, keepdims=True) / np.maximum(known.sum(axis=1, keepdims=True), 1))
    return int(days[0]), out


def _jump(days: Floats, first_day: int, change: int, by: int, step_s: int) -> tuple[float, float]:
    """By how much the days on either side of `change` fit the other side's mean day better when that is moved by `by` s: mornings, evenings."""
    before, after = (_working_days(days, first_day, span) for span in ((change - COMPARED_DAYS, change), (change + 1, change + 1 + COMPARED_DAYS)))
    if min(len(before), len(after)) < MIN_DAYS:
        return np.nan, np.nan
    steps, gains = by // step_s, []
    for own, other, move in ((after, before, steps), (before, after, -steps)):
        mean = np.nanmean(other, axis=0)
        gains.append((own - mean) ** 2 - (own - np.roll(mean, move)) ** 2)
    gain, hours = np.concatenate(gains), np.arange(days.shape[1]) * step_s / 3600
    morning, evening = (np.nanmean(gain[:, (hours >= first) & (hours < last)], axis=1) for first, last in (MORNING_H, EVENING_H))
    return _standard_errors(morning), _standard_errors(evening)


def _working_days(days: Floats, first_day: int, span: tuple[int, int]) -> Floats:
    rows = np.arange(max(span[0], 0), min(span[1], len(days)))
    rows = rows[weekdays(rows + first_day) < 5]
    return days[rows][np.isfinite(days[rows]).any(axis=1)]


def _standard_errors(values: Floats) -> float:
    """The mean in units of its standard error; 0 when nothing varies."""
    spread = float(np.nanstd(values, ddof=1))
    return float(np.nanmean(values)) / spread * float(np.sqrt(np.isfinite(values).sum())) if spread > 0 else 0.0


def _shifts(changes: list[tuple[int, int]], evidence: Floats, series: Series, *, late: bool) -> list[Shift]:
    """All summers where that explains the changes best, else the half-years whose two changes are clear, the clearest first."""
    pairs = [clearness(evidence[:, [i, i + 1]], late=late) for i in range(len(changes) - 1)]
    found: dict[int, Shift] = {}
    for i in sorted(range(len(pairs)), key=lambda i: -pairs[i]):
        if pairs[i] and not {i - 1, i + 1} & set(found):  # the change between two half-years speaks for one of them
            (start, by), (end, _) = changes[i : i + 2]
            found[i] = Shift(start, end, by if late else -by)
    explained_by_pairs = np.sqrt(2) * sum(pairs[i] for i in found)
    if np.sqrt(len(changes)) * clearness(evidence, late=late) <= NEARLY * explained_by_pairs:
        return list(found.values())
    edges = [series.start, *(time for time, _ in changes), series.end]
    rises = [-changes[0][1], *(by for _, by in changes)]
    return [Shift(edges[i], edges[i + 1], by if late else -by) for i, by in enumerate(rises) if by > 0]


def clearness(evidence: Floats, *, late: bool) -> float:
    """Standard errors by which one shift is told from none, 0 when there is doubt; `evidence` as from `_evidence`, all of it about that shift."""
    counts = np.isfinite(evidence).all(axis=2).sum(axis=1)
    pooled = np.nansum(evidence[counts > 0], axis=1) / np.sqrt(counts[counts > 0])[:, None]
    if len(pooled) >= MIN_HOMES:
        common = float(np.median(pooled.sum(axis=1))) / np.sqrt(2)
        return common if common >= COMMON else 0.0
    if not len(pooled) or counts.max() < MIN_CHANGES:
        return 0.0
    morning, evening = pooled.sum(axis=0) / np.sqrt(len(pooled))
    clear = float(morning + evening) / np.sqrt(2)
    is_sure = clear >= CLEAR_LATE and min(morning, evening) >= AGREED_LATE if late else clear >= CLEAR
    return clear if is_sure else 0.0
