"""What every forecast has to beat: the naive family and the rolling climatology at the same origins."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from edge_agent.contract.baseline import seasonal_naive_at
from edge_agent.contract.features import FeatureBuilder
from trainer.scores import Predictions, point_predictions

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

CLIMATOLOGY: Final = "rolling climatology"
LABELS: Final = {
    "persistence": "persistence",
    "yesterday": "same time yesterday",
    "last_week": "same time last week",
    "mean_28d": "28-day mean",
}
YESTERDAY: Final = LABELS["yesterday"]
"""Summed over a day: yesterday's total."""


def actual_values(builder: FeatureBuilder, origins: Ints) -> Floats:
    """What happened after each origin, `(n_origins, horizon)`; NaN unknown or beyond the series."""
    rows = (origins[:, None] - builder.series.start) // builder.plan.step_s + np.arange(builder.plan.horizon)
    inside = (rows >= 0) & (rows < len(builder.target))
    return np.where(inside, builder.target[np.clip(rows, 0, len(builder.target) - 1)], np.nan)


def baseline_predictions(builder: FeatureBuilder, origins: Ints, *, anchors: npt.NDArray[np.float32] | None = None) -> dict[str, Predictions]:
    """Predictions by label: the naive family, then the rolling climatology.

    `anchors` are the climatology's `(n_origins, horizon, n_levels + 1)` where they are known already (`FeatureBuilder.anchors`).
    """
    plan, actual = builder.plan, actual_values(builder, origins)
    rows = (origins - builder.series.start) // plan.step_s
    naive = seasonal_naive_at(builder.target, rows, horizon=plan.horizon, step_s=plan.step_s)
    table = {
        label: point_predictions(origins, naive[name], actual, step_s=plan.step_s, quantile_levels=plan.quantile_levels)
        for name, label in LABELS.items()
    }
    known = (builder.anchors(origins) if anchors is None else anchors).astype(np.float64)
    return {**table, CLIMATOLOGY: Predictions(origins, plan.step_s, plan.quantile_levels, known[:, :, :-1], known[:, :, -1], actual)}
