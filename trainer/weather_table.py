"""Reads a table of archived weather forecasts: when each was issued, what it said of when."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from edge_agent.contract.errors import DataError, closest
from edge_agent.contract.schema import ROLES, WEATHER_ROLES
from edge_agent.contract.weather import WeatherForecast, WeatherForecasts
from trainer.table_files import PARQUET_MAGIC, read_bytes

ISSUED: Final = "issued"
TIME: Final = "time"


def read_weather(path: Path) -> WeatherForecasts:
    """The forecasts in the CSV or Parquet file at `path` (`.gz` too).

    Columns: `issued` and `time` (the valid time), ISO 8601, UTC where there is no offset, and one for each role, in the role's canonical unit.

    Raises:
        DataError: unreadable file, missing or unknown columns, times that cannot be read, values out of the role's range.
    """
    frame = _read(path)
    roles = [str(name) for name in frame.columns if name not in (ISSUED, TIME)]
    for name in (ISSUED, TIME):
        if name not in frame.columns:
            raise DataError(f"{path}: column {name!r} is missing: columns {ISSUED}, {TIME} and roles ({', '.join(WEATHER_ROLES)}) are expected")
    for name in roles:
        if name not in WEATHER_ROLES:
            raise DataError(f"{path}: unknown column {name!r}: {closest(name, WEATHER_ROLES)}")
    if not roles or frame.empty:
        raise DataError(f"{path}: holds no forecast: rows, and a column for a role ({', '.join(WEATHER_ROLES)}), are expected")
    table = pd.DataFrame({ISSUED: _unix_s(frame[ISSUED], path), TIME: _unix_s(frame[TIME], path)})
    return WeatherForecasts(forecast for role in roles for forecast in _issues(table, _values(frame[role], role, path), role))


def _read(path: Path) -> pd.DataFrame:
    data = read_bytes(path)
    try:
        return pd.read_parquet(io.BytesIO(data)) if data.startswith(PARQUET_MAGIC) else pd.read_csv(io.BytesIO(data))
    except (OSError, ValueError, pd.errors.ParserError) as err:  # pyarrow's errors, and UnicodeDecodeError, are children of these
        raise DataError(f"{path}: cannot be read ({str(err).strip()}): a CSV or Parquet file is expected") from err


def _unix_s(column: pd.Series, path: Path) -> npt.NDArray[np.int64]:
    try:
        times = pd.to_datetime(column, utc=True, format=None if pd.api.types.is_datetime64_any_dtype(column) else "ISO8601")
    except (ValueError, TypeError) as err:
        raise DataError(f"{path}: column {column.name!r}: {err}: ISO 8601 is expected, such as 2026-01-11T17:00Z") from err
    if times.isna().any():
        raise DataError(f"{path}: column {column.name!r}: row {int(times.isna().argmax()) + 2} has no time: one is expected in each row")
    return times.dt.as_unit("s").astype("int64").to_numpy()


def _values(column: pd.Series, role: str, path: Path) -> npt.NDArray[np.float64]:
    values = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
    bad = (np.isnan(values) & column.notna().to_numpy()) | (values < ROLES[role].low) | (values > ROLES[role].high)
    if bad.any():
        row = int(bad.argmax())
        limits = f"{ROLES[role].low:g} to {ROLES[role].high:g} {ROLES[role].unit}"
        raise DataError(f"{path}: column {role!r}, row {row + 2}: {column.iloc[row]!r} cannot be: {limits} is expected")
    return values


def _issues(table: pd.DataFrame, values: npt.NDArray[np.float64], role: str) -> list[WeatherForecast]:
    known = table.assign(value=values).dropna().drop_duplicates([ISSUED, TIME]).sort_values([ISSUED, TIME])
    return [
        WeatherForecast(role, float(issued), rows[TIME].to_numpy(np.int64), rows["value"].to_numpy(np.float64))  # type: ignore[arg-type]
        for issued, rows in known.groupby(ISSUED)
    ]
