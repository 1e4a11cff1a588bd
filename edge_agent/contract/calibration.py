"""Calibration: conformal correction of the quantile levels, learnt on origins that the model never saw.

For each block of lead times, the level at which the model's own distribution must be read so that the published level is met: split conformal
prediction on the probability scale (conformalized quantile regression after Romano, Patterson & Candes 2019; recalibration by the empirical
distribution of the PIT after Kuleshov, Fenner & Ermon 2018).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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
ENOUGH_DAYS: Final = 7.0
"""Independent days from which the band of a day's total is taken as it is."""
NEARLY_WHOLE: Final = 0.9
"""Share of a day's steps that must be known where whole days are too few: a counter that restarts at midnight leaves one step of each day unknown."""


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
    found = Calibration(read_levels.round(6), np.ones(len(levels)), None if residuals is None else residuals.round(6), n)
    steps = np.maximum(found.apply(quantiles, mean, levels), 0.0)
    total_ratio = _total_ratio(steps, mean, actual, levels, origins_per_day=origins_per_day)
    return replace(found, total_ratio=np.maximum(total_ratio, 0.0).round(6))


def _total_ratio(steps: Floats, mean: Floats, actual: Floats, levels: tuple[float, ...], *, origins_per_day: float) -> Floats:
    """Quantiles of actual / forecast total, `(n_levels,)`, over whole days, or nearly whole ones where those are too few.

    With fewer than ENOUGH_DAYS it leans towards `widest_ratio`.
    """
    for share in (1.0, NEARLY_WHOLE):
        ratio = _ratios(mean, actual, min_known=share)
        trust = min(len(ratio) / max(origins_per_day, 1.0) / ENOUGH_DAYS, 1.0)
        if trust == 1.0:
            return np.quantile(ratio, levels)
    widest = widest_ratio(steps, mean, levels)
    return trust * np.quantile(ratio, levels) + (1 - trust) * widest if len(ratio) else widest


def widest_ratio(quantiles: Floats, mean: Floats, levels: tuple[float, ...]) -> Floats:
    """Quantiles of a total over its forecast when no total is known: steps that are all high or all low together, around the forecast.

    Args:
        quantiles: published, of the steps, `(..., n_levels)`, not negative.
        mean: `(...)`.
        levels: ascending.

    Returns:
        `(n_levels,)`, ascending; 1 where nothing is forecast.
    """
    nominal, total = np.asarray(levels, float), float(mean.sum())
    ratio = quantiles.reshape(-1, len(nominal)).sum(axis=0) / total if total > 0 else np.ones(len(nominal))
    # the sum of medians is no median of the sum: energy is skewed, and would be forecast too low
    return np.where(nominal < 0.5, np.minimum(ratio, 1.0), np.where(nominal > 0.5, np.maximum(ratio, 1.0), 1.0))


def _ratios(mean: Floats, actual: Floats, *, min_known: float) -> Floats:
    """Actual / forecast sum over the known steps of each origin that has at least this share of them."""
    known = np.isfinite(actual)
    forecast = np.where(known, mean, 0.0).sum(axis=1)
    counts = (known.mean(axis=1) >= min_known) & (forecast > 0)
    ratios: Floats = np.where(known, actual, 0.0).sum(axis=1)[counts] / forecast[counts]
    return ratios


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
