"""Reads a house's CSV and Parquet tables into a Series: strictly, or with every repair stated."""

from __future__ import annotations

import hashlib
import logging
import math
from dataclasses import dataclass, replace
from functools import reduce
from itertools import accumulate
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_agent.contract.errors import ConfigError, DataError
from edge_agent.contract.localtime import iso_utc
from edge_agent.contract.schema import HouseSpec, Sensor
from edge_agent.contract.series import Series
from trainer.clock_shift import settle_clock
from trainer.counters import believed
from trainer.findings import DOUBTFUL, Finding, Findings, count
from trainer.quality import check
from trainer.table_files import Rows, read_rows
from trainer.table_times import Grid, find_grid
from trainer.table_values import canonical_values, check_form, check_unit, span_of, within_range
from trainer.unit_change import settle_units

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

logger = logging.getLogger(__name__)

COARSEST_S = 3600
"""Energy of more than an hour in a row, spread evenly, would teach and score a flat day that nobody measured."""
SAME = 1e-6
"""Two files agree on a value when they differ by less than this share of it: more digits do not survive every format."""


@dataclass(frozen=True, eq=False)
class Table:
    """What a house's tables hold."""

    series: Series
    """The house's step and features, canonical units, NaN unknown. Sensors without a `column`, and those refused, are unknown throughout."""
    findings: tuple[Finding, ...]
    """What was wrong, and what was done about it."""
    notes: list[str]
    """What is worth knowing and not wrong: columns ignored, another cadence."""
    fingerprint: str
    """sha256 over times, names and values; the same from CSV, Parquet and gzip."""

    @property
    def repairs(self) -> list[str]:
        """What is not as it stands in the table, with counts and first rows or times; empty when nothing was done."""
        return [str(finding) for finding in self.findings if finding.done != "noted"]

    def require(self, sensor: str) -> None:
        """Make sure that a sensor can be used.

        Raises:
            DataError: it was refused, or nothing of it is known.
        """
        for finding in self.findings:
            if finding.done == "refused" and finding.sensor == sensor:
                way_out = f" (--accept {finding.kind} uses it all the same)" if finding.kind in DOUBTFUL else ""
                raise DataError(f"{finding}{way_out}")
        if not np.isfinite(self.series.column(sensor)).any():
            told = "; ".join(str(finding) for finding in self.findings if finding.sensor == sensor)
            raise DataError(f"sensor {sensor!r}: no step is known{f' ({told})' if told else ''}: give a table that holds its values")


@dataclass(frozen=True)
class ReadOptions:
    """How faults are dealt with."""

    repair: bool = False
    """Mend faults of the table, and say so, instead of raising."""
    accept: tuple[str, ...] = ()
    """Kinds of findings, of DOUBTFUL, that are true of this house: noted, and left as they are."""
    leave_out: bool = False
    """Refuse a sensor whose column is at fault instead of raising."""
    share: float = 1.0
    """Of the house's time, from its start, that is looked at; the rest is read and forgotten."""


def read_table(house: HouseSpec, paths: list[Path], *, repair: bool = False, options: ReadOptions | None = None) -> Table:
    """The house's series from one or more files that follow each other in time, in any order; faults are repaired, masked, refused or raised.

    The first column is a timestamp, with an offset from UTC or by the house's `table_clock`; the others are named as the sensors' `column`. A row
    stamped t covers the step from t on. Another cadence is resampled to the house's step. Steps that no meter can have measured (dead weeks, copied
    days) are unknown in the result, whether or not there is `repair`: see `trainer/quality.py`.

    Args:
        house: the house.
        paths: its files.
        repair: short for `ReadOptions(repair=...)`.
        options: all of them.

    Raises:
        DataError: a file that cannot be used as it is: columns missing, times that do not ascend, repeat, skip, leave the grid or are shifted in
            summer, text where numbers belong, units that cannot be or that change, values out of range, counters that fall, two files that
            contradict each other. The message names file and rows. With `repair`, whatever can be mended is mended and stated instead.
        ConfigError: no sensor of the house has a column.
    """
    options = ReadOptions(repair=repair) if options is None else options
    if not paths:
        raise ConfigError("no table given: name one or more CSV or Parquet files with --data")
    if not any(sensor.column for sensor in house.sensors):
        raise ConfigError(f"house {house.site!r}: no sensor has a 'column', so no table can be read: add them to house.toml")
    every = [_findings(str(path), options) for path in paths]
    columns = columns_of(house)
    parts = [series_of_rows(house, read_rows(path, columns, found), found) for path, found in zip(paths, every, strict=True)]
    parts.sort(key=lambda part: part.start)
    joined = _findings(" and ".join(str(path) for path in paths) if len(paths) < 4 else f"{len(paths)} files", options)
    series = reduce(lambda first, second: _join(first, second, joined), parts)
    _note_gaps(parts, joined)
    every.append(joined)
    if len(parts) > 1:
        series = _one_unit(series, house, joined)
    series = settle_clock(series, house, joined)
    series = series.between(series.start, series.start + round(options.share * len(series)) * series.step_s)
    refused = {finding.sensor for found in every for finding in found.found if finding.done == "refused"}
    checked = check(_without(series, refused), house, source=joined.source, accept=options.accept, refused=refused)
    findings = (*(finding for found in every for finding in found.found), *checked.findings)
    table = Table(checked.series, findings, [text for found in every for text in found.notes], fingerprint(checked.series))
    for text in (*table.repairs, *table.notes):
        logger.info("%s", text)
    return table


def _findings(source: str, options: ReadOptions) -> Findings:
    return Findings(source, repair=options.repair, accept=options.accept, leave_out=options.leave_out)


def _one_unit(series: Series, house: HouseSpec, findings: Findings) -> Series:
    """The series with each home's energy in one unit, where its files disagree."""
    values = series.values.copy()
    for position, sensor in enumerate(house.sensors):
        if sensor.role == "energy":
            values[:, position] = settle_units(
                series.values[:, position], start=series.start, step_s=series.step_s, sensor=sensor.name, findings=findings
            )
    return replace(series, values=values)


def _without(series: Series, sensors: set[str]) -> Series:
    """The series with some sensors unknown."""
    values = series.values.copy()
    values[:, [series.position(name) for name in sorted(sensors)]] = np.nan
    return replace(series, values=values) if sensors else series


def columns_of(house: HouseSpec) -> tuple[str, ...]:
    """Columns that a table of the house has, the time column aside."""
    return tuple(dict.fromkeys(sensor.column for sensor in house.sensors if sensor.column))


def series_of_rows(house: HouseSpec, rows: Rows, findings: Findings, *, judge_units: bool = True) -> Series:
    """The house's series from the rows of one table.

    `judge_units` refuses columns whose typical value, or step, cannot be; a few days of an empty house may look like that, a whole history does not.
    Raises as `read_table`.
    """
    grid = find_grid(rows.times, rows.numbers, house, findings)
    numbers = np.zeros(grid.n_slots, np.int64)
    numbers[grid.slots] = rows.numbers[grid.rows]
    numbers = np.maximum.accumulate(numbers)  # a step that no row is about is named by the row before it
    values = np.full((grid.n_slots, len(house.sensors)), np.nan)
    for position, sensor in enumerate(house.sensors):
        if sensor.column:
            with findings.column(sensor.column):
                raw = grid.lay(rows.values[sensor.column])
                values[:, position] = column_values(raw, sensor, grid, numbers=numbers, findings=findings, judge_units=judge_units)
    for sensor in house.sensors:
        if sensor.column in findings.left_out:
            why = findings.left_out[sensor.column]
            findings.found.append(Finding(findings.source, "column", why, "refused", "left out", sensor.name, grid.n_slots))
    if grid.cadence_s != house.step_s:
        findings.note(f"its steps of {grid.cadence_s} s are resampled to the house's {house.step_s} s")
    return _on_grid(values, house, start=grid.start, cadence_s=grid.cadence_s).resample(house.step_s)


def column_values(raw: Floats, sensor: Sensor, grid: Grid, *, numbers: Ints, findings: Findings, judge_units: bool = True) -> Floats:
    """Canonical values of one column, `(n_slots,)`, from what stands in it; `numbers` are the slots' row numbers. Raises as `read_table`."""
    cadence_s = grid.cadence_s
    if judge_units and sensor.feature.kind == "energy" and cadence_s > COARSEST_S:
        _settle_coarse(sensor, grid, findings)
    if sensor.column_form == "counter":
        raw = believed(raw, sensor, cadence_s=cadence_s, numbers=numbers, findings=findings)
    values = canonical_values(raw, sensor, cadence_s=cadence_s)
    if judge_units:
        if sensor.feature.kind == "energy":
            check_form(values, sensor, findings)
        if sensor.role == "energy":
            values = settle_units(values, start=grid.start, step_s=cadence_s, sensor=sensor.name, findings=findings)
        check_unit(values, sensor, cadence_s=cadence_s, findings=findings)
    return within_range(values, sensor, start=grid.start, cadence_s=cadence_s, numbers=numbers, findings=findings)


def _settle_coarse(sensor: Sensor, grid: Grid, findings: Findings) -> None:
    what = f"column {sensor.column!r} holds the energy of {grid.cadence_s / 3600:g} hours in each row"
    if "coarse" not in findings.accept:
        raise findings.error(what, "an hour at most is expected: export finer data, or spread each row evenly over its hours with --accept coarse")
    findings.found.append(Finding(findings.source, "coarse", what, "noted", "spread evenly, as asked by --accept", sensor.name, grid.n_slots))


def _on_grid(values: Floats, house: HouseSpec, *, start: int, cadence_s: int) -> Series:
    """The values as a Series, whose grid starts at a multiple of its step: a shifted grid is cut into the finer steps that fit."""
    step_s = math.gcd(cadence_s, start)
    pieces = cadence_s // step_s
    energy = np.array([feature.kind == "energy" for feature in house.features])
    return Series(start, step_s, house.features, np.repeat(np.where(energy, values / pieces, values), pieces, axis=0))


def _note_gaps(parts: list[Series], findings: Findings) -> None:
    """Note the time that lies between the files, ascending by start, and in none of them."""
    ends = accumulate((part.end for part in parts), max)
    gaps = [(end, following.start) for end, following in zip(ends, parts[1:], strict=False) if following.start > end]
    if gaps:
        steps = count(sum(end - start for start, end in gaps) // parts[0].step_s, "step")
        places = f"in {len(gaps)} gaps, the first " if len(gaps) > 1 else ""
        findings.note(f"{steps} between the files unknown, {places}from {iso_utc(gaps[0][0])}")


def _join(first: Series, second: Series, findings: Findings) -> Series:
    """Both series in one; where both know a value they must agree, or, under repair, the first holds."""
    start, end = first.start, max(first.end, second.end)
    first, second = first.between(start, end), second.between(start, end)
    with np.errstate(invalid="ignore"):
        differ = np.abs(first.values - second.values) > SAME * (1.0 + np.abs(first.values))
    where = np.flatnonzero(differ.any(axis=1))
    if len(where):
        problem = f"the files contradict each other in {count(len(where), 'step')}, the first at {iso_utc(first.times[where[0]])}"
        span = span_of(differ.any(axis=1), start, first.step_s)
        finding = Finding(findings.source, "contradiction", problem, "repaired", "the earlier file holds", "", len(where), *span)
        findings.decide(finding, expected="give files that follow each other")
    return Series(start, first.step_s, first.features, np.where(np.isfinite(first.values), first.values, second.values))


def fingerprint(series: Series) -> str:
    """sha256 of what a series holds, as hexadecimal text.

    Values count as float32, so that the last digit of a decimal text does not matter, with one form of NaN and of zero.
    """
    names = ",".join(f"{f.name}:{f.role}" for f in series.features)
    digest = hashlib.sha256(f"{series.start} {series.step_s} {len(series)} {names}".encode())
    values = series.values.astype("<f4") + np.float32(0.0)
    values[np.isnan(values)] = np.float32(np.nan)
    digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()
