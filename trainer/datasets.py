"""Reads a house's CSV and Parquet tables into a Series: strictly, or with every repair stated."""

from __future__ import annotations

import hashlib
import logging
import math
from dataclasses import dataclass
from functools import reduce
from itertools import accumulate
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge_agent.contract.errors import ConfigError, DataError
from edge_agent.contract.localtime import iso_utc
from edge_agent.contract.schema import HouseSpec
from edge_agent.contract.series import Series
from trainer.findings import Findings, count
from trainer.table_files import Rows, read_rows
from trainer.table_times import find_grid
from trainer.table_values import canonical_values, check_unit, within_range

Floats = npt.NDArray[np.float64]

logger = logging.getLogger(__name__)

SAME = 1e-6
"""Two files agree on a value when they differ by less than this share of it: more digits do not survive every format."""


@dataclass(frozen=True, eq=False)
class Table:
    """What a house's tables hold."""

    series: Series
    """The house's step and features, canonical units, NaN unknown. Sensors without a `column` are unknown throughout."""
    repairs: list[str]
    """What was repaired, with counts and first rows; empty when nothing was."""
    notes: list[str]
    """What is worth knowing and not wrong: columns ignored, another cadence."""
    fingerprint: str
    """sha256 over times, names and values; the same from CSV, Parquet and gzip."""


def read_table(house: HouseSpec, paths: list[Path], *, repair: bool = False) -> Table:
    """The house's series from one or more files that follow each other in time, in any order.

    The first column is a timestamp, with an offset from UTC or by the house's `table_clock`; the others are named as the sensors' `column`. A row
    stamped t covers the step from t on. Another cadence is resampled to the house's step.

    Raises:
        DataError: a file that cannot be used as it is: columns missing, times that do not ascend, repeat, skip or leave the grid, text where numbers
            belong, units that cannot be, values out of range, two files that contradict each other. The message names file and rows. With
            `repair`, whatever can be mended is mended and stated in `repairs` instead.
        ConfigError: no sensor of the house has a column.
    """
    if not paths:
        raise ConfigError("no table given: name one or more CSV or Parquet files with --data")
    if not any(sensor.column for sensor in house.sensors):
        raise ConfigError(f"house {house.site!r}: no sensor has a 'column', so no table can be read: add them to house.toml")
    findings = [Findings(str(path), repair=repair) for path in paths]
    columns = columns_of(house)
    parts = [series_of_rows(house, read_rows(path, columns, found), found) for path, found in zip(paths, findings, strict=True)]
    parts.sort(key=lambda part: part.start)
    joined = Findings(" and ".join(str(path) for path in paths) if len(paths) < 4 else f"{len(paths)} files", repair=repair)
    series = reduce(lambda first, second: _join(first, second, joined), parts)
    _note_gaps(parts, joined)
    findings.append(joined)
    repairs = [text for found in findings for text in found.repairs]
    notes = [text for found in findings for text in found.notes]
    for text in (*repairs, *notes):
        logger.info("%s", text)
    return Table(series, repairs, notes, fingerprint(series))


def columns_of(house: HouseSpec) -> tuple[str, ...]:
    """Columns that a table of the house has, the time column aside."""
    return tuple(dict.fromkeys(sensor.column for sensor in house.sensors if sensor.column))


def series_of_rows(house: HouseSpec, rows: Rows, findings: Findings, *, judge_units: bool = True) -> Series:
    """The house's series from the rows of one table.

    `judge_units` refuses columns whose typical value cannot be; a few days of an empty house may look like that, a whole history does not.
    Raises as `read_table`.
    """
    grid = find_grid(rows.times, rows.numbers, house, findings)
    numbers = np.zeros(grid.n_slots, np.int64)
    numbers[grid.slots] = rows.numbers[grid.rows]
    values = np.full((grid.n_slots, len(house.sensors)), np.nan)
    for position, sensor in enumerate(house.sensors):
        if sensor.column:
            column = canonical_values(grid.lay(rows.values[sensor.column]), sensor, cadence_s=grid.cadence_s)
            if judge_units:
                check_unit(column, sensor, cadence_s=grid.cadence_s, findings=findings)
            values[:, position] = within_range(column, sensor, cadence_s=grid.cadence_s, numbers=numbers, findings=findings)
    if grid.cadence_s != house.step_s:
        findings.note(f"its steps of {grid.cadence_s} s are resampled to the house's {house.step_s} s")
    return _on_grid(values, house, start=grid.start, cadence_s=grid.cadence_s).resample(house.step_s)


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
        if not findings.repair:
            raise DataError(f"{findings.source}: {problem}: give files that follow each other, or use --repair (the earlier file holds)")
        findings.repairs.append(f"{findings.source}: {problem}: the earlier file holds")
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
