"""What each single origin's forecast cost: what paired comparisons are made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trainer.scores import Predictions, pinball_losses

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Losses:
    """By origin, `(n_origins,)`, in the target's unit; NaN unknown."""

    origins: Ints
    """Unix s."""
    crps: Floats
    """Mean over the known steps."""
    total: Floats
    """Absolute error of the sum over the horizon; unknown where any step is."""


def losses_by_origin(predictions: Predictions) -> Losses:
    """CRPS and error of the total of each forecast."""
    actual = predictions.actual
    n, horizon = actual.shape
    by_step = 2 * pinball_losses(predictions.quantiles.reshape(n * horizon, -1), actual.ravel(), predictions.quantile_levels).mean(axis=1)
    counts = np.isfinite(actual).sum(axis=1)
    crps = np.nansum(by_step.reshape(n, horizon), axis=1) / np.where(counts, counts, np.nan)
    return Losses(predictions.origins, crps, np.abs(predictions.mean.sum(axis=1) - actual.sum(axis=1)))
