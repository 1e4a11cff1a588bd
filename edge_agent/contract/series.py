"""Series: a regular UTC grid where NaN means unknown; resampling that conserves energy."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from edge_agent.contract.errors import DataError, closest
from edge_agent.contract.schema import Feature

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MIN_KNOWN_SHARE = 0.5
"""A resampled state is known when at least this share of its interval is; energy needs all of it, because a sum over a part is too small."""


@dataclass(frozen=True, eq=False)
class Series:
    """Sensor values on a regular UTC grid; a value stamped t covers [t, t + step)."""

    start: int
    """Unix seconds of the first step."""
    step_s: int
    features: tuple[Feature, ...]
    values: Floats
    """`(n_steps, n_features)`, canonical units (energy: Wh in the step), NaN unknown."""

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.values.shape[1] != len(self.features):
            raise DataError(f"series values have shape {self.values.shape}: (n_steps, {len(self.features)}) is expected")
        if self.start % self.step_s:
            raise DataError(f"series starts at {self.start}, which is not on its grid of {self.step_s} s")

    def __len__(self) -> int:
        return len(self.values)

    @property
    def end(self) -> int:
        """Unix seconds just after the last step."""
        return self.start + len(self) * self.step_s

    @property
    def times(self) -> Ints:
        """Unix seconds of every step's start."""
        return self.start + self.step_s * np.arange(len(self), dtype=np.int64)

    @property
    def names(self) -> tuple[str, ...]:
        """Column names, in order."""
        return tuple(f.name for f in self.features)

    def index(self, time: int) -> int:
        """Row of the step that starts at `time`; may lie outside the series.

        Raises:
            DataError: `time` is not on the grid.
        """
        row, rest = divmod(time - self.start, self.step_s)
        if rest:
            raise DataError(f"time {time} is not on the grid of {self.step_s} s: give a multiple of the step")
        return row

    def position(self, name: str) -> int:
        """Column number of feature `name`.

        Raises:
            DataError: there is none.
        """
        try:
            return self.names.index(name)
        except ValueError:
            raise DataError(f"series has no feature {name!r}: {closest(name, self.names)}") from None

    def column(self, name: str) -> Floats:
        """Values of one feature, `(n_steps,)`."""
        return self.values[:, self.position(name)]

    def select(self, names: tuple[str, ...]) -> Series:
        """The same grid with just the features `names`, in that order; shares its values when these are all."""
        if names == self.names:
            return self
        columns = [self.position(name) for name in names]
        return replace(self, features=tuple(self.features[c] for c in columns), values=self.values[:, columns])

    def between(self, start: int, end: int) -> Series:
        """The steps in [start, end), padded with NaN where the series has none."""
        first, last = self.index(start), self.index(end)
        if 0 <= first <= last <= len(self):
            return replace(self, start=start, values=self.values[first:last])
        values = np.full((max(last - first, 0), len(self.features)), np.nan)
        low, high = max(first, 0), min(last, len(self))
        if low < high:
            values[low - first : high - first] = self.values[low:high]
        return replace(self, start=start, values=values)

    def resample(self, step_s: int) -> Series:
        """The series on another step: energy summed or spread evenly, states averaged by time or repeated.

        A partial interval at either end is unknown. Energy of an interval is known when all of it is; a state when at least half is.
        """
        if step_s == self.step_s:
            return self
        start = self.start // step_s * step_s
        edges = np.arange(start, -(-self.end // step_s) * step_s + 1, step_s, dtype=np.int64)
        means, known = Cumulative(self).means(edges)
        energy = np.array([f.kind == "energy" for f in self.features])
        enough = known >= np.where(energy, 1.0, MIN_KNOWN_SHARE) - 1e-9  # shares of steps that do not nest are not exact
        values = np.where(enough, means * np.where(energy, step_s / self.step_s, 1.0), np.nan)
        return Series(start, step_s, self.features, values)


class Cumulative:
    """Running integrals of a series, from which means over any intervals follow at once."""

    def __init__(self, series: Series) -> None:
        self.start, self.step_s, self.n = series.start, series.step_s, len(series)
        known = np.isfinite(series.values)
        zeros = np.zeros((1, series.values.shape[1]))
        self.known = np.concatenate([zeros, np.cumsum(known, axis=0)])
        self.total = np.concatenate([zeros, np.cumsum(np.where(known, series.values, 0.0), axis=0)])

    def means(self, edges: Ints, columns: slice | list[int] = slice(None)) -> tuple[Floats, Floats]:
        """Mean value per source step, and known share, of each interval between consecutive `edges`.

        Args:
            edges: unix seconds, ascending along the last axis, `(..., n + 1)`.
            columns: which features.

        Returns:
            `(..., n, n_features)` each; a mean over nothing is NaN. Where the edges lie on the grid, the result is exact; else a step is taken as
            evenly spread.
        """
        position = np.clip((edges - self.start) / self.step_s, 0, self.n)
        low = np.minimum(position.astype(np.int64), max(self.n - 1, 0))
        share = (position - low)[..., None]
        total, known = self.total[:, columns], self.known[:, columns]
        high = np.minimum(low + 1, self.n)
        totals = np.diff(total[low] + share * (total[high] - total[low]), axis=-2)
        counts = np.diff(known[low] + share * (known[high] - known[low]), axis=-2)
        width = np.diff(edges, axis=-1)[..., None] / self.step_s
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(counts > 1e-9, totals / counts, np.nan), counts / width


def time_weighted_means(times: Floats, values: Floats, *, start: int, step_s: int, n_steps: int, hold_s: float) -> Floats:
    """Means over regular steps of readings that came at irregular times.

    A reading holds until the next one, at most `hold_s`. A step is known when readings cover at least half of it.

    Args:
        times: unix s of the readings, ascending, `(n,)`.
        values: the readings, `(n,)`.
        start: unix s of the first step.
        step_s: length of a step.
        n_steps: number of steps.
        hold_s: how long a reading stays true when no other follows.

    Returns:
        `(n_steps,)`, NaN unknown.
    """
    if len(times) == 0 or n_steps == 0:
        return np.full(n_steps, np.nan)
    ends = np.minimum(np.append(times[1:], np.inf), times + hold_s)
    # The integrals of value and of coverage are piecewise linear in time: sample them at the steps' edges.
    knots = np.stack([times, ends], axis=1).ravel()
    widths = ends - times
    covered = np.cumsum(np.stack([np.zeros(len(times)), widths], axis=1).ravel())
    integral = np.cumsum(np.stack([np.zeros(len(times)), widths * values], axis=1).ravel())
    edges = start + step_s * np.arange(n_steps + 1, dtype=np.float64)
    seconds = np.diff(np.interp(edges, knots, covered))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(seconds >= MIN_KNOWN_SHARE * step_s, np.diff(np.interp(edges, knots, integral)) / seconds, np.nan)
