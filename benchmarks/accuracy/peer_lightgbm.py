"""LightGBM with the quantile loss, direct: one model a level, with the lead time as a feature; lags, rolling means and dates by mlforecast.

Row (origin, lead): what mlforecast computes for the origin (newest lags, rolling means), and for the step itself the lags of one, two and seven days,
which lie before the origin at every lead of a day, and the date. With `relative`, everything is divided by the mean of the last 28 days.
"""

from __future__ import annotations

import sys
from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd
from mlforecast import MLForecast
from mlforecast.lag_transforms import RollingMean, RollingStd

from benchmarks.accuracy.peer_case import Floats, Forecasts, Ints, PeerCase, run

CHUNK = 500


def forecast(case: PeerCase, settings: dict[str, Any]) -> Forecasts:
    """Fitted on a random part of the training span's pairs of origin and lead."""
    table = Features(case)
    dice = np.random.default_rng(settings["seed"])
    first = 8 * case.day
    origins = dice.integers(first, case.train_rows - case.horizon, settings["rows"])
    leads = dice.integers(0, case.horizon, settings["rows"])
    x, y, scale = table.rows(origins, leads), case.energy[origins + leads], table.scale[origins]
    known = np.isfinite(y)
    x, y, scale = x[known], y[known], scale[known]
    if settings["relative"]:
        x, y = table.relative(x, scale), y / scale
    options = {"num_leaves": 31, "learning_rate": 0.05, "min_child_samples": 100, "subsample": 0.8, "subsample_freq": 1, "colsample_bytree": 0.8}
    options |= {"n_estimators": settings["trees"], "n_jobs": 1, "verbosity": -1, "seed": settings["seed"]}
    models = [lgb.LGBMRegressor(objective="quantile", alpha=level, **options).fit(x, y) for level in case.levels]
    models.append(lgb.LGBMRegressor(objective="regression", **options).fit(x, y))
    out = np.empty((len(case.origins), case.horizon, len(models)))
    for part in range(0, len(case.origins), CHUNK):
        picked = case.origins[part : part + CHUNK]
        pairs, steps = np.repeat(picked, case.horizon), np.tile(np.arange(case.horizon), len(picked))
        x, scale = table.rows(pairs, steps), table.scale[pairs]
        x, factor = (table.relative(x, scale), scale) if settings["relative"] else (x, np.ones(len(x)))
        found = np.stack([model.predict(x) * factor for model in models], axis=1)
        out[part : part + CHUNK] = found.reshape(len(picked), case.horizon, -1)
    return out[..., :-1], out[..., -1]


class Features:
    """What mlforecast computes for every step of the series, picked by origin and lead."""

    def __init__(self, case: PeerCase) -> None:
        """Compute all once; a lag is a past value wherever it stands."""
        day = case.day
        hour = max(day // 24, 1)
        times = pd.to_datetime(case.wall_s[0] + case.step_s * np.arange(len(case.energy) + case.horizon), unit="s")
        # mlforecast wants an unbroken series: gaps are filled for the features, never for the target
        values = np.concatenate([case.filled, np.zeros(case.horizon)])
        newest = [1, 2, 3, *(k * hour for k in (2, 3, 6, 12))]
        spans = {1: [RollingMean(k) for k in (hour, 3 * hour, 6 * hour, day, 7 * day) if k > 1] + [RollingStd(day)]}
        same = {k * day - hour // 2: [RollingMean(hour)] for k in (1, 2, 7)} if hour > 1 else {}
        self.scale = _past_mean(case.energy, 28 * day)
        engine = MLForecast(
            models=[], freq=f"{case.step_s // 60}min", lags=sorted({*newest, *(k * day for k in range(1, 8))}), lag_transforms={**spans, **same}
        )
        frame = pd.DataFrame({"unique_id": "home", "ds": times, "y": values})
        table = engine.preprocess(frame, dropna=False).drop(columns=["unique_id", "ds", "y"])
        at_step = [f"lag{k * day}" for k in range(1, 8)] + [
            name for name in table if "rolling_mean" in name and not name.endswith("lag1") and "lag1_" not in name
        ]
        self.at_origin = table[[name for name in table if name not in at_step]].to_numpy(np.float32)
        self.at_step = table[at_step].to_numpy(np.float32)
        wall = case.wall_s
        weekday = (wall // 86_400 + 3) % 7
        self.dates = np.stack([wall % 86_400, weekday, weekday >= 5, wall // 86_400 % 365], axis=1).astype(np.float32)

    def rows(self, origins: Ints, leads: Ints) -> Floats:
        """`(n, n_features)`."""
        steps = origins + leads
        return np.concatenate([self.at_origin[origins], self.at_step[steps], self.dates[steps], leads[:, None]], axis=1)

    def relative(self, x: Floats, scale: Floats) -> Floats:
        """The same rows with every energy divided by its origin's 28-day mean."""
        n_energy = self.at_origin.shape[1] + self.at_step.shape[1]
        return np.concatenate([x[:, :n_energy] / scale[:, None], x[:, n_energy:]], axis=1)


def _past_mean(values: Floats, n: int) -> Floats:
    """Mean of the `n` values before each row, as far as known, never zero, `(n_steps + 1,)`."""
    known = np.isfinite(values)
    total, count = (np.concatenate([[0.0], np.cumsum(part)]) for part in (np.where(known, values, 0.0), known.astype(float)))
    first = np.maximum(np.arange(len(values) + 1) - n, 0)
    rows = np.arange(len(values) + 1)
    return np.maximum((total[rows] - total[first]) / np.maximum(count[rows] - count[first], 1), 1.0)


if __name__ == "__main__":
    sys.exit(run(forecast))
