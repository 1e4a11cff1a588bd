"""Keeps an absurd forecast back, and what is forecast when hardly anything is known."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from edge_agent.contract.localtime import DAY_S
from edge_agent.contract.schema import Sensor
from edge_agent.contract.series import Series

Floats = npt.NDArray[np.float64]

LOOK_BACK_DAYS: Final = 56
LEAST_DAYS: Final = 7
"""Days whose total must be known before a total can be called absurd."""
MOST_TIMES: Final = 3.0
"""The largest daily total that is still believed."""
LEAST_SHARE: Final = 0.1
"""Of the smallest one."""
WIDE_ENERGY: Final = ((0.1, 0.5, 0.9), (0.2, 1.0, 2.5))
"""Levels, and quantiles as multiples of the mean: a house uses far less than its mean at night, and far more at times."""
WIDE_STATE: Final = 0.05
"""Of the valid range, from the mean to p10 and p90."""


def absurdity(quantiles: Floats, mean: Floats, past: Series, sensor: Sensor, origin: int) -> str | None:
    """Why a forecast is not believed, in words; None where nothing speaks against it.

    Args:
        quantiles: `(horizon, n_levels)`, canonical unit (energy: Wh per step).
        mean: `(horizon,)`.
        past: holds the target's sensor, before the origin.
        sensor: the target's.
        origin: unix s.
    """
    is_energy, (low, high) = sensor.feature.kind == "energy", bounds(sensor, past.step_s)
    outlier = quantiles.max() if quantiles.max() > high else quantiles.min() if quantiles.min() < low else None
    if outlier is not None:
        scale, unit = (past.step_s / 3600, "W") if is_energy else (1.0, sensor.feature.unit)
        return f"it reaches {outlier / scale:.5g} {unit}, {sensor.name} measures {low / scale:g} to {high / scale:g}"
    return _absurd_total(float(mean[: DAY_S // past.step_s].sum()), _totals(past, sensor, origin)) if is_energy else None


def bounds(sensor: Sensor, step_s: int) -> tuple[float, float]:
    """What a step of the sensor can be, in the canonical unit."""
    return (0.0, sensor.high * step_s / 3600) if sensor.feature.kind == "energy" else (sensor.low, sensor.high)


def _absurd_total(total: float, totals: Floats) -> str | None:
    if len(totals) < LEAST_DAYS:
        return None
    if total > MOST_TIMES * totals.max():
        return f"it adds up to {total:.5g} Wh a day, the most in {len(totals)} days was {totals.max():.5g} Wh"
    if total < LEAST_SHARE * totals.min():
        return f"it adds up to {total:.5g} Wh a day, the least in {len(totals)} days was {totals.min():.5g} Wh"
    return None


def _totals(past: Series, sensor: Sensor, origin: int) -> Floats:
    """Totals of the spans of 24 hours before the origin that are known throughout, Wh."""
    values = past.between(origin - LOOK_BACK_DAYS * DAY_S, origin).select((sensor.name,)).values[:, 0]
    totals = values.reshape(LOOK_BACK_DAYS, -1).sum(axis=1)
    return np.asarray(totals[np.isfinite(totals)])


def last_resort(known: Floats, sensor: Sensor, *, step_s: int, horizon: int, levels: tuple[float, ...]) -> tuple[Floats, Floats]:
    """Quantiles `(horizon, n_levels)` and mean `(horizon,)` from a few known steps, `(1 or more,)`: their mean, with a wide band."""
    low, high = bounds(sensor, step_s)
    middle = min(max(float(known.mean()), low), high)
    if sensor.feature.kind == "energy":
        quantiles = middle * np.interp(levels, *WIDE_ENERGY)
    else:
        quantiles = middle + WIDE_STATE * (high - low) * (np.asarray(levels) - 0.5) / 0.4
    return np.tile(np.clip(quantiles, low, high), (horizon, 1)), np.full(horizon, middle)
