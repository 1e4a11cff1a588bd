"""What every peer's program shares: the case read from a file, gaps filled without a look ahead, quantiles from past errors. Needs numpy alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Forecasts = tuple[Floats, Floats]
"""Quantiles `(n_origins, horizon, n_levels)` and mean `(n_origins, horizon)`."""

WANTED_ERRORS = 200
"""Past errors that a quantile should rest on."""


@dataclass(frozen=True, eq=False)
class PeerCase:
    """One home's energy and the rows to forecast from."""

    energy: Floats
    """Wh in each step, `(n_steps,)`, NaN unknown."""
    wall_s: Ints
    """Local wall time of each step in s, `(n_steps + horizon,)`."""
    step_s: int
    horizon: int
    train_rows: int
    """A method may be fitted on the rows before this one."""
    origins: Ints
    """Rows of the first step forecast, `(n_origins,)`; nothing at or after an origin may be looked at."""
    past_origins: Ints
    """Rows in the training span whose errors may be learnt from."""
    levels: Floats
    homes: tuple[tuple[Floats, Ints], ...]
    """Energy of the training homes at this step and its wall time, for methods that are trained on those instead."""

    @property
    def day(self) -> int:
        """Steps in a day."""
        return 86_400 // self.step_s

    @property
    def filled(self) -> Floats:
        """The values, each gap filled from the same time a day before, or else a week, then zero: nothing later is looked at."""
        return filled(self.energy, self.day)

    def after(self, origins: Ints) -> Floats:
        """What happened, `(n_origins, horizon)`."""
        return self.energy[origins[:, None] + np.arange(self.horizon)]


def filled(values: Floats, day: int) -> Floats:
    """See `PeerCase.filled`."""
    out = values.copy()
    for row in np.flatnonzero(np.isnan(out)):
        out[row] = out[row - day] if row >= day else 0.0
    return out


def with_error_quantiles(case: PeerCase, points: Floats, past_points: Floats, past: Ints) -> Forecasts:
    """Quantiles of point forecasts from the errors of past ones at each lead time; from those around it too where past forecasts are few."""
    errors = case.after(past) - past_points
    around = min(WANTED_ERRORS // (2 * len(past)), case.horizon // 8)
    leads = np.arange(case.horizon)
    quantiles = [np.nanquantile(errors[:, max(lead - around, 0) : lead + around + 1], case.levels) for lead in leads]
    return points[:, :, None] + np.stack(quantiles), points


def run(forecast: Callable[[PeerCase, dict[str, Any]], Forecasts]) -> int:
    """A peer's command line: CASE.npz FORECASTS.npz SETTINGS."""
    given, found, settings = sys.argv[1:]
    with np.load(given) as data:
        homes = tuple((data[name], data[name.replace("home", "clock")]) for name in sorted(data.files) if name.startswith("home"))
        scalars = {name: int(data[name]) for name in ("step_s", "horizon", "train_rows")}
        arrays = {name: data[name] for name in ("energy", "wall_s", "origins", "past_origins", "levels")}
    quantiles, mean = forecast(PeerCase(**arrays, **scalars, homes=homes), json.loads(settings))
    with open(found, "wb") as file:  # noqa: PTH123
        np.savez(file, quantiles=quantiles.astype(np.float32), mean=mean.astype(np.float32))
    return 0
