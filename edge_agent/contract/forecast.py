"""Forecast: quantiles of the next day, totals by local date, and the JSON form that controllers read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from edge_agent.contract.localtime import iso_local, iso_utc

Floats = npt.NDArray[np.float64]
Grade = Literal["full", "masked", "baseline"]

SCHEMA: Final = 1
PUBLISHED_LEVELS: Final = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class Total:
    """Energy of one local day, in the target's unit."""

    date: date
    value: float
    p10: float
    p90: float
    model_share: float
    """Share of the day's forecast part that the model covers; climatology fills the rest."""


@dataclass(frozen=True, eq=False)
class Forecast:
    """One issued forecast of one target."""

    site: str
    target: str
    unit: str
    issued_at: int
    """Unix s."""
    origin: int
    """Unix s: start of the first step forecast."""
    step_s: int
    quantile_levels: tuple[float, ...]
    quantiles: Floats
    """`(horizon, n_levels)`, target's unit (energy: Wh per step), ascending along the last axis."""
    mean: Floats
    """`(horizon,)`."""
    grade: Grade
    reasons: tuple[str, ...]
    model: dict[str, str]
    """`name` and `version`."""
    totals: dict[str, Total]
    """By name, `tomorrow`; empty for targets that do not add up."""
    zone: ZoneInfo

    def at_level(self, level: float) -> Floats:
        """The quantile at a published level, `(horizon,)`."""
        return self.quantiles[:, int(np.argmin(np.abs(np.asarray(self.quantile_levels) - level)))]

    def to_payload(self) -> dict[str, Any]:
        """The retained MQTT message (schema 1): see the design's MQTT section."""
        low, middle, high = (self.at_level(level) for level in PUBLISHED_LEVELS)
        times = self.origin + self.step_s * np.arange(len(self.mean))
        return {
            **self._head(self.step_s),
            "forecast": [
                {"time": iso_local(int(t), self.zone), "value": _rounded(v), "p10": _rounded(a), "p90": _rounded(b)}
                for t, v, a, b in zip(times, middle, low, high, strict=True)
            ],
        }

    def to_hourly_payload(self) -> dict[str, Any]:
        """The same by full local hours, small enough for entity attributes: mean energy (or mean state) of each hour that begins within the horizon.

        An hour's band is the band of its mean step scaled to the hour: steps of one hour mostly rise and fall together.
        """
        per_hour = 3600 // self.step_s
        low, _, high = (self.at_level(level) for level in PUBLISHED_LEVELS)
        first = -(self.origin // self.step_s) % per_hour
        count = (len(self.mean) - first) // per_hour
        adds_up = bool(self.totals)

        def hourly(values: Floats) -> Floats:
            blocks = values[first : first + count * per_hour].reshape(count, per_hour)
            return np.asarray(blocks.sum(axis=1) if adds_up else blocks.mean(axis=1))

        times = self.origin + first * self.step_s + 3600 * np.arange(count)
        rows = zip(times, hourly(self.mean), hourly(low), hourly(high), strict=True)
        return {
            **self._head(3600),
            "forecast": [{"time": iso_local(int(t), self.zone), "value": _rounded(v), "p10": _rounded(a), "p90": _rounded(b)} for t, v, a, b in rows],
        }

    def _head(self, step_s: int) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "site": self.site,
            "target": self.target,
            "unit": self.unit,
            "issued_at": iso_utc(self.issued_at),
            "origin": iso_utc(self.origin),
            "step_s": step_s,
            "grade": self.grade,
            "reasons": list(self.reasons),
            "model": self.model,
            "quantile_levels": list(PUBLISHED_LEVELS),
            "totals": {
                name: {
                    "date": t.date.isoformat(),
                    "value": _rounded(t.value),
                    "p10": _rounded(t.p10),
                    "p90": _rounded(t.p90),
                    "model_share": round(t.model_share, 3),
                }
                for name, t in self.totals.items()
            },
        }


def _rounded(value: float) -> float:
    """Six significant digits: enough to tell any two forecasts apart, short enough for small controllers."""
    return float(f"{value:.6g}")
