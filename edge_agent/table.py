"""The history as a CSV table, in the columns and units that `house.toml` gives: out, and in again."""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import Final, TextIO

import numpy as np

from edge_agent.contract.errors import ConfigError, DataError, ServiceError, closest
from edge_agent.contract.localtime import DAY_S, iso_utc
from edge_agent.contract.schema import WEATHER_ROLES, HouseSpec, Sensor
from edge_agent.contract.series import Floats, Series
from edge_agent.contract.units import from_canonical, to_canonical
from edge_agent.history import History
from edge_agent.weather import stored_weather

BLOCK_S: Final = 30 * DAY_S
"""Read and written at once."""
SECONDS_PER_HOUR: Final = 3600


def write_csv(house: HouseSpec, history: History, file: TextIO) -> int:
    """Write every closed step; returns how many. Columns are named, and values meant, as `house.toml` says of its tables; times are UTC.

    Raises:
        ConfigError: a sensor's column is a counter, which cannot hold unknown steps.
        ServiceError: there is no closed step yet.
    """
    _refuse_counters(house.sensors)
    bounds = history.bounds()
    if bounds is None:
        raise ServiceError(f"{history.path}: holds no closed step yet; wait for the first one")
    writer = csv.writer(file)
    writer.writerow(["time", *map(_column, house.sensors)])
    first, end = bounds[0], bounds[1] + house.step_s
    for start in range(first, end, BLOCK_S):
        block = history.series(house.features, start, min(start + BLOCK_S, end), house.step_s)
        writer.writerows(_rows(house, block))
    return (end - first) // house.step_s


def write_weather(history: History, file: TextIO) -> int:
    """Write every weather forecast that came, in UTC and canonical units, as `backtest --weather` reads it; returns how many rows.

    Raises:
        ServiceError: none has come yet.
    """
    writer, n_rows = csv.writer(file), 0
    for issued_at, issue in groupby(stored_weather(history), key=attrgetter("issued_at")):  # a year of them would not fit in memory at once
        cells: dict[int, dict[str, float]] = {}
        for forecast in issue:
            for time, value in zip(forecast.times.tolist(), forecast.values.tolist(), strict=True):
                cells.setdefault(time, {})[forecast.role] = value
        if n_rows == 0:
            writer.writerow(["issued", "time", *WEATHER_ROLES])
        for time, values in sorted(cells.items()):
            row = [f"{values[role]:.6g}" if role in values else "" for role in WEATHER_ROLES]
            writer.writerow([iso_utc(math.ceil(issued_at)), iso_utc(time), *row])
        n_rows += len(cells)
    if n_rows == 0:
        raise ServiceError(f"{history.path}: holds no weather forecast yet; add [[weather]] to house.toml and wait for the first one")
    return n_rows


def _rows(house: HouseSpec, series: Series) -> Iterator[list[str]]:
    columns = [_in_table_unit(series.column(sensor.name), sensor, series.step_s) for sensor in house.sensors]
    for time, *values in zip(series.times, *columns, strict=True):
        yield [iso_utc(int(time)), *("" if np.isnan(value) else f"{value:.9g}" for value in values)]


def _in_table_unit(values: Floats, sensor: Sensor, step_s: int) -> Floats:
    if sensor.column_form == "power":
        values = values * SECONDS_PER_HOUR / step_s
    return from_canonical(values, sensor.unit)


@dataclass
class Imported:
    """What came in of a table."""

    stored: int = 0
    """Values that are new in the history."""
    known: int = 0
    """Values of the table that say something."""
    rejected: Counter[str] = field(default_factory=Counter)
    """Values outside the valid range, by sensor: left out."""


def read_csv(house: HouseSpec, history: History, file: TextIO, *, source: str) -> Imported:
    """Store the values of a table of the form that `write_csv` writes, wherever the history knows nothing yet.

    Args:
        house: gives columns and units.
        history: open.
        file: the table; rows ascend in time, each at the start of a step.
        source: names the table in errors.

    Raises:
        ConfigError: a column that the house does not have, or one that is a counter.
        DataError: a row that cannot be read; rows of earlier months are stored then.
    """
    rows = _cells(file, source)
    sensors = _sensors(house, next(rows, []), source)
    found = Imported()
    block: list[tuple[int, list[float]]] = []
    for time, values in _parsed(rows, house.step_s, len(sensors), source):
        if block and (time - block[0][0] >= BLOCK_S):
            _store(block, sensors, house, history, found)
            block = []
        block.append((time, values))
    if block:
        _store(block, sensors, house, history, found)
    return found


def _cells(file: TextIO, source: str) -> Iterator[list[str]]:
    try:
        yield from csv.reader(file)
    except (UnicodeDecodeError, csv.Error, OSError, EOFError) as err:
        raise DataError(f"{source}: cannot be read as a CSV table ({err})") from err


def _sensors(house: HouseSpec, header: Sequence[str], source: str) -> list[Sensor]:
    """The sensors of a table's columns, after the first, which holds the time."""
    known = {_column(sensor): sensor for sensor in house.sensors}
    unknown = [name for name in header[1:] if name not in known]
    if unknown or len(header) < 2:
        name = unknown[0] if unknown else ""
        raise ConfigError(f"{source}: the house has no column {name!r}: {closest(name, known)} (the first column is the time)")
    sensors = [known[name] for name in header[1:]]
    _refuse_counters(sensors)
    return sensors


def _parsed(rows: Iterator[list[str]], step_s: int, width: int, source: str) -> Iterator[tuple[int, list[float]]]:
    """Unix s and values, NaN unknown, of each row."""
    last: int | None = None
    for number, row in enumerate(rows, start=2):
        where = f"{source}, line {number}"
        if len(row) != width + 1:
            raise DataError(f"{where}: {len(row)} cells: {width + 1} are expected, as in the first line")
        time = _time(row[0], step_s, where)
        if last is not None and time <= last:
            raise DataError(f"{where}: {row[0]} does not follow the row before it: rows must ascend in time")
        last = time
        yield time, [_number(cell, where) for cell in row[1:]]


def _time(text: str, step_s: int, where: str) -> int:
    try:
        time = datetime.fromisoformat(text.strip())
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise DataError(f"{where}: {text!r} is no time with an offset: such as 2026-11-24T00:00:00Z is expected")
    unix_s = time.timestamp()
    if unix_s % step_s:
        raise DataError(f"{where}: {text} is not the start of a step of {step_s} s")
    return int(unix_s)


def _number(cell: str, where: str) -> float:
    try:
        return float(cell) if cell.strip() else np.nan
    except ValueError:
        raise DataError(f"{where}: {cell!r} is no number; an empty cell says unknown") from None


def _store(block: list[tuple[int, list[float]]], sensors: list[Sensor], house: HouseSpec, history: History, found: Imported) -> None:
    """Store rows of at most `BLOCK_S`."""
    start, step_s = block[0][0], house.step_s
    values = np.full(((block[-1][0] - start) // step_s + 1, len(sensors)), np.nan)
    for time, row in block:
        values[(time - start) // step_s] = row
    for i, sensor in enumerate(sensors):
        values[:, i] = _valid(_from_table_unit(values[:, i], sensor, step_s), sensor, step_s, found)
    found.known += int(np.isfinite(values).sum())
    found.stored += history.import_series(Series(start, step_s, tuple(sensor.feature for sensor in sensors), values))


def _valid(values: Floats, sensor: Sensor, step_s: int, found: Imported) -> Floats:
    """`values` without those outside the sensor's range (for energy, of mean power)."""
    level = values * SECONDS_PER_HOUR / step_s if sensor.feature.kind == "energy" else values
    outside = np.isfinite(values) & ~((level >= sensor.low) & (level <= sensor.high)) | np.isinf(values)
    if outside.any():
        found.rejected[sensor.name] += int(outside.sum())
    return np.where(outside, np.nan, values)


def _from_table_unit(values: Floats, sensor: Sensor, step_s: int) -> Floats:
    values = to_canonical(values, sensor.unit)
    return values * step_s / SECONDS_PER_HOUR if sensor.column_form == "power" else values


def _column(sensor: Sensor) -> str:
    return sensor.column or sensor.name


def _refuse_counters(sensors: Sequence[Sensor]) -> None:
    for sensor in sensors:
        if sensor.column is not None and sensor.column_form == "counter":
            raise ConfigError(f"sensor {sensor.name!r}: its column is a counter, which has no way to say 'unknown': set column_form = \"interval\"")
