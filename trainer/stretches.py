"""Stretches of a history that no meter can have measured: dead or filled in, a lump of energy that belongs elsewhere, copied from another time.

All are told from how this home usually is. Thresholds were set on 95 homes of five countries, where each finding was looked at (LOG.md).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from edge_agent.contract.localtime import DAY_S, HOUR_S

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

MIN_DEAD_S: Final = 12 * HOUR_S
MIN_DEAD_STATE_S: Final = 24 * HOUR_S
UNUSUAL: Final = 4.0
"""A stretch is dead when it is this many times as long as the long ones that the home has again and again."""
DAYS_PER_STRETCH: Final = 10
USUAL_RANKS: Final = (3, 10)
"""How many long stretches make their length usual: one in ten days of history, within these bounds."""
STRAIGHT: Final = 0.003
"""Values filled in between two readings bend by less than this share of the usual change from step to step."""
LUMP_QUANTILE: Final = 0.999
LUMP: Final = 1.5
"""Times the quantile: more than the home ever uses, right beside a stretch where nothing was measured."""
MIN_SILENCE_S: Final = 2 * HOUR_S
SPIKE: Final = 3.0
"""Times the largest of all other steps."""
MAX_SPIKES: Final = 3
MIN_SPIKE_STEPS: Final = 500
COPY_S: Final = 12 * HOUR_S
COPY_BITS: Final = 60.0
"""By chance no two half-days of a home are equal in changes that hold so much information: the most seen was 56 bits, over 8 hours."""
COPY_DIGITS: Final = 4


def runs(mask: Bools) -> list[tuple[int, int]]:
    """First row and row after the last of each stretch of `mask`."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(first), int(last)) for first, last in edges.reshape(-1, 2)]


def dead_energy(values: Floats, step_s: int, *, rests: bool) -> Bools:
    """Steps of stretches that are constant, or on a straight line, for at least half a day and far longer than is usual here.

    A home on holiday still has a fridge; storage heating is off by day, every day, which makes it usual.

    Args:
        values: energy of each step, `(n,)`, NaN unknown.
        step_s: their step in s.
        rests: whether it may be 0 for days, as a washing machine may.
    """
    changes = np.abs(np.diff(values))
    usual = changes[changes > 0]
    bend = np.abs(np.diff(values, n=2))
    flat = [(first, last + 2) for first, last in runs(bend <= STRAIGHT * (float(np.median(usual)) if usual.size else 0.0))]
    zero = [(first, last) for first, last in flat if not values[first:last].any()]
    other = [(first, last) for first, last in flat if values[first:last].any()]
    return _unusual([other] if rests else [zero, other], values, step_s, shortest_s=MIN_DEAD_S)


def dead_state(values: Floats, step_s: int) -> Bools:
    """The same of a temperature or humidity: constant for at least a day. Straight lines are usual there, from hourly weather on finer steps."""
    flat = [(first, last + 1) for first, last in runs(np.diff(values) == 0)]
    return _unusual([flat], values, step_s, shortest_s=MIN_DEAD_STATE_S)


def _unusual(kinds: list[list[tuple[int, int]]], values: Floats, step_s: int, *, shortest_s: int) -> Bools:
    """Of stretches of each kind, those far longer than the long ones that come again and again."""
    rank = int(np.clip(len(values) * step_s / DAY_S / DAYS_PER_STRETCH, *USUAL_RANKS))
    found = np.zeros(len(values), bool)
    for stretches in kinds:
        lengths = sorted(((last - first) * step_s for first, last in stretches), reverse=True)
        limit = max(shortest_s, UNUSUAL * lengths[rank - 1] if len(lengths) >= rank else 0.0)
        for first, last in stretches:
            found[first:last] |= (last - first) * step_s >= limit
    return found


def lumps(values: Floats, step_s: int) -> Bools:
    """Steps that hold the energy of other steps, or no energy at all: more than the home ever uses, alone, or beside zeros or unknown steps.

    A meter that was out of reach for hours delivers them as one; the zeros beside it, which are not true either, are included.

    Args:
        values: energy of each step, `(n,)`, NaN unknown.
        step_s: their step in s.
    """
    known = values[np.isfinite(values)]
    found = np.zeros(len(values), bool)
    if len(known) < MIN_SPIKE_STEPS:
        return found
    silent = runs(~np.isfinite(values) | (values == 0))
    high = values > LUMP * np.quantile(known, LUMP_QUANTILE)
    for first, last in silent:
        beside = [row for row in (first - 1, last) if 0 <= row < len(values) and high[row]]
        if beside and (last - first) * step_s >= MIN_SILENCE_S:
            found[[*beside, *range(first, last)]] = True
    return (found | _spikes(values, known)) & np.isfinite(values)


def _spikes(values: Floats, known: Floats) -> Bools:
    """The few largest values, when they are far above all others."""
    largest = np.sort(known)[-MAX_SPIKES - 1 :]
    jumps = np.flatnonzero(largest[1:] > SPIKE * largest[:-1])
    return values >= largest[jumps[0] + 1] if len(jumps) and largest[0] > 0 else np.zeros(len(values), bool)


def copied_steps(values: Floats, step_s: int) -> Bools:
    """Steps of stretches of half a day or more that repeat an earlier one value by value, at any distance: old data sent again, or a gap filled.

    Args:
        values: energy of each step, `(n,)`, NaN unknown.
        step_s: their step in s.

    Returns:
        `(n,)`, the later of two equal stretches only.
    """
    n, length = len(values), max(COPY_S // step_s, 2)
    if n < 2 * length:
        return np.zeros(n, bool)
    known = np.isfinite(values)
    _, codes, counts = np.unique(np.where(known, values, -1.0).round(COPY_DIGITS), return_inverse=True, return_counts=True)
    hashes = _window_hashes(codes, length)
    changed = np.concatenate([[True], np.diff(codes) != 0])  # a value that stays says nothing new
    bits = np.where(known, np.where(changed, -np.log2(counts[codes] / n), 0.0), -np.inf)
    telling = np.lib.stride_tricks.sliding_window_view(bits, length).sum(axis=1) >= COPY_BITS
    _, first, groups = np.unique(hashes, return_index=True, return_inverse=True)
    copied = np.flatnonzero(telling & (first[groups] + length <= np.arange(len(hashes))))
    edges = np.zeros(n + 1, np.int64)
    np.add.at(edges, copied, 1)
    np.add.at(edges, copied + length, -1)
    repeated: Bools = np.cumsum(edges[:-1]) > 0
    return repeated


def _window_hashes(codes: Ints, length: int) -> npt.NDArray[np.uint64]:
    """A number for each window of `length` codes; equal windows have equal numbers, others by chance once in 2^64."""
    numbers = np.random.default_rng(0).integers(1, 2**63, int(codes.max()) + 1, dtype=np.uint64)[codes]
    hashes = np.zeros(len(codes) - length + 1, np.uint64)
    for offset in range(length):
        hashes = hashes * np.uint64(6364136223846793005) + numbers[offset : offset + len(hashes)]
    return hashes
