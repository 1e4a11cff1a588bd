"""Calibration: conformal correction of the quantile levels, learnt on origins that the model never saw.

For each block of lead times, the level at which the model's own distribution must be read so that the published level is met: split conformal
prediction on the probability scale (conformalized quantile regression after Romano, Patterson & Candes 2019; recalibration by the empirical
distribution of the PIT after Kuleshov, Fenner & Ermon 2018).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_agent.contract.errors import ConfigError
from edge_agent.contract.plan import FeaturePlan

Floats = npt.NDArray[np.float64]

N_BLOCKS: Final = 8
"""Lead-time blocks of a day: three hours each."""
LOWEST, HIGHEST = -1.0, 2.0
"""Where reading ends: ten times the distance of two deciles beyond the first and last. Levels outside (0, 1) extend the model's own scale, because a
model that is sure of itself may leave more outcomes outside its outer quantiles than any level inside can answer for."""
SHRINK_ORIGINS: Final = 30.0
"""Weight of the nominal levels, in independent days: a correction learnt from few days is taken with care."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """How published quantiles follow from a model's output."""

    read_levels: Floats
    """`(n_blocks, n_levels)`, ascending: where to read the model's distribution for each published level."""
    total_ratio: Floats
    """`(n_levels,)`, ascending: quantiles of actual / forecast total over the horizon."""
    residuals: Floats | None
    """`(n_blocks, n_levels)` in the target's unit, for models that output a mean only: quantiles of actual - mean."""
    n_origins: int
    """Held-out origins it was learnt on."""

    def apply(self, quantiles: Floats | None, mean: Floats, levels: tuple[float, ...]) -> Floats:
        """Published quantiles.

        Args:
            quantiles: the model's, `(n, horizon, n_levels)`, ascending; None for a model that outputs a mean only.
            mean: the model's, `(n, horizon)`.
            levels: of both model and publication.

        Returns:
            `(n, horizon, n_levels)`, ascending along the last axis; not clipped at zero.
        """
        block = _blocks(mean.shape[1], len(self.read_levels))
        if quantiles is None:
            if self.residuals is None:
                raise ConfigError("a model that outputs a mean only needs residual quantiles in its calibration: fit it again")
            return mean[:, :, None] + self.residuals[block]
        return np.maximum.accumulate(read_at(quantiles, levels, self.read_levels[block]), axis=-1)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "read_levels": self.read_levels.tolist(),
            "total_ratio": self.total_ratio.tolist(),
            "residuals": None if self.residuals is None else self.residuals.tolist(),
            "n_origins": self.n_origins,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Calibration:
        """The inverse of `to_dict`.

        Raises:
            ConfigError: missing or unknown keys, wrong shapes, numbers that are not finite and ascending, levels far outside (0, 1).
        """
        try:
            levels, ratio, residuals, n_origins = (data[key] for key in ("read_levels", "total_ratio", "residuals", "n_origins"))
            tables = [np.asarray(levels, float), np.asarray([ratio], float), *([] if residuals is None else [np.asarray(residuals, float)])]
        except (KeyError, TypeError, ValueError, OverflowError) as err:
            raise ConfigError(f"calibration is not of the expected form ({err!r}): export the model again") from err
        if len(data) != 4 or type(n_origins) is not int or n_origins < 0:
            raise ConfigError("calibration has unknown keys or no number of origins: export the model again")
        if any(t.ndim != 2 or not t.size or t.shape[1] != tables[0].shape[1] or not np.isfinite(t).all() or (np.diff(t) < 0).any() for t in tables):
            raise ConfigError("calibration holds tables that do not fit together, or are not finite and ascending: export the model again")
        if (tables[0] < LOWEST).any() or (tables[0] > HIGHEST).any() or (tables[1] < 0).any():
            raise ConfigError(f"calibration reads levels outside [{LOWEST}, {HIGHEST}], or scales totals below zero: export the model again")
        return cls(tables[0], tables[1][0], None if residuals is None else tables[2], n_origins)


def publish(quantiles: Floats | None, mean: Floats, calibration: Calibration, plan: FeaturePlan) -> tuple[Floats, Floats]:
    """Published quantiles `(n, horizon, n_levels)` and mean `(n, horizon)` from a model's output: calibrated, ascending, energy never negative."""
    published = calibration.apply(quantiles, mean, plan.quantile_levels)
    if plan.unit == "Wh":
        return np.maximum(published, 0.0), np.maximum(mean, 0.0)
    return published, mean


def identity(levels: tuple[float, ...]) -> Calibration:
    """No correction at all."""
    return Calibration(np.asarray(levels, float)[None, :], np.ones(len(levels)), None, 0)


def fit_calibration(quantiles: Floats | None, mean: Floats, actual: Floats, levels: tuple[float, ...], *, origins_per_day: float) -> Calibration:
    """The correction learnt from held-out origins.

    Args:
        quantiles: the model's, `(n, horizon, n_levels)`; None for a model that outputs a mean only.
        mean: the model's, `(n, horizon)`.
        actual: what happened, `(n, horizon)`, NaN unknown.
        levels: the quantile levels, ascending.
        origins_per_day: how densely the origins lie; neighbours are not independent, and the correction is shrunk by the number of days.
    """
    n, horizon = mean.shape
    nominal = np.asarray(levels, float)
    days = n / max(origins_per_day, 1.0)
    trust = days / (days + SHRINK_ORIGINS)
    block = _blocks(horizon, N_BLOCKS)
    read_levels, residuals = np.tile(nominal, (N_BLOCKS, 1)), None
    if quantiles is None:
        residuals = np.stack([_quantiles_known(actual[:, block == b] - mean[:, block == b], levels, fallback=0.0) for b in range(N_BLOCKS)])
    else:
        stood_at = level_of(actual, quantiles, levels)
        for b in range(N_BLOCKS):
            learnt = _quantiles_known(stood_at[:, block == b], levels, fallback=np.nan)
            read_levels[b] = np.where(np.isnan(learnt), nominal, trust * learnt + (1 - trust) * nominal)
    totals = mean.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(totals > 0, actual.sum(axis=1) / totals, np.nan)
    total_ratio = np.maximum(_quantiles_known(ratio, levels, fallback=1.0), 0.0)
    return Calibration(read_levels.round(6), total_ratio.round(6), None if residuals is None else residuals.round(6), n)


def _blocks(horizon: int, n_blocks: int) -> npt.NDArray[np.int64]:
    """Block of each step of the horizon."""
    return np.arange(horizon) * n_blocks // horizon


def _quantiles_known(values: Floats, levels: tuple[float, ...], *, fallback: float) -> Floats:
    known = values[np.isfinite(values)]
    return np.quantile(known, levels) if known.size else np.full(len(levels), fallback)


def read_at(quantiles: Floats, levels: tuple[float, ...], wanted: Floats) -> Floats:
    """The distribution given by `quantiles` at other levels: linear between levels, extended linearly beyond the first and last.

    Args:
        quantiles: `(n, horizon, n_levels)`, ascending.
        levels: ascending.
        wanted: levels to read at, `(horizon, n_wanted)`.

    Returns:
        `(n, horizon, n_wanted)`.
    """
    nominal = np.asarray(levels, float)
    left = np.clip(np.searchsorted(nominal, wanted, side="right") - 1, 0, len(nominal) - 2)
    share = (wanted - nominal[left]) / (nominal[left + 1] - nominal[left])
    index = left + len(nominal) * np.arange(len(left))[:, None]
    flat = quantiles.reshape(len(quantiles), -1)  # one index for all origins: three times as fast as take_along_axis
    low, high = flat.take(index, axis=1), flat.take(index + 1, axis=1)
    read: Floats = low + share * (high - low)
    return read


def level_of(actual: Floats, quantiles: Floats, levels: tuple[float, ...]) -> Floats:
    """The level at which each actual value stands in its forecast distribution: the inverse of `read_at` (the probability integral transform).

    Args:
        actual: `(n, horizon)`, NaN unknown.
        quantiles: `(n, horizon, n_levels)`, ascending.
        levels: ascending.

    Returns:
        `(n, horizon)`, from LOWEST to HIGHEST: linear beyond the first and last level. Where several levels share one quantile and the value equals
        it, the middle of them.
    """
    nominal = np.asarray(levels, float)
    edges = np.concatenate([2 * quantiles[..., :1] - quantiles[..., 1:2], quantiles, 2 * quantiles[..., -1:] - quantiles[..., -2:-1]], axis=-1)
    ends = np.array([2 * nominal[0] - nominal[1], *nominal, 2 * nominal[-1] - nominal[-2]])
    above, width = actual[..., None] - edges[..., :-1], np.diff(edges, axis=-1)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        share = np.where(width > 0, above / width, 0.5 + 0.5 * np.sign(above))
    inner = np.r_[-np.inf, np.zeros(len(nominal))], np.r_[np.ones(len(nominal)), np.inf]  # only the outer two segments go on beyond their ends
    level = ends[0] + (np.clip(share, *inner) * np.diff(ends)).sum(axis=-1)
    return np.where(np.isnan(actual), np.nan, np.clip(level, LOWEST, HIGHEST))
