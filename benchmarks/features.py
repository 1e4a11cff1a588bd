"""Features and anchor for one origin, from 60 days of 10-minute history."""

from __future__ import annotations

import statistics
import sys

import numpy as np

from benchmarks import material
from benchmarks.section import Claim, Section, run_group
from benchmarks.timing import interleaved, percentile
from edge_agent.contract.baseline import Climatology
from edge_agent.contract.features import FeatureBuilder

WANTED_MS = 5.0
HISTORY_DAYS = 60


def measure(quick: bool) -> list[Section]:
    """Time the contract's feature code beside simpler code for the same numbers, and beside one sort of the same values."""
    spec = material.house()
    plan = material.builder("base").plan
    whole = material.series()
    origin = whole.start + 100 * 86_400
    history = whole.between(origin - HISTORY_DAYS * 86_400, origin).select((spec.targets[0].sensor,))
    zone = spec.zone
    prepared = FeatureBuilder(plan, history, target=spec.targets[0].sensor, zone=zone)
    one = np.array([origin], np.int64)
    climatology = prepared.climatology
    keys = np.random.default_rng(0).integers(0, 2**31 - 1, (plan.horizon, 56 * 7), dtype=np.int32)
    times = interleaved(
        {
            "features and anchor, from the raw history": lambda: FeatureBuilder(plan, history, target=spec.targets[0].sensor, zone=zone).inputs(one),
            "the same, next origin of a history already prepared": lambda: prepared.inputs(one),
            "anchor alone": lambda: climatology.filled(len(history), plan.horizon),
            "anchor, step by step in plain numpy": lambda: plain_anchor(climatology, len(history), plan.horizon, plan.quantile_levels),
            "floor: one sort of the anchor's 144 x 392 candidates as int32": lambda: np.sort(keys, axis=1),
        },
        rounds=20 if quick else 200,
    )
    ms = {name: 1e3 * statistics.median(t) for name, t in times.items()}
    first = next(iter(ms))
    rows = [[name, f"{value:.2f}", f"{1e3 * percentile(times[name], 99):.2f}", f"{value / ms[first]:.2f}"] for name, value in ms.items()]
    text = f"One origin of the `base` plan, {HISTORY_DAYS} days of 10-minute history, one thread, measured in turns."
    claim = Claim("features and anchor for one origin", f"< {WANTED_MS:g} ms", f"{ms[first]:.2f} ms", ms[first] < WANTED_MS)
    return [Section("Features and anchor", text, ["", "median ms", "p99 ms", "ratio"], rows, [claim])]


def plain_anchor(climatology: Climatology, origin: int, horizon: int, levels: tuple[float, ...]) -> np.ndarray:
    """The anchor's quantiles as one would write them down: at each step, weigh the past values near its time of day, sort, read off the levels."""
    out = np.empty((horizon, len(levels)))
    for i in range(horizon):
        lags = (np.arange(1, 57)[:, None] * 144 - np.arange(-3, 4)).ravel()
        weights = (np.exp(-np.arange(1, 57) / 28.0)[:, None] * (1 - np.abs(np.arange(-3, 4)) / 4)).ravel()
        rows = origin + i - lags
        inside = (rows >= 0) & (rows < origin)
        values, weights = climatology.values[rows[inside]], weights[inside]
        order = np.argsort(values)
        shares = np.cumsum(weights[order])
        out[i] = values[order][np.minimum(np.searchsorted(shares / shares[-1], levels), len(order) - 1)]
    return out


if __name__ == "__main__":
    sys.exit(run_group(measure, one_thread=True))
