"""Half-years whose hours are shifted: a table in wall time that is read as UTC, or the other way round.

People keep wall time. Where a table's times are right, the day's pattern by the house's clock goes on as it was when the clock changes; where they
are not, it jumps by an hour. Two things blur that: timers that do not follow the clock, and lamps, which follow the sun. Both drive the pattern the
same way as times that are late in summer do, so that direction needs the waking hours and the evening to agree. One home's single year can look
shifted because of its timers; a table of many homes cannot, because only its clock is common to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from edge_agent.contract.localtime import DAY_S, iso_utc, local_seconds, utc_offsets_s, weekdays
from edge_agent.contract.schema import HouseSpec, TableClock
from edge_agent.contract.series import Series
from trainer.findings import Finding, Findings

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

COMPARED_DAYS: Final = 28
"""Working days are compared of this many before and after a change of the clock."""
MIN_DAYS: Final = 10
MIN_KNOWN: Final = 0.8
HOURS_LATE: Final = ((4, 10), (17, 24))
"""Two parts of the day that are judged apart: for times that seem late in summer those when people wake, and are at home …"""
HOURS_EARLY: Final = ((4, 14), (14, 24))
"""… for times that seem early, which neither timers nor lamps explain, all of the waking day."""
NOISE_FLOOR: Final = 0.1
"""An hour counts by how little it varies from day to day, this share of the day's mean variance added."""
STEP_S: Final = 1800
MIN_CHANGES: Final = 2
"""A single change may coincide with one in the home."""
MIN_HOMES: Final = 5
"""From so many on, what is common to them decides."""
CLEAR_EARLY: Final = 3.5
"""Standard errors by which the shifted pattern must fit better. Of 118 homes with right times 2.0 was the most where times seem early in summer …"""
CLEAR_LATE: Final = 5.0
"""… and 7.0 where they seem late, for a home with timers, whose two parts of the day did not agree; 1.4 where they did."""
AGREED_LATE: Final = 1.0
COMMON: Final = 3.0
"""The same for the median of many homes: it was -6.5 with right times, and above 0 for one draw of five of these homes in 200."""

NEARLY: Final = 0.8
"""All summers are shifted rather than some of them, or all winters, when that explains nearly as much."""


@dataclass(frozen=True)
class Shift:
    """Times from `start` to `end` (unix s) are late by `seconds`; early when negative."""

    start: int
    end: int
    seconds: int


@dataclass(frozen=True)
class ClockFault:
    """How a history's times are wrong."""

    shifts: tuple[Shift, ...] = ()
    """Half-years that are shifted against those around them, ascending."""
    is_general: bool = False
    """Whether these are all summers: then it is the table's clock."""
    clearness: float = 0.0
    """Standard errors by which this explains the history better than right times."""


def clock_fault(series: Series, zone: ZoneInfo, sensors: tuple[str, ...], clock: TableClock) -> ClockFault:
    """Summers, or any half-years between two changes of the clock, whose times are shifted; nothing where there is doubt.

    Args:
        series: the house's history.
        zone: the house's time zone.
        sensors: energy sensors of the series, each of one home.
        clock: by which the table's times were read.
    """
    changes = _changes(series, zone)
    if not changes or not sensors:
        return ClockFault()
    first_day, patterns = _patterns(series.select(sensors).resample(max(STEP_S, series.step_s)), zone)
    # wall time that is read as UTC shows the hours of the day late by the zone's standard offset, all year
    displaced = {0, _standard_s(changes, zone) // 3600 if clock == "utc" else 0}
    faults = []
    for late, hours in ((True, [(first + by, last + by) for by in displaced for first, last in HOURS_LATE]), (False, HOURS_EARLY)):
        evidence = _evidence(patterns, first_day, changes, late=late, hours=hours)
        faults.append(_explained(changes, evidence, series, late=late))
    return max(faults, key=lambda fault: fault.clearness)


def settle_clock(series: Series, house: HouseSpec, findings: Findings) -> Series:
    """The house's history with times that follow the house's clock.

    Raises:
        DataError: times are shifted, and no repair is wanted.
    """
    sensors = tuple(sensor.name for sensor in house.sensors if sensor.role == "energy" and np.isfinite(series.column(sensor.name)).any())
    fault = clock_fault(series, house.zone, sensors, house.table_clock)
    is_wall = fault.is_general and fault.shifts[0].seconds > 0 and house.table_clock == "utc"
    ahead_s = _standard_s(_changes(series, house.zone), house.zone) if is_wall else 0
    mended = series
    for shift in fault.shifts:
        minutes, late = abs(shift.seconds) // 60, shift.seconds > 0
        what = (
            f"the day's pattern comes {minutes} minutes {'late' if late else 'early'} by the clock of {house.time_zone} "
            f"from {iso_utc(shift.start)} to {iso_utc(shift.end)}, against what is before and after"
        )
        how = "read as wall time" if is_wall else f"moved by {minutes} minutes to {'earlier' if late else 'later'} times"
        steps = (shift.end - shift.start) // series.step_s
        finding = Finding(findings.source, "clock", what, "repaired", how, "", steps, shift.start, shift.end)
        if not findings.decide(finding, expected=_advice(house.table_clock, late=late)):
            return series
        # a series in wall time shows a change where the wall clock shows it
        start, end = (time if time in (series.start, series.end) else time + ahead_s for time in (shift.start, shift.end))
        mended = _moved(mended, replace(shift, start=start, end=end))
    return replace(mended, start=mended.start - ahead_s)


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
    """Unix s of each change of the zone's offset within the series, to the hour, and by how many s it changes."""
    hours = np.arange(-(-series.start // 3600) * 3600, series.end, 3600, dtype=np.int64)
    offsets = utc_offsets_s(hours, zone)
    return [(int(hours[row + 1]), int(offsets[row + 1] - offsets[row])) for row in np.flatnonzero(np.diff(offsets))]


def _standard_s(changes: list[tuple[int, int]], zone: ZoneInfo) -> int:
    """Seconds that the zone's standard time is ahead of UTC."""
    return min(int(utc_offsets_s(np.array([time - DAY_S, time + DAY_S]), zone).min()) for time, _ in changes)


def _evidence(patterns: list[Floats], first_day: int, changes: list[tuple[int, int]], *, late: bool, hours: Sequence[tuple[int, int]]) -> Floats:
    """How clearly the pattern jumps at each change as if summers were late (or early), in standard errors, `(n_homes, n_changes, n_parts)`.

    The last axis holds parts of the day, given by their `hours`; NaN where too little is known.
    """
    parts = [np.arange(first, last) % 24 for first, last in hours]
    jumps = []
    for days in patterns:
        numbers = first_day + np.arange(len(days))
        working = weekdays(numbers) < 5
        jumps.append([_jump(*_sides(days[working], numbers[working], time // DAY_S), by if late else -by, parts) for time, by in changes])
    return np.array(jumps).reshape(len(patterns), len(changes), len(parts))


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


def _sides(days: Floats, numbers: Ints, change: int) -> tuple[Floats, Floats]:
    """Days, with their `numbers` since 1970, before and after the day of a change, as far as they are known."""
    known = np.isfinite(days).any(axis=1)
    before = (numbers >= change - COMPARED_DAYS) & (numbers < change) & known
    after = (numbers > change) & (numbers <= change + COMPARED_DAYS) & known
    return days[before], days[after]


def _jump(before: Floats, after: Floats, by: int, parts: list[Ints]) -> tuple[float, ...]:
    """By how much the days on either side fit the other side's mean day better when that is moved by `by` s, in each part (hours) of the day."""
    if min(len(before), len(after)) < MIN_DAYS:
        return (np.nan,) * len(parts)
    variance = (np.nanvar(before, axis=0) + np.nanvar(after, axis=0)) / 2
    weights = 1 / np.maximum(variance + NOISE_FLOOR * np.nanmean(variance), 1e-9)
    per_hour = before.shape[1] // 24
    steps, gains = by * per_hour // 3600, []
    for own, other, move in ((after, before, steps), (before, after, -steps)):
        mean = np.nanmean(other, axis=0)
        gains.append(((own - mean) ** 2 - (own - np.roll(mean, move)) ** 2) * weights)
    gain = np.concatenate(gains).reshape(-1, 24, per_hour)
    return tuple(_standard_errors(np.nanmean(gain[:, hours], axis=(1, 2))) for hours in parts)


def _standard_errors(values: Floats) -> float:
    """The mean in units of its standard error; 0 when nothing varies."""
    spread = float(np.nanstd(values, ddof=1))
    return float(np.nanmean(values)) / spread * float(np.sqrt(np.isfinite(values).sum())) if spread > 0 else 0.0


def _explained(changes: list[tuple[int, int]], evidence: Floats, series: Series, *, late: bool) -> ClockFault:
    """All summers where that explains the changes best, else the half-years whose two changes are clear, the clearest first."""
    pairs = [clearness(evidence[:, [i, i + 1]], late=late) for i in range(len(changes) - 1)]
    found: dict[int, Shift] = {}
    for i in sorted(range(len(pairs)), key=lambda i: -pairs[i]):
        if pairs[i] and not {i - 1, i + 1} & set(found):  # the change between two half-years speaks for one of them
            (start, by), (end, _) = changes[i : i + 2]
            found[i] = Shift(start, end, by if late else -by)
    by_pairs = np.sqrt(2) * sum(pairs[i] for i in found)
    together = np.sqrt(len(changes)) * clearness(evidence, late=late)
    if together <= NEARLY * by_pairs:
        return ClockFault(tuple(found[i] for i in sorted(found)), is_general=False, clearness=by_pairs)
    edges = [series.start, *(time for time, _ in changes), series.end]
    rises = [-changes[0][1], *(by for _, by in changes)]
    summers = tuple(Shift(edges[i], edges[i + 1], by if late else -by) for i, by in enumerate(rises) if by > 0)
    return ClockFault(summers, is_general=True, clearness=together)


def clearness(evidence: Floats, *, late: bool) -> float:
    """Standard errors by which one shift is told from none, 0 when there is doubt; `evidence` as from `_evidence`, all of it about that shift."""
    counts = np.isfinite(evidence).all(axis=2).sum(axis=1)
    pooled = np.nansum(evidence[counts > 0], axis=1) / np.sqrt(counts[counts > 0])[:, None]
    whole = pooled.mean(axis=1) * np.sqrt(2)  # as if of two independent parts, which more of them are not
    if len(pooled) >= MIN_HOMES:
        common = float(np.median(whole))
        return common if common >= COMMON else 0.0
    if not len(pooled) or counts.max() < MIN_CHANGES:
        return 0.0
    parts = pooled.sum(axis=0) / np.sqrt(len(pooled))
    clear = float(parts.mean() * np.sqrt(2))
    is_sure = clear >= CLEAR_LATE and parts.min() >= AGREED_LATE if late else clear >= CLEAR_EARLY
    return clear if is_sure else 0.0
