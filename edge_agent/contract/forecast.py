"""Forecast: quantiles of the next day, totals by local date, and the JSON form that controllers read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from edge_agent.contract.localtime import iso_local, iso_utc, utc_offset_s

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
    """Share of the day that the model covers; climatology fills the rest."""


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
        """The retained MQTT message (schema 1): see the design's MQTT section. `value` is the median."""
        low, middle, high = (self.at_level(level) for level in PUBLISHED_LEVELS)
        times = self.origin + self.step_s * np.arange(len(self.mean))
        return {**self._head(self.step_s), "forecast": self._rows(times, middle, low, high)}

    def to_hourly_payload(self) -> dict[str, Any]:
        """The same by full local hours, small enough for entity attributes. `value` is the mean energy (or state) of each hour within the horizon.

        An hour's band is the band of its steps added up: steps of one hour mostly rise and fall together. Where steps do not begin with the local
        hour (a zone off by half an hour, at a step of an hour) or the clock moves by half an hour, hours are counted on from the first one.
        """
        per_hour = 3600 // self.step_s
        to_full_hour = -(self.origin + utc_offset_s(self.origin, self.zone)) % 3600
        first = -(-to_full_hour // self.step_s) % per_hour
        count = (len(self.mean) - first) // per_hour

        def hourly(values: Floats) -> Floats:
            blocks = values[first : first + count * per_hour].reshape(count, per_hour)
            return np.asarray(blocks.sum(axis=1) if self.unit == "Wh" else blocks.mean(axis=1))

        middle, low, high = (hourly(values) for values in (self.mean, self.at_level(PUBLISHED_LEVELS[0]), self.at_level(PUBLISHED_LEVELS[-1])))
        times = self.origin + first * self.step_s + 3600 * np.arange(count)
        # the mean of a few tall steps can lie above their p90; the p90 of an hour of them does not lie below its mean
        return {**self._head(3600), "forecast": self._rows(times, middle, np.minimum(low, middle), np.maximum(high, middle))}

    def _rows(self, times: npt.NDArray[np.int64], middle: Floats, low: Floats, high: Floats) -> list[dict[str, Any]]:
        return [
            {"time": iso_local(int(t), self.zone), "value": _rounded(v), "p10": _rounded(a), "p90": _rounded(b)}
            for t, v, a, b in zip(times, middle, low, high, strict=True)
        ]

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
