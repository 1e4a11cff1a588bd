"""Ridge regression of a room's next day on its last days, the outdoor temperature and the time of day: what anybody would try first."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks.accuracy.cases import PERFECT_WEATHER, Case
from benchmarks.accuracy.store import hash_of
from benchmarks.accuracy.yardsticks import error_quantiles
from edge_agent.contract.baseline import QUANTILE_LEVELS
from edge_agent.contract.localtime import DAY_S
from trainer.scores import Predictions

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

PAST_DAYS: Final = 2
PENALTIES: Final = (1.0, 10.0, 100.0, 1e3, 1e4)
HELD_OUT: Final = 0.2
"""Of the origins to train on, the last: they choose the penalty, and their errors make the quantiles."""


@dataclass(frozen=True)
class Ridge:
    """One regression for all lead times, fitted on the room's own first 80 %."""

    label: str = "ridge"
    kind: str = "peer"
    seed: int | None = None
    note: str = f"last {PAST_DAYS} days of room and outdoors, time of day; penalty chosen on the last fifth of the training span"

    def takes(self, case: Case) -> bool:
        """States only."""
        return not case.is_energy

    def identity(self, case: Case) -> dict[str, Any]:  # noqa: ARG002
        """The code alone."""
        return {"code": hash_of(Path(__file__))}

    def predict(self, case: Case) -> Predictions:
        """Its forecasts; with perfect weather it is told the outdoor temperature of the day ahead."""
        origins, horizon = _origins(case), case.horizon
        first = int(len(origins) * (1 - HELD_OUT))
        early, late = origins[: first - horizon], origins[first:]  # a day of embargo
        penalty = min(PENALTIES, key=lambda p: float(np.abs(_errors(case, early, late, p)).mean()))
        spread = error_quantiles(_errors(case, early, late, penalty), QUANTILE_LEVELS)
        spread -= spread[:, 4:5]  # the median is the point
        rows = (case.origins - case.series.start) // case.series.step_s
        mean = _forecast(case, origins, rows, penalty)
        return case.predictions(mean[:, :, None] + spread, mean, QUANTILE_LEVELS)


def _origins(case: Case) -> Ints:
    """Rows of the training span with whole days before and after."""
    per_day = DAY_S // case.series.step_s
    end = (case.train_end - case.series.start) // case.series.step_s
    return np.arange(PAST_DAYS * per_day, end - case.horizon + 1, dtype=np.int64)


def _errors(case: Case, early: Ints, late: Ints, penalty: float) -> Floats:
    values = _filled(case.values)
    return values[late[:, None] + np.arange(case.horizon)] - _forecast(case, early, late, penalty)


def _forecast(case: Case, train: Ints, asked: Ints, penalty: float) -> Floats:
    """At the rows `asked`, `(n, horizon)`, fitted at the rows `train`."""
    values = _filled(case.values)
    past, ahead = _features(case, train), _features(case, asked)
    centre, spread = past.mean(axis=0), np.maximum(past.std(axis=0), 1e-6)
    x = (past - centre) / spread
    y = values[train[:, None] + np.arange(case.horizon)] - values[train - 1, None]
    weights = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ (y - y.mean(axis=0)))
    return values[asked - 1, None] + y.mean(axis=0) + (ahead - centre) / spread @ weights


def _features(case: Case, rows: Ints) -> Floats:
    """Differences from the last hour, and the time of day, `(n, n_features)`."""
    per_day = DAY_S // case.series.step_s
    back = np.arange(2, PAST_DAYS * per_day + 1)
    outdoors = _outdoors(case)
    angle = 2 * np.pi * (rows % per_day) / per_day
    parts = [_since(values, rows, -back) for values in (_filled(case.values), outdoors)]
    parts.append(np.stack([f(k * angle) for k in (1, 2) for f in (np.sin, np.cos)], axis=1))
    if case.variant == PERFECT_WEATHER:
        parts.append(_since(outdoors, rows, np.arange(case.horizon)))
    return np.concatenate(parts, axis=1)


def _since(values: Floats, rows: Ints, offsets: Ints) -> Floats:
    """Values at `rows + offsets`, less the last before each row."""
    return values[rows[:, None] + offsets] - values[rows - 1, None]


def _outdoors(case: Case) -> Floats:
    columns = [i for i, feature in enumerate(case.series.features) if feature.role == "outdoor_temperature"]
    return _filled(np.nanmean(case.series.values[:, columns], axis=1))


def _filled(values: Floats) -> Floats:
    """Straight lines over gaps."""
    known = np.flatnonzero(np.isfinite(values))
    return np.interp(np.arange(len(values)), known, values[known])
