"""Issued forecasts, whole: what scoring, online calibration and the choice between two models look back at."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edge_agent.contract.forecast import PUBLISHED_LEVELS, Forecast, Grade, Total
from edge_agent.history import History

Role = Literal["live", "shadow"]
"""Live: published. Shadow: by a model that is only compared."""


@dataclass(frozen=True, eq=False)
class IssuedForecast:
    """One forecast as it was issued, published or not."""

    target: str
    model: str
    """`Forecaster.model_id`: of the model that is answerable, also where the grade says that the climatology stood in."""
    role: Role
    origin: int
    """Unix s."""
    issued_at: float
    """Unix s."""
    step_s: int
    levels: tuple[float, ...]
    quantiles: npt.NDArray[np.float32]
    """`(horizon, n_levels)`, canonical unit (energy: Wh per step), without the correction of `conformal`."""
    mean: npt.NDArray[np.float32]
    """`(horizon,)`."""
    grade: Grade
    total: Total | None
    """Tomorrow's, as published; None for targets that do not add up."""
    published: npt.NDArray[np.float32] | None = None
    """p10, median and p90 as published, `(horizon, 3)`; None for what is only compared."""

    @classmethod
    def of(cls, forecast: Forecast, *, model: str, role: Role, published: Forecast | None = None) -> IssuedForecast:
        """What is stored of `forecast`, and of what was `published` of it."""
        return cls(
            target=forecast.target,
            model=model,
            role=role,
            origin=forecast.origin,
            issued_at=forecast.issued_at,
            step_s=forecast.step_s,
            levels=forecast.quantile_levels,
            quantiles=forecast.quantiles.astype(np.float32),
            mean=forecast.mean.astype(np.float32),
            grade=forecast.grade,
            total=forecast.totals.get("tomorrow"),
            published=None if published is None else np.stack([published.at_level(level) for level in PUBLISHED_LEVELS], axis=1).astype(np.float32),
        )


def add_issued(history: History, forecasts: Iterable[IssuedForecast]) -> None:
    """Store `forecasts`; one of the same target, origin, role and model is replaced. A power cut may take the last ones."""
    with history.transaction(synchronous="NORMAL") as db:
        db.executemany("INSERT OR REPLACE INTO issued VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", map(_row, forecasts))


def issued_between(history: History, target: str, start: int, end: int) -> list[IssuedForecast]:
    """Forecasts of `target`, live and shadow, with an origin in [start, end) (unix s), by origin."""
    query = "SELECT * FROM issued WHERE target = ? AND origin >= ? AND origin < ? ORDER BY origin, role, model"
    return [_forecast(row) for row in history.rows(query, target, start, end)]


def _row(forecast: IssuedForecast) -> tuple[Any, ...]:
    """In the order of the table's columns, which is that of the fields."""
    total = forecast.total
    return (
        forecast.target,
        forecast.model,
        forecast.role,
        forecast.origin,
        forecast.issued_at,
        forecast.step_s,
        json.dumps(forecast.levels),
        forecast.quantiles.astype("<f4").tobytes(),
        forecast.mean.astype("<f4").tobytes(),
        forecast.grade,
        None if total is None else json.dumps({**asdict(total), "date": total.date.isoformat()}),
        None if forecast.published is None else forecast.published.astype("<f4").tobytes(),
    )


def _forecast(row: tuple[Any, ...]) -> IssuedForecast:
    values: dict[str, Any] = dict(zip(IssuedForecast.__dataclass_fields__, row, strict=True))
    levels = tuple(json.loads(values["levels"]))
    quantiles = np.frombuffer(values["quantiles"], "<f4").reshape(-1, len(levels))
    total = None if values["total"] is None else _total(json.loads(values["total"]))
    mean, band = np.frombuffer(values["mean"], "<f4"), values["published"]
    published = None if band is None else np.frombuffer(band, "<f4").reshape(-1, len(PUBLISHED_LEVELS))
    return IssuedForecast(**{**values, "levels": levels, "quantiles": quantiles, "mean": mean, "total": total, "published": published})


def _total(stored: dict[str, Any]) -> Total:
    return replace(Total(**stored), date=date.fromisoformat(stored["date"]))
