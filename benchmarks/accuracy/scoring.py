"""Scores of each row over its seeds, beside the yardsticks at the same origins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks.accuracy.cases import Case, at_origins
from benchmarks.accuracy.store import Method, Result
from benchmarks.accuracy.yardsticks import CLIMATOLOGY, YESTERDAY
from trainer.scores import Predictions, pinball_losses, score, where_all_known

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

FIGURES: Final = ("mae", "rmse", "crps", "coverage", "total_mae", "crps_skill", "total_skill", "total_skill_yesterday", "mae_skill")

BLOCK_S: Final = 3 * 86_400
"""Origins of three days are drawn together."""
DRAWS: Final = 2000
CHANCE: Final = 0.05


@dataclass(frozen=True, eq=False)
class Row:
    """A method's forecasts of a case."""

    case: Case
    method: Method
    result: Result


@dataclass(frozen=True)
class Spread:
    """A figure over the seeds."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def half(self) -> float:
        """Half the range."""
        return (self.high - self.low) / 2


@dataclass(frozen=True, eq=False)
class Scored:
    """One row of a table."""

    label: str
    kind: str
    note: str
    figures: dict[str, Spread]
    """By name of FIGURES; skills are shares."""
    seconds: float
    """Training and forecasting, mean over the seeds."""
    origins: Ints
    """Unix s, `(n_origins,)`."""
    losses: Floats
    """CRPS of each origin, mean over the seeds, `(n_origins,)`; NaN where nothing is known."""

    def __getitem__(self, figure: str) -> Spread:
        return self.figures[figure]

    def to_json(self) -> dict[str, Any]:
        """JSON form, six digits; NaN as null."""
        figures = {name: {k: _short(v) for k, v in asdict(spread).items()} for name, spread in self.figures.items()}
        return {"label": self.label, "kind": self.kind, "seconds": round(self.seconds, 1), **figures}


def _short(value: float) -> float | None:
    return float(f"{value:.6g}") if np.isfinite(value) else None


def key_of(case: Case) -> tuple[str, str, str]:
    """What case this is, whatever its origins."""
    return case.home, case.target, case.variant


def scored(rows: Sequence[Row], yardsticks: dict[str, Predictions]) -> list[Scored]:
    """Rows of one case at the same origins, seeds of a label in one; `yardsticks` by label, at least at these origins."""
    by_label: dict[str, list[Row]] = {}
    for row in rows:
        by_label.setdefault(row.method.label, []).append(row)
    return [_one(label, members, yardsticks) for label, members in by_label.items()]


def _one(label: str, rows: list[Row], yardsticks: dict[str, Predictions]) -> Scored:
    figures = [figures_of(row.result.predictions, yardsticks) for row in rows]
    spreads = {}
    for name in FIGURES:
        values = np.array([f[name] for f in figures])
        spreads[name] = Spread(float(values.mean()), float(values.min()), float(values.max()), len(values))
    method, seconds = rows[0].method, float(np.mean([row.result.cpu_s for row in rows]))
    losses = np.mean([origin_losses(row.result.predictions) for row in rows], axis=0)
    return Scored(label, method.kind, getattr(method, "note", ""), spreads, seconds, rows[0].case.origins, losses)


def origin_losses(predictions: Predictions) -> Floats:
    """CRPS of each origin over its known steps, `(n_origins,)`; NaN where none is."""
    known = np.isfinite(predictions.actual)
    losses = np.zeros(predictions.actual.shape)
    losses[known] = 2 * pinball_losses(predictions.quantiles[known], predictions.actual[known], predictions.quantile_levels).mean(axis=1)
    counts = known.sum(axis=1)
    return np.where(counts > 0, losses.sum(axis=1) / np.maximum(counts, 1), np.nan)


def is_sure(first: Floats, second: Floats, origins: Ints) -> bool:
    """Whether it is more than chance that one of two methods has the lower CRPS, given each origin's `(n_origins,)`.

    The origins are cut into stretches of BLOCK_S, which are drawn anew (block bootstrap: neighbouring origins share most of their day); sure is what
    95 % of the draws agree on.
    """
    known = np.isfinite(first) & np.isfinite(second)
    _, block = np.unique(origins[known] // BLOCK_S, return_inverse=True)
    sums = np.bincount(block, weights=(first - second)[known])
    if len(sums) < 2:
        return False
    drawn = np.random.default_rng(0).choice(sums, (DRAWS, len(sums))).sum(axis=1)
    return max(float((drawn > 0).mean()), float((drawn < 0).mean())) >= 1 - CHANCE / 2


def figures_of(predictions: Predictions, yardsticks: dict[str, Predictions]) -> dict[str, float]:
    """All figures of one method, skills against the yardsticks on the same origins and steps."""
    beside = {label: at_origins(p, predictions.origins) for label, p in yardsticks.items()}
    common = where_all_known({"own": predictions, **beside})
    own, climatology = score(common["own"]), score(common[CLIMATOLOGY])
    yesterday = score(common[YESTERDAY]).total_mae if YESTERDAY in common else float("nan")
    return {
        **{name: getattr(own, name) for name in ("mae", "rmse", "crps", "coverage", "total_mae")},
        "crps_skill": 1 - own.crps / climatology.crps,
        "total_skill": 1 - own.total_mae / climatology.total_mae,
        "total_skill_yesterday": 1 - own.total_mae / yesterday,
        "mae_skill": 1 - own.mae / climatology.mae,
    }
