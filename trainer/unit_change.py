"""Changes of unit within a history: from some step on, everything is ten, a hundred or a thousand times what it was, the base load too.

People moving in, heating that starts or a holiday change a home's peaks, or its base load; only a unit multiplies both, and by a power of ten.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from edge_agent.contract.localtime import DAY_S, iso_utc
from trainer.findings import Finding, Findings

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

WINDOWS_DAYS: Final = (7, 14, 21)
"""Spans that are compared, before a day and after it."""
MIN_DAYS: Final = 3
"""A change that holds for less is not seen."""
LEVELS: Final = (0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
SPREAD: Final = 0.5
"""log10 by which the changes at these levels may differ."""
CENTRE: Final = 0.25
"""log10 by which the typical change may miss a power of ten."""
EXTREME: Final = 0.4
"""log10 by which any of them may."""
MIN_KNOWN: Final = 0.8
"""Of a day."""
MIN_LOG: Final = 0.6
LIKELY_W: Final = (30.0, 10_000.0)
"""Mean power of homes."""
BORDER_DAYS: Final = 5
MARGIN_S: Final = 6 * 3600
"""Where a change begins is known to about as much."""
MAX_CHANGES: Final = 8


@dataclass(frozen=True)
class UnitChange:
    """Steps `first` to `last` - 1 are 10^`power` times what the rest is."""

    first: int
    last: int
    power: int


def unit_changes(values: Floats, step_s: int) -> list[UnitChange]:
    """Stretches in another unit than most of the history, or than homes have, ascending.

    Args:
        values: energy of each step, `(n,)`, NaN unknown.
        step_s: their step in s, which divides a day.
    """
    borders: dict[int, int] = {}
    rest = values.copy()
    for _ in range(MAX_CHANGES):
        found = _strongest(rest, step_s)
        if found is None:
            break
        row, power = found
        borders[row] = borders.get(row, 0) + power
        rest[row:] *= 10.0**-power
    borders = {row: power for row, power in borders.items() if power}
    return _against_most(values, borders, step_s) if borders else []


def settle_units(values: Floats, *, start: int, step_s: int, sensor: str, findings: Findings) -> Floats:
    """Energy of each step in one unit, that of most of the history or the one that homes have.

    Args:
        values: energy of each step, `(n,)`, NaN unknown.
        start: unix s of the first step.
        step_s: their step in s.
        sensor: whose they are.
        findings: settles what is wrong.

    Raises:
        DataError: the unit changes, and no repair is wanted.
    """
    margin = MARGIN_S // step_s
    for change in unit_changes(values, step_s) if DAY_S % step_s == 0 else []:
        first, last = (iso_utc(start + row * step_s) for row in (change.first, change.last))
        factor, larger = f"{10 ** abs(change.power):,}", change.power > 0
        times = f"{factor} times" if larger else f"1/{factor} of"
        what = f"{sensor}: energy is {times} what it is otherwise, its base load too, from {first} to {last}"
        how = f"{'divided' if larger else 'multiplied'} by {factor}, unknown for {MARGIN_S // 3600} hours around the change"
        span = (start + change.first * step_s, start + change.last * step_s)
        finding = Finding(findings.source, "unit", what, "repaired", how, sensor, change.last - change.first, *span)
        if findings.decide(finding, expected="one unit is expected throughout: correct the file"):
            values = values.copy()
            values[change.first : change.last] *= 10.0**-change.power
            for border in {change.first, change.last} - {0, len(values)}:
                values[max(border - margin, 0) : border + margin] = np.nan
    return values


def _against_most(values: Floats, borders: dict[int, int], step_s: int) -> list[UnitChange]:
    """Stretches between the borders whose unit is not the one of most known steps, of those units in which a home uses what homes do."""
    rows = [0, *sorted(borders), len(values)]
    powers = [0, *np.cumsum([borders[row] for row in rows[1:-1]]).tolist()]
    stretches = list(zip(rows, rows[1:], powers, strict=False))
    scaled = values.copy()
    known: dict[int, int] = {}
    for first, last, power in stretches:
        known[power] = known.get(power, 0) + int(np.isfinite(values[first:last]).sum())
        scaled[first:last] *= 10.0**-power
    mean_w = float(np.nanmean(scaled)) * 3600 / step_s
    likely = {power for power in known if LIKELY_W[0] <= mean_w * 10.0**power <= LIKELY_W[1]}
    most = max(known, key=lambda power: (power in likely, known[power]))
    return [UnitChange(first, last, power - most) for first, last, power in stretches if power != most]


def _strongest(values: Floats, step_s: int) -> tuple[int, int] | None:
    """The step at which the clearest change begins, and its power of ten."""
    per_day = DAY_S // step_s
    days = values[: len(values) // per_day * per_day].reshape(-1, per_day)
    days = np.where((days > 0) & (np.isfinite(days).mean(axis=1, keepdims=True) >= MIN_KNOWN), days, np.nan)
    found = [(spread, day, power) for day in _candidates(days) for power, spread in _powers(days, day)]
    if not found:
        return None
    _, day, power = min(found)
    return _border(values, day * per_day, per_day, power), power


def _candidates(days: Floats) -> Ints:
    """Days at which the typical level of the days before and after is far apart."""
    levels = np.full(len(days) + 2 * MIN_DAYS, np.nan)
    known = np.isfinite(days).any(axis=1)
    levels[MIN_DAYS:-MIN_DAYS][known] = np.log10(np.nanmedian(days[known], axis=1))
    windows = np.lib.stride_tricks.sliding_window_view(levels, MIN_DAYS)
    counts = np.isfinite(windows).sum(axis=1)
    means = np.where(counts, np.nansum(windows, axis=1) / np.maximum(counts, 1), np.nan)
    steps = np.abs(means[MIN_DAYS : MIN_DAYS + len(days)] - means[: len(days)])
    return np.flatnonzero(steps >= MIN_LOG)


def _powers(days: Floats, day: int) -> Iterator[tuple[int, float]]:
    """Power of ten by which all levels change at `day`, and how far they differ in it, for each window that shows one."""
    for n_days in WINDOWS_DAYS:
        before, after = (part[np.isfinite(part)] for part in (days[max(day - n_days, 0) : day], days[day : day + n_days]))
        if min(len(before), len(after)) < (MIN_DAYS - 1) * days.shape[1] / 2:
            continue
        change = np.log10(np.quantile(after, LEVELS) / np.quantile(before, LEVELS))
        power, spread = round(float(np.median(change))), float(np.ptp(change))
        if power and spread < SPREAD and abs(np.median(change) - power) < CENTRE and np.abs(change - power).max() < EXTREME:
            yield power, spread


def _border(values: Floats, row: int, per_day: int, power: int) -> int:
    """The step within a few days of `row` that divides small values from large ones best."""
    first, last = max(row - BORDER_DAYS * per_day, 0), min(row + BORDER_DAYS * per_day, len(values))
    near = np.where(values[first:last] > 0, values[first:last], np.nan)
    levels = np.log10(near)
    half = len(levels) // 2
    middle = (np.nanmedian(levels[:half]) + np.nanmedian(levels[half:])) / 2
    above = np.nan_to_num(np.clip(levels - middle, -1.0, 1.0)) * np.sign(power)
    return first + int(np.argmin(np.concatenate([[0.0], np.cumsum(above)])))
