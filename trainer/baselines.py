"""What every forecast has to beat: the naive family, the rolling climatology and, of states, the mixture of naive forecasts at the same origins."""

from __future__ import annotations

from collections.abc import Container
from typing import Final

import numpy as np
import numpy.typing as npt

from edge_agent.contract.baseline import seasonal_naive_at
from edge_agent.contract.features import FeatureBuilder
from edge_agent.contract.plan import FeaturePlan
from edge_agent.contract.schema import ROLES
from trainer.scores import Predictions, point_predictions

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

CLIMATOLOGY: Final = "rolling climatology"
MIXTURE: Final = "mixture of naive forecasts"
WITHOUT_MODEL: Final = (CLIMATOLOGY, MIXTURE)
"""What a gateway forecasts by without a model: of energy the first, of states the second, which is then the yardstick."""
LABELS: Final = {
    "persistence": "persistence",
    "yesterday": "same time yesterday",
    "last_week": "same time last week",
    "mean_28d": "28-day mean",
}
CHANGE: Final = "persistence + yesterday's change"
STATE_LABELS: Final = {**LABELS, "change": CHANGE}
"""Of what does not add up, such as a room's temperature: there the best of the naive forecasts differs from room to room."""
YESTERDAY: Final = LABELS["yesterday"]
"""Summed over a day: yesterday's total."""


def actual_values(builder: FeatureBuilder, origins: Ints) -> Floats:
    """What happened after each origin, `(n_origins, horizon)`; NaN unknown or beyond the series."""
    rows = (origins[:, None] - builder.series.start) // builder.plan.step_s + np.arange(builder.plan.horizon)
    inside = (rows >= 0) & (rows < len(builder.target))
    return np.where(inside, builder.target[np.clip(rows, 0, len(builder.target) - 1)], np.nan)


def yardstick(labels: Container[str]) -> str:
    """Which of the `labels` skill is measured against."""
    return MIXTURE if MIXTURE in labels else CLIMATOLOGY


def yardstick_of(plan: FeaturePlan) -> str:
    """What forecasts where no model can."""
    return CLIMATOLOGY if ROLES[plan.role].kind == "energy" else MIXTURE


def baseline_predictions(builder: FeatureBuilder, origins: Ints, *, anchors: npt.NDArray[np.float32] | None = None) -> dict[str, Predictions]:
    """Predictions by label: the naive family, then the rolling climatology; of states the mixture of naive forecasts after it.

    `anchors` are what `FeatureBuilder.anchors` gives, `(n_origins, horizon, n_levels + 1)`, where they are known already.
    """
    plan, actual = builder.plan, actual_values(builder, origins)
    rows = (origins - builder.series.start) // plan.step_s
    naive = seasonal_naive_at(builder.target, rows, horizon=plan.horizon, step_s=plan.step_s)
    is_energy = ROLES[plan.role].kind == "energy"
    table = {
        label: point_predictions(origins, naive[name], actual, step_s=plan.step_s, quantile_levels=plan.quantile_levels)
        for name, label in (LABELS if is_energy else STATE_LABELS).items()
    }
    if not is_energy:
        table[CLIMATOLOGY] = Predictions(
            origins, plan.step_s, plan.quantile_levels, *builder.climatology.filled_at(rows, plan.horizon, plan.quantile_levels), actual
        )
    known = (builder.anchors(origins) if anchors is None else anchors).astype(np.float64)
    return {**table, yardstick_of(plan): Predictions(origins, plan.step_s, plan.quantile_levels, known[:, :, :-1], known[:, :, -1], actual)}
