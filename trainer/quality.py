"""What a house's history holds that no model may be trained on: found, named, and masked or refused.

Faults of the table, its rows, times and units, are settled where they are read (`datasets.py`): refused, or mended under `--repair`. This looks at
what is left, sensor by sensor. A masked step is unknown from then on: no window is scored or trained on it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from edge_agent.contract.localtime import DAY_S, iso_utc
from edge_agent.contract.schema import HouseSpec, Sensor
from edge_agent.contract.series import Series
from trainer.findings import Finding
from trainer.stretches import copied_steps, dead_energy, dead_state, lumps, runs
from trainer.table_values import span_of
from trainer.unit_change import LIKELY_W

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

STATES: Final = ("indoor_temperature", "outdoor_temperature", "indoor_humidity", "outdoor_humidity")
SATURATED: Final = 99.0
"""Air can stay at 100 % for days, in fog."""
MIN_DAYS: Final = 7
"""A shorter history is not judged by how it usually is."""
EMPTY_SHARE: Final = 0.75
"""Heating at night tariff is off for 17 of 24 hours, 71 %; a home that is at 0 for longer is not lived in, or its meter is not connected."""
PERIODIC_SHARE: Final = 1 / 3
"""Where more than this is copied, it is no copy of a stretch: the history was made up that way."""
END_S: Final = 2 * 3600
"""Unknown at either end, for as long at most, is no gap: a counter's last step, an interval that the table begins within."""


@dataclass(frozen=True, eq=False)
class Checked:
    """A history, and what was found in it."""

    series: Series
    """With masked steps, and all of refused sensors, unknown."""
    findings: list[Finding]


def check(series: Series, house: HouseSpec, *, source: str, accept: Collection[str] = (), refused: Collection[str] = ()) -> Checked:
    """Check each sensor of a house that has a column and is not `refused` already.

    Args:
        series: the house's history, as read.
        house: the house.
        source: names the history in the findings.
        refused: sensors that are.
        accept: kinds of findings that are true of this house; they are noted and nothing more.
    """
    values = series.values.copy()
    sensors = [sensor for sensor in house.sensors if sensor.column and sensor.name not in refused]
    findings = _gaps(series, sensors, source)
    for sensor in sensors:
        position = series.position(sensor.name)
        for finding, mask in _check_sensor(series.values[:, position], sensor, series, source):
            if finding.kind in accept:
                findings.append(replace(finding, done="noted", how="left as it is, as asked by --accept"))
                continue
            findings.append(finding)
            values[mask, position] = np.nan
            if finding.done == "refused":
                break
    return Checked(replace(series, values=values), findings)


def _gaps(series: Series, sensors: Sequence[Sensor], source: str) -> list[Finding]:
    """One finding for all sensors that are unknown at the same steps."""
    by_mask: dict[bytes, list[str]] = {}
    for sensor in sensors:
        by_mask.setdefault(_unknown(series.column(sensor.name), series.step_s).tobytes(), []).append(sensor.name)
    found = []
    for packed, together in by_mask.items():
        mask = np.frombuffer(packed, bool)
        if mask.any():
            names = "" if len(by_mask) == 1 else ", ".join(together)
            found.append(replace(_finding("gap", mask, series, source, names, "no value", "unknown, as in the table"), done="noted"))
    return found


def _unknown(values: Floats, step_s: int) -> Bools:
    """Unknown steps without short ends."""
    unknown = ~np.isfinite(values)
    for first, last in runs(unknown):
        if (first == 0 or last == len(values)) and (last - first) * step_s <= END_S:
            unknown[first:last] = False
    return unknown


def _check_sensor(values: Floats, sensor: Sensor, series: Series, source: str) -> Iterator[tuple[Finding, Bools]]:
    """Findings about one sensor, each with the steps that it makes unknown; a refusal, if any, comes first and is the last."""

    def finding(kind: str, mask: Bools, what: str, how: str = "masked") -> Finding:
        return _finding(kind, mask, series, source, sensor.name, what, how)

    if len(values) * series.step_s < MIN_DAYS * DAY_S:
        return
    if sensor.feature.kind == "energy":
        refusal = _refusal(values, sensor, finding)
        if refusal is not None:
            yield refusal, np.ones(len(values), bool)
        yield from _check_energy(values, sensor, series.step_s, finding)
    elif sensor.role in STATES:
        dead = dead_state(values, series.step_s) & ~((values >= SATURATED) & sensor.role.endswith("humidity"))
        if dead.any():
            yield finding("dead", dead, "stuck at one value"), dead


Make = Callable[..., Finding]


def _refusal(values: Floats, sensor: Sensor, finding: Make) -> Finding | None:
    """Why the sensor cannot be used at all; None when it can."""
    known = np.isfinite(values)
    zero = known & (values == 0)
    share = zero.sum() / max(known.sum(), 1)
    if not zero.any() or share < (EMPTY_SHARE if sensor.role == "energy" else 1.0):
        return None
    how = "refused: is the meter connected, is the home lived in? What is only a part of a home has the role energy_part"
    return replace(finding("empty", zero, "", how), done="refused", what=f"0 in {share:.0%} of all known steps")


def _check_energy(values: Floats, sensor: Sensor, step_s: int, finding: Make) -> Iterator[tuple[Finding, Bools]]:
    is_home = sensor.role == "energy"
    dead = dead_energy(values, step_s, rests=not is_home)
    if dead.any():
        yield finding("dead", dead, "constant, or on a straight line"), dead
    if not is_home:
        return
    known = np.isfinite(values)
    mean_w = float(values[known].mean()) * 3600 / step_s if known.any() else LIKELY_W[0]
    if not LIKELY_W[0] <= mean_w <= LIKELY_W[1]:
        what = f"uses {mean_w:,.3g} W on average, {mean_w * 8.766:,.3g} kWh a year"
        unlikely = finding("level", known, "", "left as it is: is the unit right?")
        yield replace(unlikely, done="noted", what=what), np.zeros(len(values), bool)
    lumped = lumps(values, step_s) & ~dead
    if lumped.any():
        yield finding("lump", lumped, "the energy of a longer time in one step, or far above all others"), lumped
    copied = copied_steps(values, step_s) & ~dead
    if copied.mean() > PERIODIC_SHARE:
        what, how = f"repeats itself in {copied.mean():.0%} of all steps", "left as it is: measured homes never do, was this made up?"
        yield replace(finding("copy", copied, what, how), done="noted"), np.zeros(len(values), bool)
    elif copied.any():
        yield finding("copy", copied, "copied, value by value, from an earlier time"), copied


def _finding(kind: str, mask: Bools, series: Series, source: str, sensor: str, what: str, how: str) -> Finding:
    """About the steps in `mask`: how many, in how many stretches, where the longest is."""
    stretches = runs(mask)
    first, last = max(stretches, key=lambda stretch: stretch[1] - stretch[0])
    hours = (last - first) * series.step_s / 3600
    length = f"{hours / 24:.3g} days" if hours >= 48 else f"{hours:.3g} hour{'' if hours == 1 else 's'}"
    at = iso_utc(series.start + first * series.step_s)
    places = f"for {length} from {at}" if len(stretches) == 1 else f"in {len(stretches):,} stretches, the longest {length} from {at}"
    return Finding(source, kind, f"{what} {places}", "masked", how, sensor, int(mask.sum()), *span_of(mask, series.start, series.step_s))
