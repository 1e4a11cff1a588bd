"""A trained network beside the baselines at held-out origins: predictions, calibration, scores."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from edge_agent.contract.calibration import Calibration, fit_calibration, publish
from edge_agent.contract.localtime import DAY_S
from trainer.baselines import actual_values, yardstick
from trainer.scores import Predictions, score, skill, where_all_known
from trainer.windows import SCORE_EVERY_S, Windows

Floats = npt.NDArray[np.float64]


def raw_outputs(model: keras.Model, windows: Windows, *, batch_size: int) -> tuple[Floats | None, Floats]:
    """What the model puts out at every window: quantiles `(n, horizon, n_levels)`, None for a model of the mean only, and mean `(n, horizon)`."""
    parts: dict[str, list[Any]] = {name: [] for name in model.output_names}
    for first in range(0, len(windows), batch_size):
        picked = np.arange(first, min(first + batch_size, len(windows)))
        outputs = model.predict_on_batch(windows.inputs(picked).arrays)
        for name, value in zip(model.output_names, outputs if isinstance(outputs, (list, tuple)) else [outputs], strict=True):
            parts[name].append(np.asarray(value, np.float64))
    quantiles = np.concatenate(parts["quantiles"]) if "quantiles" in parts else None
    return quantiles, np.concatenate(parts["mean"])


def calibrate(model: keras.Model, windows: Windows, *, batch_size: int) -> Calibration:
    """The correction of the levels learnt at `windows`, which neither trained the model nor chose its epoch."""
    quantiles, mean = raw_outputs(model, windows, batch_size=batch_size)
    actual = actual_values(windows.builder, windows.origins)
    return fit_calibration(quantiles, mean, actual, windows.plan.quantile_levels, origins_per_day=DAY_S / SCORE_EVERY_S)


def model_predictions(model: keras.Model, windows: Windows, calibration: Calibration, *, batch_size: int) -> Predictions:
    """The model's calibrated forecasts."""
    plan = windows.plan
    quantiles, mean = raw_outputs(model, windows, batch_size=batch_size)
    published, mean = publish(quantiles, mean, calibration, plan)
    return Predictions(windows.origins, plan.step_s, plan.quantile_levels, published, mean, actual_values(windows.builder, windows.origins))


def score_table(predictions: dict[str, Predictions]) -> dict[str, dict[str, Any]]:
    """Scores of each method on the steps that all of them answer, each with its skill over the yardstick."""
    scores = {name: score(p) for name, p in where_all_known(predictions).items()}
    return {name: {**asdict(s), "skill": skill(s, scores[yardstick(scores)])} for name, s in scores.items()}
