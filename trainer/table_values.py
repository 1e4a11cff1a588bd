"""One column of a table: what it holds, in the file's unit, to canonical values of a step; units that cannot be; valid range."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from edge_agent.contract.schema import Sensor
from edge_agent.contract.units import UNITS, from_canonical, to_canonical, unit_named
from trainer.counters import counter_steps
from trainer.findings import Findings, count

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

TINY_PEAK_SHARE: Final = 1 / 2000
"""A whole house whose peaks stay below this share of its valid range is taken for one measured in kWh: 25 W of 50 kW."""
MIN_COUNTER_ROWS: Final = 48
MIN_COUNTER_RISES: Final = 12
MIN_EXPORT_SHARE: Final = 0.005
"""A home whose energy is negative more often feeds into the grid."""
MIN_EXPORT: Final = 10


def canonical_values(raw: Floats, sensor: Sensor, *, cadence_s: int) -> Floats:
    """Canonical values of each step: energy in Wh of the step, states as they are.

    Args:
        raw: the column on its grid, in the file's unit, `(n,)`, NaN unknown.
        sensor: what it holds.
        cadence_s: the file's step in s.

    Returns:
        `(n,)`. A counter's step runs to the next reading; over gaps no longer than the sensor's hold time its energy is spread evenly. Where it
        falls, a new count begins, and the energy is unknown.
    """
    values = to_canonical(raw, sensor.unit)
    if sensor.column_form == "power":
        return values * cadence_s / 3600
    if sensor.column_form == "counter":
        steps = counter_steps(values, max_gap=max(sensor.hold_s // cadence_s, 1))
        return np.where(steps < 0, np.nan, steps)
    return values


def check_form(values: Floats, sensor: Sensor, findings: Findings, *, advice: str = 'set column_form = "counter" in house.toml') -> None:
    """Refuse energy of each step that is the reading of a cumulative counter. No repair can know better.

    Args:
        values: canonical values of the steps, `(n,)`.
        sensor: what the column is said to hold.
        findings: gives the error.
        advice: what to do.

    Raises:
        DataError: it rises and never falls.
    """
    changes = np.diff(values[np.isfinite(values)])
    if sensor.column_form == "interval" and len(changes) >= MIN_COUNTER_ROWS and (changes >= 0).all() and (changes > 0).sum() >= MIN_COUNTER_RISES:
        raise findings.error(
            f"column {sensor.column!r} (sensor {sensor.name!r}, {_declared(sensor)}): it never falls, as a cumulative counter",
            advice,
        )


def check_unit(values: Floats, sensor: Sensor, *, cadence_s: int, findings: Findings, advice: str = "") -> None:
    """Refuse a column whose unit or form cannot be what house.toml says. No repair can know better.

    Args:
        values: canonical values of the steps, `(n,)`.
        sensor: what the column is said to hold.
        cadence_s: the file's step in s.
        findings: gives the error.
        advice: what to do then; by default what the values look like.

    Raises:
        DataError: the typical value lies outside the valid range, a whole house's peaks are tiny, a percentage never passes 1.
    """
    level = _levels(values, sensor, cadence_s)
    level = level[np.isfinite(level)]
    if not len(level):
        return
    problem = _unit_problem(level, sensor)
    if problem:
        what = f"column {sensor.column!r} (sensor {sensor.name!r}, {_declared(sensor)}): {problem}"
        raise findings.error(what, advice or _advice(level, sensor))


def _levels(values: Floats, sensor: Sensor, cadence_s: int) -> Floats:
    """What the valid range is about: mean power in W for energy, the value itself for a state."""
    return values * 3600 / cadence_s if sensor.feature.kind == "energy" else values


def _declared(sensor: Sensor) -> str:
    return f"{sensor.column_form} in {sensor.unit}" if sensor.feature.kind == "energy" else sensor.unit


def _unit_problem(level: Floats, sensor: Sensor) -> str:
    """What speaks against the declared unit; empty when nothing does."""
    unit = "W" if sensor.feature.kind == "energy" else sensor.feature.unit
    median, used = float(np.median(level)), level[level > 0]
    if not sensor.low <= median <= sensor.high:
        return f"its median is {median:,.4g} {unit}, valid is {sensor.low:,g} to {sensor.high:,g} {unit}"
    peak = float(np.quantile(used, 0.99)) if len(used) else 0.0
    if sensor.role == "energy" and 0 < peak < sensor.high * TINY_PEAK_SHARE:
        return f"its peaks are only {peak:,.3g} W"
    if sensor.feature.unit == "%" and peak > 0 and level.max() <= 1.0:
        return f"it never passes {level.max():g} %"
    return ""


def _advice(level: Floats, sensor: Sensor) -> str:
    """Which other reading of the same numbers would make sense."""
    for unit, (canonical, _, _) in UNITS.items():
        if canonical == unit_named(sensor.unit).canonical and not _unit_problem(to_canonical(from_canonical(level, sensor.unit), unit), sensor):
            return f"looks like {unit} given as {sensor.unit}: set unit = {unit!r}, or, where the values are true, the sensor's 'valid'"
    return "correct the sensor's unit, column_form or valid in house.toml"


def within_range(values: Floats, sensor: Sensor, *, start: int, cadence_s: int, numbers: Ints, findings: Findings) -> Floats:
    """`values` with those outside the sensor's valid range unknown; energy that a home feeds into the grid is 0 of what it draws.

    Args:
        values: canonical values of the steps, `(n,)`.
        sensor: tells the valid range. Energy is never negative, whatever it says.
        start: unix s of the first step.
        cadence_s: the file's step in s.
        numbers: row number of each step, that of the row before where the file has none, `(n,)`.
        findings: settles what is wrong.

    Raises:
        DataError: there are such values, and no repair is wanted.
    """
    is_energy = sensor.feature.kind == "energy"
    if is_energy:
        values = _without_export(values, sensor, start=start, cadence_s=cadence_s, numbers=numbers, findings=findings)
    level, low = _levels(values, sensor, cadence_s), max(sensor.low, 0.0) if is_energy else sensor.low
    outside = (level < low) | (level > sensor.high)
    if not outside.any():
        return values
    unit = "W (mean power of the step)" if is_energy else sensor.feature.unit
    valid = f"{low:,g} to {sensor.high:,g} {unit}"
    findings.settle(
        f"column {sensor.column!r} has {count(int(outside.sum()), 'value')} outside {valid}, the first {level[outside][0]:,.6g}",
        numbers[outside],
        expected="correct the values, or 'valid' of the sensor in house.toml",
        repair="taken as unknown",
        kind="range",
        sensor=sensor.name,
        span=span_of(outside, start, cadence_s),
    )
    return np.where(outside, np.nan, values)


def _without_export(values: Floats, sensor: Sensor, *, start: int, cadence_s: int, numbers: Ints, findings: Findings) -> Floats:
    """A meter that nets solar export goes below zero again and again; one that errs does so now and then, and is left to the valid range."""
    export = values < 0
    if export.sum() < max(MIN_EXPORT_SHARE * np.isfinite(values).sum(), MIN_EXPORT):
        return values
    lowest = float(_levels(values, sensor, cadence_s)[export].min())
    findings.settle(
        f"column {sensor.column!r} has {count(int(export.sum()), 'negative value')}, down to {lowest:,.0f} W, as a meter that nets solar export",
        numbers[export],
        expected="energy that is drawn or used is never negative: give the import register, or consumption (import + production - export)",
        repair="set to 0, which is what the home drew from the grid",
        kind="negative",
        done="repaired",
        sensor=sensor.name,
        span=span_of(export, start, cadence_s),
    )
    return np.where(export, 0.0, values)


def span_of(mask: npt.NDArray[np.bool_], start: int, step_s: int) -> tuple[int, int]:
    """Unix s of the first step in `mask`, and after the last."""
    rows = np.flatnonzero(mask)
    return start + int(rows[0]) * step_s, start + (int(rows[-1]) + 1) * step_s
