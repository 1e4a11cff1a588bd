"""Windows: origins of a series, split in time order, and the inputs and outcomes at any of them, gathered on demand and never stored.

A window is what a model reads before an origin and the horizon after it. Overlapping windows share nearly all their values: as arrays they would
take a thousand times the series' memory (accuracy notes: 1.8 GB for one house).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from edge_agent.contract.errors import ConfigError, DataError
from edge_agent.contract.features import FeatureBuilder, ModelInputs
from edge_agent.contract.localtime import DAY_S, iso_utc
from edge_agent.contract.plan import FeaturePlan
from edge_agent.contract.series import Series

Ints = npt.NDArray[np.int64]
Float32s = npt.NDArray[np.float32]

Gathered = tuple[dict[str, Float32s], Float32s]
"""Inputs by name, and what happened, `(n, horizon)`, target's unit, NaN unknown."""

TEST_SHARE: Final = 0.2
VALIDATION_SHARE: Final = 0.2
"""Of what lies before the test span."""
MIN_KNOWN_TARGET: Final = 0.5
"""An origin is used when at least this share of its horizon, and of its context, is known."""
SCORE_EVERY_S: Final = 3600
"""Origins that are scored and calibrated on: every full hour."""
FIRST_DAYS: Final = 7
ANCHOR_CHUNK: Final = 64


@dataclass(frozen=True, eq=False)
class Span:
    """A stretch of time and the origins whose horizons lie inside it."""

    start: int
    """Unix s of the first step that may be forecast."""
    end: int
    """Unix s after the last."""
    origins: Ints
    """Unix s, ascending."""


@dataclass(frozen=True, eq=False)
class Split:
    """Four spans in time order. Between the end of one and the start of the next lies an embargo of one horizon.

    Every step that is forecast belongs to one span only. What a model reads before an origin may reach back into an earlier span, as it does in life.
    """

    train: Span
    stopping: Span
    """Chooses the epoch."""
    calibration: Span
    """Corrects the quantile levels; neither trains nor chooses."""
    test: Span
    """The last fifth: scored once, at the end."""

    def to_dict(self) -> dict[str, dict[str, int]]:
        """JSON form: bounds in unix s and number of origins, by span."""
        return {name: {"start": s.start, "end": s.end, "origins": len(s.origins)} for name, s in vars(self).items()}


def split_origins(series: Series, plan: FeaturePlan, target: str, *, stride_s: int, validation_share: float = VALIDATION_SHARE) -> Split:
    """Origins for training, early stopping, calibration and test.

    Args:
        series: the house's history.
        plan: gives context and horizon.
        target: the target's sensor.
        stride_s: seconds between training and stopping origins (multiples of it in unix time); the other spans are asked every full hour.
        validation_share: share of the time before the test span that is held out, half for stopping and half for calibration.

    Raises:
        ConfigError: a stride that is no multiple of the series' step.
        DataError: too short a series, or too little of the target known.
    """
    test_row = _test_row(series)
    held_out = round(test_row * validation_share)
    rows = [0, test_row - held_out, test_row - held_out // 2, test_row, len(series)]
    spans = _spans(series, plan, target, rows=rows, strides=(stride_s, stride_s, SCORE_EVERY_S, SCORE_EVERY_S))
    empty = [name for name, span in zip(("training", "early stopping", "calibration", "test"), spans, strict=True) if not len(span.origins)]
    if empty:
        raise DataError(_too_short(series, plan, empty))
    return Split(*spans)


def tuning_spans(series: Series, plan: FeaturePlan, target: str, *, stride_s: int) -> tuple[Span, Span]:
    """All that lies before the test span as one span, which fine-tuning divides by itself, and the test span; either may hold no origin.

    The arguments are those of `split_origins`, and so is the test span.
    """
    before, test = _spans(series, plan, target, rows=[0, _test_row(series), len(series)], strides=(stride_s, SCORE_EVERY_S))
    return before, test


def _test_row(series: Series) -> int:
    return round(len(series) * (1 - TEST_SHARE))


def _spans(series: Series, plan: FeaturePlan, target: str, *, rows: Sequence[int], strides: Sequence[int]) -> list[Span]:
    """The spans between `rows`, with an embargo of a horizon between each and the next."""
    for stride in strides:
        if stride > series.step_s and stride % series.step_s:
            raise ConfigError(f"--stride-s {stride}: a multiple of the house's step of {series.step_s} s is expected")
    horizon_s = plan.horizon * series.step_s
    edges = [series.start + series.step_s * row for row in rows]
    edges[0] += plan.context_s
    known = _known_horizons(series, target, plan.horizon) & _known_contexts(series, target, plan.context_s // series.step_s)
    ends = (*(edge - horizon_s for edge in edges[1:-1]), edges[-1])
    return [
        Span(start, end, _origins(series, start, end - horizon_s, stride=max(stride, series.step_s), known=known))
        for start, end, stride in zip(edges[:-1], ends, strides, strict=True)
    ]


def _known_horizons(series: Series, target: str, horizon: int) -> npt.NDArray[np.bool_]:
    """Whether enough of the horizon after each row is known, `(n_steps,)`."""
    counts = np.concatenate([[0], np.cumsum(np.isfinite(series.column(target)))])
    ends = np.minimum(np.arange(len(series)) + horizon, len(series))
    known: npt.NDArray[np.bool_] = counts[ends] - counts[:-1] >= MIN_KNOWN_TARGET * horizon
    return known


def _known_contexts(series: Series, target: str, n_steps: int) -> npt.NDArray[np.bool_]:
    """Whether enough of the `n_steps` before each row is known, `(n_steps,)`: with less, the gateway does not ask the model."""
    counts = np.concatenate([[0], np.cumsum(np.isfinite(series.column(target)))])
    firsts = np.maximum(np.arange(len(series)) - n_steps, 0)
    known: npt.NDArray[np.bool_] = counts[:-1] - counts[firsts] >= MIN_KNOWN_TARGET * n_steps
    return known


def _origins(series: Series, first: int, last: int, *, stride: int, known: npt.NDArray[np.bool_]) -> Ints:
    """Multiples of `stride` in [first, last] that lie on the series and have a known horizon."""
    origins = np.arange(-(-first // stride) * stride, last + 1, stride, dtype=np.int64)
    return origins[known[(origins - series.start) // series.step_s]] if len(origins) else origins


def full_hours(series: Series, plan: FeaturePlan, target: str, *, start: int) -> Ints:
    """Every full hour from `start` (unix s) on whose windows are known and lie inside the series."""
    known = _known_horizons(series, target, plan.horizon) & _known_contexts(series, target, plan.context_s // series.step_s)
    first, last = max(start, series.start + plan.context_s), series.end - plan.horizon * series.step_s
    return _origins(series, first, last, stride=max(SCORE_EVERY_S, series.step_s), known=known)


def daily_origins(series: Series, plan: FeaturePlan, target: str, *, per_day: float, rng: np.random.Generator) -> Ints:
    """Full hours drawn at random, `per_day` of them on average, whose windows are known and lie inside the series.

    The first FIRST_DAYS are left out: a house's mean over fewer days says little.
    """
    first, last = series.start + FIRST_DAYS * DAY_S, series.end - plan.horizon * series.step_s
    hours = np.arange(-(-first // SCORE_EVERY_S), last // SCORE_EVERY_S + 1, dtype=np.int64)
    known = _known_horizons(series, target, plan.horizon) & _known_contexts(series, target, plan.context_s // series.step_s)
    hours = hours[known[(hours * SCORE_EVERY_S - series.start) // series.step_s]]
    wanted = min(round(per_day * SCORE_EVERY_S / DAY_S * len(hours)), len(hours))
    return np.sort(rng.choice(hours, wanted, replace=False)) * SCORE_EVERY_S


def _too_short(series: Series, plan: FeaturePlan, empty: list[str]) -> str:
    days = len(series) * series.step_s / DAY_S
    # the two held-out parts are 8 % of the series each, and each must hold a horizon and the embargo after it
    horizon_s = plan.horizon * plan.step_s
    needed = math.ceil(max(2.25 * horizon_s / 0.08, (plan.context_s + 3 * horizon_s) / 0.64) / DAY_S)
    return (
        f"no usable origin in the span for {', '.join(empty)}: the table covers {days:.1f} days, and at least "
        f"{needed} days with the target known for most of the time are expected; give more --data"
    )


class Windows:
    """Windows of one house at given origins."""

    at_once: Final = 1
    """Batches that are best gathered together."""

    def __init__(self, builder: FeatureBuilder, origins: Ints, *, name: str = "", on_progress: Callable[[int], None] | None = None) -> None:
        """Prepare; for anchored plans this computes the anchors, which takes about 3 ms an origin, once.

        Args:
            builder: computes inputs.
            origins: unix s, on the series' grid.
            name: of the home, for messages.
            on_progress: called with the number of anchors just made.
        """
        self.builder, self.origins, self.name = builder, origins, name
        self.plan = builder.plan
        self.rows = (origins - builder.series.start) // builder.series.step_s
        self.target = builder.target.astype(np.float32)
        self.anchors = _anchors(builder, origins, on_progress) if self.plan.anchored else None

    def __len__(self) -> int:
        return len(self.origins)

    def subset(self, picked: Ints) -> Windows:
        """The windows numbered `picked`, sharing all that is computed already."""
        part = copy(self)
        part.origins, part.rows = self.origins[picked], self.rows[picked]
        part.anchors = None if self.anchors is None else self.anchors[picked]
        return part

    def cut(self, order: Ints, batch_size: int) -> list[Ints]:
        """Batches of the windows numbered in `order`; the last may be smaller."""
        return [order[first : first + batch_size] for first in range(0, len(order), batch_size)]

    def gather(self, batches: Sequence[Ints]) -> list[Gathered]:
        """The windows of each batch."""
        return [(self.inputs(picked).arrays, self.actual(picked)) for picked in batches]

    def inputs(self, picked: Ints) -> ModelInputs:
        """Model inputs of the windows numbered `picked`."""
        return self.builder.inputs(self.origins[picked], None if self.anchors is None else self.anchors[picked])

    def describe(self, window: int) -> str:
        """Whose window this is, what it reads and forecasts, and the largest value in that."""
        origin, plan, series = int(self.origins[window]), self.plan, self.builder.series
        start, end = origin - plan.context_s, origin + plan.horizon * plan.step_s
        values = self.target[max((start - series.start) // series.step_s, 0) : (end - series.start) // series.step_s]
        largest = f"{np.nanmax(np.abs(values)):.4g} {plan.unit}" if np.isfinite(values).any() else "unknown"
        return f"{self.name or 'the house'} from {iso_utc(start)} to {iso_utc(end)} (forecast from {iso_utc(origin)}, largest value {largest})"

    def actual(self, picked: Ints) -> Float32s:
        """What happened, `(n, horizon)`, target's unit, NaN unknown."""
        rows = self.rows[picked, None] + np.arange(self.plan.horizon)
        actual: Float32s = np.where(rows < len(self.target), self.target[np.minimum(rows, len(self.target) - 1)], np.nan)
        return actual


def _anchors(builder: FeatureBuilder, origins: Ints, on_progress: Callable[[int], None] | None) -> Float32s:
    chunks = []
    for first in range(0, max(len(origins), 1), ANCHOR_CHUNK):
        chunks.append(builder.anchors(origins[first : first + ANCHOR_CHUNK]))
        if on_progress:
            on_progress(len(chunks[-1]))
    return np.concatenate(chunks)
