"""The gate: a challenger replaces what is there only where it was better on origins that neither has seen, by more than chance explains."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_agent.contract.localtime import DAY_S

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

BLOCK_DAYS: Final = 7
"""Days drawn together: forecasts of neighbouring days share their history, and a week is what habits repeat in."""
N_DRAWS: Final = 1000
MIN_DAYS: Final = 14
"""With fewer days there is no telling what chance explains."""

LEAST_GAIN: Final = 0.001
"""A model that is better by less is not worth the change."""


@dataclass(frozen=True)
class Comparison:
    """A challenger's mean loss beside a champion's, on the same origins."""

    gain: float
    """1 - challenger / champion."""
    error: float
    """Standard error of the gain, by a paired block bootstrap over days."""
    days: int
    """Days with an origin."""

    @property
    def is_won(self) -> bool:
        """Whether the challenger is better, by more than one standard error."""
        return self.days >= MIN_DAYS and self.gain > max(self.error, LEAST_GAIN)

    @property
    def is_lost(self) -> bool:
        """Whether the challenger is worse, by more than one standard error."""
        return self.days >= MIN_DAYS and self.gain < -max(self.error, LEAST_GAIN)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {**asdict(self), "won": self.is_won}


def compare(challenger: Floats, champion: Floats, origins: Ints, *, seed: int = 0) -> Comparison:
    """The challenger's losses beside the champion's.

    The error is that of a circular block bootstrap (Politis and Romano 1992): weeks of days are drawn, and with each day both losses of all of its
    origins, so that what makes a day hard for both cancels.

    Args:
        challenger: losses by origin, `(n,)`, not negative, NaN unknown.
        champion: the same of what there is.
        origins: unix s, `(n,)`, ascending.
        seed: of the draws.
    """
    known = np.isfinite(challenger) & np.isfinite(champion)
    _, day = np.unique(origins[known] // DAY_S, return_inverse=True)
    by_day = np.stack([np.bincount(day, weights=losses[known]) for losses in (challenger, champion)])
    days = by_day.shape[1]
    if not days or not by_day[1].sum() > 0:
        return Comparison(0.0, 0.0, days)
    block = min(BLOCK_DAYS, max(days // 4, 1))
    firsts = np.random.default_rng(seed).integers(0, days, (N_DRAWS, -(-days // block)))
    drawn = ((firsts[:, :, None] + np.arange(block)) % days).reshape(N_DRAWS, -1)[:, :days]
    challengers, champions = by_day[:, drawn].sum(axis=2)
    gains = 1.0 - challengers / np.where(champions > 0, champions, np.inf)
    return Comparison(float(1.0 - by_day[0].sum() / by_day[1].sum()), float(gains.std(ddof=1)), days)
