"""What every forecast has to beat: the rolling climatology and the naive family, points with quantiles from their own past errors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks.accuracy.cases import Case
from benchmarks.accuracy.store import hash_of
from edge_agent.contract import baseline
from edge_agent.contract.features import FeatureBuilder
from edge_agent.contract.localtime import DAY_S
from edge_agent.forecaster import climatology_plan
from trainer import baselines
from trainer.scores import Predictions

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

CLIMATOLOGY: Final = baselines.CLIMATOLOGY
YESTERDAY: Final = baselines.LABELS["yesterday"]
CHANGE: Final = baselines.CHANGE
ROOM_NAIVE: Final = (baselines.LABELS["persistence"], YESTERDAY, CHANGE)
"""What a room's temperature and humidity are compared with: the best of them differs by room."""
RESIDUAL_EVERY_S: Final = 25 * 3600
"""Past origins whose errors give a point forecast its quantiles: another hour each day."""
BATCH: Final = 256


@dataclass(frozen=True)
class Yardstick:
    """A forecast without a model."""

    label: str
    kind: str = "yardstick"
    seed: int | None = None

    def takes(self, case: Case) -> bool:  # noqa: ARG002  every case has its yardsticks
        """Always."""
        return True

    def identity(self, case: Case) -> dict[str, Any]:  # noqa: ARG002
        """The code alone."""
        return {"code": hash_of(Path(baseline.__file__), Path(baselines.__file__), Path(__file__))}

    def predict(self, case: Case) -> Predictions:
        """Its forecasts; where a naive one knows nothing, the climatology's."""
        if case.days_seen is not None:
            return joined([self.predict(seen_at(case, i)) for i in range(len(case.origins))])
        tables = anchored(case, case.origins)
        if self.label in baselines.WITHOUT_MODEL:
            return tables[self.label]
        past = past_origins(case)
        earlier = _filled(anchored(case, past), self.label) if len(past) else None
        return with_past_errors(_filled(tables, self.label), earlier, is_energy=case.is_energy)


def anchored(case: Case, origins: Ints) -> dict[str, Predictions]:
    """Every yardstick's own forecast at `origins`."""
    plan = climatology_plan(case.spec, case.target)
    builder = FeatureBuilder(plan, case.series.select(plan.sensors(case.spec)), target=case.sensor, zone=case.spec.zone)
    parts = [baselines.baseline_predictions(builder, origins[i : i + BATCH]) for i in range(0, len(origins), BATCH)]
    tables = {label: joined([part[label] for part in parts]) for label in parts[0]}
    last, yesterday = tables[baselines.LABELS["persistence"]], tables[YESTERDAY]
    before = actual_before(builder, origins)
    moved = last.mean + yesterday.mean - before[:, None]  # yesterday's course from this hour on, begun at today's value
    levels = len(last.quantile_levels)
    tables[CHANGE] = replace(last, mean=moved, quantiles=np.repeat(moved[:, :, None], levels, axis=2))
    if np.array_equal(origins, case.origins):
        tables = {label: replace(p, actual=case.actual) for label, p in tables.items()}
    return tables


def actual_before(builder: FeatureBuilder, origins: Ints) -> Floats:
    """The target in the last step before yesterday's origin, `(n,)`."""
    rows = (origins - builder.series.start - DAY_S) // builder.plan.step_s - 1
    return np.where(rows >= 0, builder.target[np.maximum(rows, 0)], np.nan)


def past_origins(case: Case) -> Ints:
    """Origins in the first 80 %, two weeks in, whose errors may be learnt from; at most the last year's."""
    horizon_s = case.horizon * case.spec.step_s
    first = max(case.series.start + 14 * DAY_S, case.train_end - 365 * DAY_S)
    return np.arange(-(-first // 3600) * 3600, case.train_end - horizon_s + 1, RESIDUAL_EVERY_S, dtype=np.int64)


def _filled(tables: dict[str, Predictions], label: str) -> Predictions:
    own, climatology = tables[label], tables[CLIMATOLOGY]
    unknown = ~np.isfinite(own.mean)
    quantiles = np.where(unknown[:, :, None], climatology.quantiles, own.quantiles)
    return replace(own, mean=np.where(unknown, climatology.mean, own.mean), quantiles=quantiles)


def with_past_errors(points: Predictions, past: Predictions | None, *, is_energy: bool) -> Predictions:
    """Point forecasts with the quantiles of their past errors at each lead time around them; energy is never negative.

    Without past forecasts the quantiles are the points themselves.
    """
    if past is None:
        return points
    quantiles = points.mean[:, :, None] + error_quantiles(past.actual - past.mean, points.quantile_levels)
    return replace(points, quantiles=np.maximum(quantiles, 0.0) if is_energy else quantiles)


def error_quantiles(errors: Floats, levels: tuple[float, ...]) -> Floats:
    """Quantiles of past errors by lead time, `(horizon, n_levels)`, from errors `(n, horizon)`, NaN unknown."""
    return np.nanquantile(errors, levels, axis=0).T


def seen_at(case: Case, i: int) -> Case:
    """The case at one origin, with the days before it that may be looked at and no others."""
    assert case.days_seen is not None
    origin = int(case.origins[i])
    start, end = origin - case.days_seen * DAY_S, origin + case.horizon * case.spec.step_s
    series = case.series.between(start, end)
    return replace(case, series=series, origins=case.origins[i : i + 1], actual=case.actual[i : i + 1], train_end=start, days_seen=None)


def joined(parts: list[Predictions]) -> Predictions:
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in ("origins", "quantiles", "mean", "actual")}
    return replace(parts[0], **arrays)
