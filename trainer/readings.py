"""Readings of a house as rows of time, sensor and value: the form in which many houses with different sensors fit one table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from edge_agent.contract.errors import DataError
from edge_agent.contract.schema import Form, HouseSpec, Sensor
from edge_agent.contract.series import Series
from trainer.datasets import SAME
from trainer.findings import Findings, count
from trainer.table_values import check_form, check_unit, within_range
from trainer.unit_change import settle_units

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

TIME, SENSOR, VALUE = "time", "sensor", "value"


def readings_of(series: Series) -> pd.DataFrame:
    """A row for each known value: `time` (start of the step, UTC), `sensor` (name), `value` (canonical unit; energy: Wh in the step)."""
    rows, columns = np.nonzero(np.isfinite(series.values))
    times = pd.to_datetime(series.times[rows], unit="s", utc=True).astype("datetime64[us, UTC]")  # Spark knows no other
    return pd.DataFrame({TIME: times, SENSOR: np.array(series.names)[columns], VALUE: series.values[rows, columns]})  # noqa: PD011 (a Series of ours)


def in_readings(house: HouseSpec) -> HouseSpec:
    """The house as its readings have it: times in UTC, and of every sensor a column of its name, in its canonical unit, energy of the step."""
    forms: dict[str, Form] = {"energy": "interval", "state": "state"}
    sensors = (replace(sensor, column=sensor.name, unit=sensor.feature.unit, column_form=forms[sensor.feature.kind]) for sensor in house.sensors)
    return replace(house, table_clock="utc", sensors=tuple(sensors))


def series_of_readings(house: HouseSpec, row: Mapping[str, Any], findings: Findings, *, judge_units: bool = True) -> Series:
    """A house's series from the arrays of its readings, checked as the values of a table are.

    Sensors that the house does not name are left out.

    Args:
        house: the house.
        row: `time` (unix s of the start of the step), `sensor` (name) and `value` (canonical unit; energy: Wh in the step), each `(n,)`.
        findings: settles what is wrong; with repair, of two at once the last holds, and values outside a sensor's valid range are unknown.
        judge_units: whether units that cannot be, or that change, are looked for, as in a whole history; a few days may look like that.

    Raises:
        DataError: there are none, or times that are no multiple of the house's step; without repair also values that contradict each other or
            cannot be.
    """
    house = in_readings(house)
    positions = {name: i for i, name in enumerate(feature.name for feature in house.features)}
    known = np.array([name in positions for name in row[SENSOR]], bool)
    given_times = np.asarray(row[TIME], np.float64)[known]
    if not len(given_times):
        raise DataError(f"house {house.site!r} has no readings of the sensors that its house.toml names: give some, or correct the names")
    if not np.isfinite(given_times).all():
        raise DataError(f"house {house.site!r} has readings without a time: unix s is expected for each")
    times = given_times.astype(np.int64)
    if (given_times % house.step_s).any():
        raise DataError(f"house {house.site!r} has readings between its steps of {house.step_s} s: a value is expected at the start of each step")
    start, end = int(times.min()), int(times.max()) + house.step_s
    values = np.full(((end - start) // house.step_s, len(positions)), np.nan)
    given = np.asarray(row[VALUE], np.float64)[known]
    columns = np.array([positions[name] for name in np.asarray(row[SENSOR], object)[known]], np.int64)
    told = np.isfinite(given)  # a null says nothing, and takes nothing back
    where, given = ((times - start)[told] // house.step_s, columns[told]), given[told]
    values[where] = given
    _settle_contradictions(times[told][np.abs(values[where] - given) > SAME * (1.0 + np.abs(given))], findings)
    for i, sensor in enumerate(house.sensors):
        values[:, i] = _checked(values[:, i], sensor, start=start, step_s=house.step_s, findings=findings, judge_units=judge_units)
    return Series(start, house.step_s, house.features, values)


def _settle_contradictions(times: Ints, findings: Findings) -> None:
    findings.settle(
        f"{count(len(times), 'reading')} that a later one of the same sensor and time contradicts",
        np.unique(times),
        expected="one value for each sensor and step is expected: remove the others",
        repair="the last of each kept",
        kind="contradiction",
        done="repaired",
        steps=len(times),
    )


def _checked(values: Floats, sensor: Sensor, *, start: int, step_s: int, findings: Findings, judge_units: bool) -> Floats:
    """The values of one sensor, `(n,)`, as `datasets.column_values` leaves those of a column."""
    if judge_units:
        if sensor.feature.kind == "energy":
            check_form(values, sensor, findings, advice="give the energy of each step, not the counter's count")
        if sensor.role == "energy":
            values = settle_units(values, start=start, step_s=step_s, sensor=sensor.name, findings=findings)
        advice = f"readings are expected in {sensor.unit}{' of the step' if sensor.feature.kind == 'energy' else ''}: convert them"
        check_unit(values, sensor, cadence_s=step_s, findings=findings, advice=f"{advice}, or, where they are true, set the sensor's 'valid'")
    times = start + step_s * np.arange(len(values), dtype=np.int64)
    return within_range(values, sensor, start=start, cadence_s=step_s, numbers=times, findings=findings)
