"""Readings of a house as rows of time, sensor and value: the form in which many houses with different sensors fit one table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from edge_agent.contract.errors import DataError
from edge_agent.contract.schema import HouseSpec
from edge_agent.contract.series import Series
from trainer.findings import Findings
from trainer.table_values import within_range

TIME, SENSOR, VALUE = "time", "sensor", "value"


def readings_of(series: Series) -> pd.DataFrame:
    """A row for each known value: `time` (start of the step, UTC), `sensor` (name), `value` (canonical unit; energy: Wh in the step)."""
    rows, columns = np.nonzero(np.isfinite(series.values))
    times = pd.to_datetime(series.times[rows], unit="s", utc=True).astype("datetime64[us, UTC]")  # Spark knows no other
    return pd.DataFrame({TIME: times, SENSOR: np.array(series.names)[columns], VALUE: series.values[rows, columns]})  # noqa: PD011 (a Series of ours)


def series_of_readings(house: HouseSpec, row: Mapping[str, Any]) -> Series:
    """A house's series from the arrays of its readings.

    Of two at once the last holds; sensors that the house does not name are left out, and values outside a sensor's valid range are unknown.

    Args:
        house: the house.
        row: `time` (unix s of the start of the step), `sensor` (name) and `value` (canonical unit; energy: Wh in the step), each `(n,)`.

    Raises:
        DataError: there are none, or times that are no multiple of the house's step.
    """
    positions = {name: i for i, name in enumerate(feature.name for feature in house.features)}
    known = np.array([name in positions for name in row[SENSOR]], bool)
    times = np.asarray(row[TIME], np.int64)[known]
    if not len(times):
        raise DataError(f"house {house.site!r} has no readings of the sensors that its house.toml names: give some, or correct the names")
    if (times % house.step_s).any():
        raise DataError(f"house {house.site!r} has readings between its steps of {house.step_s} s: a value is expected at the start of each step")
    start, end = int(times.min()), int(times.max()) + house.step_s
    values = np.full(((end - start) // house.step_s, len(positions)), np.nan)
    columns = np.array([positions[name] for name in np.asarray(row[SENSOR], object)[known]], np.int64)
    values[(times - start) // house.step_s, columns] = np.asarray(row[VALUE], np.float64)[known]
    findings, numbers = Findings("readings", repair=True), np.arange(1, len(values) + 1)
    for i, sensor in enumerate(house.sensors):
        values[:, i] = within_range(values[:, i], sensor, start=start, cadence_s=house.step_s, numbers=numbers, findings=findings)
    return Series(start, house.step_s, house.features, values)
