"""Cumulative counters of a table: energy of each step, with what a counter does that is no consumption told apart and left out.

A counter rises. When a meter is replaced or restarts, it falls and goes on from there. When a gateway sends a cached value or old readings again, it
falls and comes back. And some sensors count the energy of the day: they fall every midnight, for good reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from edge_agent.contract.localtime import DAY_S
from edge_agent.contract.schema import Sensor
from trainer.findings import Findings, count

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

MAX_FALLING_SHARE: Final = 0.1
"""A counter falls when its meter is replaced, not in every tenth step."""
BACK_AT_ONCE: Final = 0.5
"""A counter that makes up this share of its fall in a single step was never down: no home uses that much."""
BACK_WITHIN_S: Final = 7 * DAY_S
"""A count begun anew may pass where the old one stood, but not within a week."""
DAILY_SHARE: Final = 0.5
"""A counter that falls on at least this share of the days starts anew every day."""
MIN_DAILY: Final = 3


@dataclass(frozen=True, eq=False)
class Falls:
    """Where a counter went back, as positions among its readings."""

    resets: Ints
    """First reading of a new count."""
    stale: Bools
    """Readings that are old ones sent again, or a glitch: the counter had passed them and came back, `(n,)`."""


def find_falls(readings: Floats, *, cadence_s: int) -> Falls:
    """Tells resets from readings sent again.

    Args:
        readings: the counter, `(n,)`, NaN unknown, in any unit.
        cadence_s: distance of the readings in s.
    """
    known = np.flatnonzero(np.isfinite(readings))
    values = readings[known]
    stale, resets, done = np.zeros(len(readings), bool), [], 0
    for fall in np.flatnonzero(np.diff(values) < 0) + 1:
        if fall < done:
            continue
        done = _back(values, fall, reach=int(np.searchsorted(known, known[fall] + BACK_WITHIN_S // cadence_s)))
        if done:
            stale[known[fall:done]] = True
        else:
            resets.append(known[fall])
    return Falls(np.array(resets, np.int64), stale)


def _back(values: Floats, fall: int, *, reach: int) -> int:
    """Position of the first reading, before `reach`, at which the counter is where it was before the fall; 0 when it began a new count."""
    peak = values[fall - 1]
    later = np.flatnonzero(values[fall:reach] >= peak)
    if not len(later):
        return 0
    back = fall + int(later[0])
    came_at_once = values[back] - values[back - 1] >= BACK_AT_ONCE * (peak - values[fall])
    were_seen = values[fall] > 0 and bool(np.isin(values[fall:back], values[:fall]).all())
    return back if came_at_once or were_seen else 0


def counter_steps(readings: Floats, *, max_gap: int) -> Floats:
    """Increase of a cumulative reading in each step, `(n,)`, spread evenly over gaps of up to `max_gap` steps; the last is unknown."""
    out = np.full(len(readings), np.nan)
    known = np.flatnonzero(np.isfinite(readings))
    if len(known) > 1:
        lengths = np.diff(known)
        rates = np.where(lengths <= max_gap, np.diff(readings[known]) / lengths, np.nan)
        out[known[0] : known[-1]] = np.repeat(rates, lengths)
    return out


def believed(readings: Floats, sensor: Sensor, *, cadence_s: int, numbers: Ints, findings: Findings) -> Floats:
    """The readings of a counter without those that it had passed already, `(n,)`.

    What a new count leaves unknown still shows in them as a fall, to be taken as unknown by who makes steps of them.

    Args:
        readings: the column on its grid, `(n,)`, NaN unknown.
        sensor: what it holds.
        cadence_s: the table's step in s.
        numbers: row number of each reading, 0 where the file has no row, `(n,)`.
        findings: settles what is wrong.

    Raises:
        DataError: it falls too often for a counter; or it falls, though not every day, and no repair is wanted.
    """
    column, known = sensor.column, readings[np.isfinite(readings)]
    falling = float(np.mean(np.diff(known) < 0)) if len(known) > 1 else 0.0
    if falling > MAX_FALLING_SHARE:
        raise findings.error(
            f"column {column!r} falls in {falling:.0%} of the steps, which no counter does",
            'if it holds the energy of each step, set column_form = "interval"',
        )
    if falling * len(known) >= max(DAILY_SHARE * len(readings) * cadence_s / DAY_S, MIN_DAILY):
        findings.note(f"column {column!r} starts anew every day: the step before that is unknown; a counter that never starts anew knows it")
        return readings
    falls = find_falls(readings, cadence_s=cadence_s)
    findings.settle(
        f"column {column!r} falls and comes back: {count(int(falls.stale.sum()), 'old reading')} sent again",
        numbers[falls.stale],
        expected="a counter never falls: remove these rows",
        repair="left out",
        kind="replay",
        sensor=sensor.name,
    )
    findings.settle(
        f"column {column!r} falls {count(len(falls.resets), 'time')} to a new count",
        numbers[falls.resets],
        expected="a counter that only rises is expected: was the meter replaced or restarted?",
        repair="the step before unknown, counted on from there",
        kind="reset",
        sensor=sensor.name,
    )
    return np.where(falls.stale, np.nan, readings)
