"""The time column of a table: text or timestamps, in any clock, to a regular UTC grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pandas as pd

from edge_agent.contract.localtime import DAY_S, iso_utc, utc_offsets_s
from edge_agent.contract.schema import HouseSpec
from trainer.findings import Finding, Findings, count, in_rows

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

OFFSET_PATTERN: Final = r"[T ].*(?:Z|[+-]\d\d(?::?\d\d)?)$"
"""Behind a time of day: the end of a date such as 2026-11-24 looks like an offset."""
WHOLE_MINUTE_S: Final = 60
FAR_SHARE: Final = 0.25
"""A time further than this share of the cadence from its grid point cannot be moved to it in good conscience."""
MAX_FAR_ROWS: Final = 0.1
MIN_TIMES: Final = 0.4
"""A table with fewer times than this share of its rows is not one that was written twice: its times lack the hour."""
MAX_STRETCH: Final = 20
"""A table that would grow by more than this factor when its gaps are filled has a wrong time in it."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Where the rows of a file lie on a regular grid."""

    start: int
    """Unix s of the first slot."""
    cadence_s: int
    n_slots: int
    rows: Ints
    """Rows kept, as positions in the file's arrays, in order of time, `(n,)`."""
    slots: Ints
    """The slot of each row kept, ascending, `(n,)`."""

    def lay(self, values: Floats) -> Floats:
        """`values` of all rows of the file on the grid, `(n_slots,)`, NaN where there is no row."""
        out = np.full(self.n_slots, np.nan)
        out[self.slots] = values[self.rows]
        return out


def find_grid(times: pd.Series, numbers: Ints, house: HouseSpec, findings: Findings) -> Grid:
    """The regular UTC grid that `times` lie on.

    Args:
        times: the file's time column, `(n,)`.
        numbers: row numbers for messages, `(n,)`.
        house: tells how times without an offset are meant.
        findings: settles what is wrong.

    Raises:
        DataError: times cannot be read, do not ascend, repeat, leave the grid or skip steps, and no repair is wanted or possible.
    """
    seconds, is_single = _unix_seconds(times, numbers, house, findings)
    rows = np.flatnonzero(np.isfinite(seconds))
    if len(rows) < 2:
        raise findings.error(f"{count(len(rows), 'row')} with a time", "two or more are expected")
    rows = _ascending(rows, seconds, numbers, findings)
    cadence_s, phase_s = _cadence_and_phase(seconds[rows])
    slots = _snap(seconds[rows], cadence_s, phase_s, numbers[rows], findings)
    is_first = np.append(True, np.diff(slots) > 0)
    if is_first.mean() < MIN_TIMES:
        raise findings.error(
            f"{len(slots):,} rows have {count(int(is_first.sum()), 'time')}, the first {iso_utc(seconds[rows[0]])}",
            "one row for each step is expected: is the time of day missing?",
        )
    findings.settle(
        f"{count(int((~is_first).sum()), 'row')} with the time of an earlier one",
        numbers[rows[~is_first]],
        expected="one row for each step is expected: remove the others",
        repair="dropped, the first of each kept",
        kind="duplicate",
        done="repaired",
    )
    rows, slots = rows[is_first], slots[is_first]
    _check_gaps(slots, rows, cadence_s=cadence_s, phase_s=phase_s, numbers=numbers, is_single=is_single, findings=findings)
    start = int(slots[0]) * cadence_s + phase_s
    return Grid(start, cadence_s, int(slots[-1] - slots[0]) + 1, rows, slots - slots[0])


def _unix_seconds(times: pd.Series, numbers: Ints, house: HouseSpec, findings: Findings) -> tuple[Floats, Bools]:
    """Unix s of each row, NaN for rows dropped, and which rows stand alone in the hour that autumn's clock change repeats."""
    seconds, is_aware = _parse(times, numbers, findings)
    known = np.isfinite(seconds)
    if is_aware or (house.table_clock != "local" and not _is_wall_time(seconds, numbers, house, findings)):
        if not is_aware and house.table_clock == "standard":
            seconds[known] -= standard_offset_s(seconds[known], house.zone)
        return seconds, np.zeros(len(seconds), bool)
    ahead = slice(None, None, -1 if np.sign(np.diff(seconds[known])).sum() < 0 else 1)  # of newest first the second pass comes first
    utc, is_single = (part[ahead] for part in local_to_utc(np.where(known, seconds, 0.0)[ahead], house.zone))
    skipped = known & np.isnan(utc)
    findings.settle(
        f"{count(int(skipped.sum()), 'row')} at times that {house.time_zone} skips when its clock goes forward",
        numbers[skipped],
        expected='if the file\'s clock never changes, set table_clock = "standard" or "utc" in house.toml; else correct the file',
        repair="dropped",
        kind="time",
    )
    return np.where(known, utc, np.nan), is_single & known


def _is_wall_time(seconds: Floats, numbers: Ints, house: HouseSpec, findings: Findings) -> bool:
    """Whether times that are said to follow no daylight saving do: of all hours, they repeat just the ones that the house's clock repeats."""
    rows = np.flatnonzero(np.isfinite(seconds))
    repeated = rows[pd.Series(seconds[rows]).duplicated()]
    if not len(repeated) or not is_ambiguous(seconds[repeated], house.zone).all():
        return False
    where = f"in the hour that the clock of {house.time_zone} repeats ({in_rows(numbers[repeated])})"
    what = f"{count(len(repeated), 'time')} twice, {where}: the file is in wall time"
    finding = Finding(findings.source, "clock", what, "repaired", "read as wall time", steps=len(seconds))
    return findings.decide(finding, expected=f'it is said to be in {house.table_clock} time: set table_clock = "local" in house.toml')


def _parse(times: pd.Series, numbers: Ints, findings: Findings) -> tuple[Floats, bool]:
    """Seconds since 1970-01-01 00:00 by the column's own clock, NaN where unreadable, and whether that clock is UTC."""
    if pd.api.types.is_datetime64_any_dtype(times):
        parsed, is_aware = times, times.dt.tz is not None
    else:
        text = times.astype(object).where(times.notna(), "").astype(str).str.strip()
        has_offset = text.str.contains(OFFSET_PATTERN)
        parsed = pd.to_datetime(text.where(text != ""), format="ISO8601", errors="coerce", utc=True)
        is_aware = bool(has_offset[parsed.notna()].any())
        mixed = (has_offset != is_aware).to_numpy(bool) & parsed.notna().to_numpy(bool)
        if mixed.any():
            raise findings.error(f"times with and without an offset from UTC (row {numbers[mixed][0]})", "one of the two is expected in a file")
    bad = parsed.isna().to_numpy(bool)
    example = "" if not bad.any() else f", the first {times[bad].iloc[0]!r}"
    if bad.all():
        raise findings.error(f"the first column {times.name!r} holds no times{example}", "times such as 2026-11-24T06:00:00+01:00 are expected")
    findings.settle(
        f"{count(int(bad.sum()), 'time')} that cannot be read{example}",
        numbers[bad],
        expected="times such as 2026-11-24 06:00:00 or 2026-11-24T06:00:00+01:00 are expected: correct the file",
        repair="those rows dropped",
        kind="time",
    )
    utc = parsed.dt.tz_convert("UTC").dt.tz_localize(None) if parsed.dt.tz is not None else parsed
    seconds = utc.to_numpy("datetime64[us]").astype(np.int64) / 1e6
    return np.where(bad, np.nan, seconds), is_aware


def standard_offset_s(local: Floats, zone: ZoneInfo) -> int:
    """Seconds the zone's standard time is ahead of UTC in the years of `local`: the smallest offset of the year that holds the first time.

    Zones with a negative winter time (Europe/Dublin counts that way) have their smaller offset in winter too.
    """
    first = int(local.min()) // DAY_S * DAY_S
    days = first + DAY_S * np.arange(366, dtype=np.int64)
    return int(utc_offsets_s(days, zone).min())


def local_to_utc(local: Floats, zone: ZoneInfo) -> tuple[Floats, Bools]:
    """Unix s of wall times in `zone`.

    Of times in the hour that autumn repeats, the first pass is summer time: rows after a step back, and rows seen before, are the second.

    Args:
        local: seconds since 1970-01-01 00:00 by the wall clock, in file order, `(n,)`.
        zone: the house's time zone.

    Returns:
        Unix s `(n,)`, NaN for times that spring's clock change skips; and which rows lie in a repeated hour that the file holds only once.
    """
    whole = np.floor(local).astype(np.int64)
    before, after, fits_before, fits_after = _offsets_around(whole, zone)
    is_second, is_single = _second_pass(local, fits_before & fits_after & (before != after))
    offset = np.where(fits_after & (~fits_before | is_second), after, before)
    return np.where(fits_before | fits_after, local - offset, np.nan), is_single


def is_ambiguous(local: Floats, zone: ZoneInfo) -> Bools:
    """Whether each wall time, in s, lies in an hour that the zone's clock repeats, `(n,)`."""
    before, after, fits_before, fits_after = _offsets_around(np.floor(local).astype(np.int64), zone)
    return fits_before & fits_after & (before != after)


def _offsets_around(local: Ints, zone: ZoneInfo) -> tuple[Ints, Ints, Bools, Bools]:
    """The offsets a day before and a day after each wall time, and whether it exists with either.

    A zone changes its offset at most once in two days: one of the two is the right one.
    """
    before, after = utc_offsets_s(local - DAY_S, zone), utc_offsets_s(local + DAY_S, zone)
    return before, after, utc_offsets_s(local - before, zone) == before, utc_offsets_s(local - after, zone) == after


def _second_pass(local: Floats, ambiguous: Bools) -> tuple[Bools, Bools]:
    """Which ambiguous rows belong to the second pass, and which to an hour with one pass only."""
    is_second, is_single = np.zeros(len(local), bool), np.zeros(len(local), bool)
    rows = np.flatnonzero(ambiguous)
    days = np.floor(local[rows] / DAY_S)
    for day in np.unique(days):
        group = rows[days == day]
        stepped_back = np.append(False, np.maximum.accumulate(np.diff(local[group]) < 0))
        is_second[group] = stepped_back | pd.Series(local[group]).duplicated().to_numpy()
        is_single[group] = not is_second[group].any()
    return is_second, is_single


def _ascending(rows: Ints, seconds: Floats, numbers: Ints, findings: Findings) -> Ints:
    """`rows` in order of time."""
    times = seconds[rows]
    back = np.append(False, times[1:] < np.maximum.accumulate(times)[:-1])
    findings.settle(
        f"{count(int(back.sum()), 'row')} earlier than a row above",
        numbers[rows[back]],
        expected="times in ascending order are expected: sort the file",
        repair="sorted",
        kind="order",
        done="repaired",
    )
    return rows[np.argsort(times, kind="stable")]


def _cadence_and_phase(times: Floats) -> tuple[int, int]:
    """The typical distance of `times` (ascending, unix s) and where its grid lies, whole minutes where it is one or more."""
    distance = float(np.median(np.diff(np.unique(times)))) if times[-1] > times[0] else 1.0
    quantum = WHOLE_MINUTE_S if distance >= WHOLE_MINUTE_S else 1
    cadence_s = max(round(distance / quantum) * quantum, 1)
    phases, counts = np.unique(np.rint(times / quantum).astype(np.int64) * quantum % cadence_s, return_counts=True)
    return cadence_s, int(phases[np.argmax(counts)])


def _snap(times: Floats, cadence_s: int, phase_s: int, numbers: Ints, findings: Findings) -> Ints:
    """The slot (cadences since 1970, plus the phase) nearest to each time."""
    position = (times - phase_s) / cadence_s
    slots = np.rint(position).astype(np.int64)
    distance = np.abs(position - slots)
    if np.mean(distance > FAR_SHARE) > MAX_FAR_ROWS:
        raise findings.error(
            f"times follow no regular grid (typical distance {cadence_s} s, first times {', '.join(map(iso_utc, times[:3]))})",
            "a fixed step is expected: export the data as means or sums over such steps",
        )
    off = slots * cadence_s + phase_s != times
    findings.settle(
        f"{count(int(off.sum()), 'row')} off the grid of {cadence_s} s",
        numbers[off],
        expected="a regular step on whole minutes is expected: correct the times",
        repair="moved to the nearest grid time",
        kind="grid",
        done="repaired",
    )
    return slots


def _check_gaps(slots: Ints, rows: Ints, *, cadence_s: int, phase_s: int, numbers: Ints, is_single: Bools, findings: Findings) -> None:
    missing = np.diff(slots) - 1
    gap = np.flatnonzero(missing > 0)
    n_slots = int(slots[-1] - slots[0]) + 1
    if n_slots > MAX_STRETCH * len(slots) + DAY_S // cadence_s:
        worst = rows[int(np.argmax(missing))]
        raise findings.error(f"{n_slots - len(slots):,} steps are missing after row {numbers[worst]}", "is a time wrong there? Correct or remove it")
    hint = ""
    if len(gap) and is_single[rows[gap]].any():
        hint = '; the hour that the clock change repeats is there only once: if the clock never changes, set table_clock = "standard" or "utc"'
    findings.settle(
        f"{count(int(missing.sum()), 'step')} of {cadence_s} s missing in {count(len(gap), 'gap')}",
        numbers[rows[gap]],
        expected=f"a row for every step is expected; these are the rows before the gaps{hint}",
        repair="left unknown",
        kind="gap",
        steps=int(missing.sum()),
        span=(int(slots[gap[0]] + 1) * cadence_s + phase_s, int(slots[gap[-1] + 1]) * cadence_s + phase_s) if len(gap) else (None, None),
    )
