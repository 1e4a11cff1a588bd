"""The last weeks of closed steps, in memory: a forecast must not read 57 days from the disk every ten minutes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from edge_agent.contract.errors import DataError
from edge_agent.contract.localtime import DAY_S
from edge_agent.contract.schema import Feature
from edge_agent.contract.series import Series


class RecentSteps:
    """A window of closed steps that moves on; 28 sensors over 57 days of 10 minutes take 1.9 MB."""

    def __init__(self, features: tuple[Feature, ...], *, step_s: int, keep_s: int) -> None:
        """Begin empty.

        Args:
            features: the columns.
            step_s: the step in s.
            keep_s: seconds that must stay readable.
        """
        self.features, self.step_s = features, step_s
        self.keep_s = keep_s
        self._keep = keep_s // step_s
        self._column = {feature.name: i for i, feature in enumerate(features)}
        # with room for another day, so that the whole is moved once a day
        self._values = np.full((self._keep + max(DAY_S // step_s, 1), len(features)), np.nan)
        self._start = 0
        self._n = 0

    @property
    def end(self) -> int | None:
        """Unix s just after the newest step; None while there is none."""
        return self._start + self._n * self.step_s if self._n else None

    def load(self, series: Series) -> None:
        """Begin the empty window with the columns of `series`, or as much of their end as is kept; more calls with the same times add columns."""
        self._n = min(len(series), self._keep)
        self._start = series.end - self._n * self.step_s
        for column, feature in enumerate(series.features):
            self._values[: self._n, self._column[feature.name]] = series.values[len(series) - self._n :, column]

    def append(self, time: int, values: Mapping[str, float]) -> None:
        """Add the step that starts at `time` (unix s), from values by sensor; steps between it and the newest one become unknown.

        Raises:
            DataError: the step is not newer than the newest one.
        """
        if self.end is None:
            self._start = time
        row, rest = divmod(time - self._start, self.step_s)
        if rest or row < self._n:
            raise DataError(f"step {time} does not follow the last one ({self.end}): steps are closed in order")
        if row >= len(self._values):
            row = self._move(row)
        for name, column in self._column.items():
            self._values[row, column] = values.get(name, np.nan)
        self._n = row + 1

    def revise(self, time: int, name: str, value: float) -> None:
        """Change one value of a step that is kept; of another sensor or an older step, nothing."""
        row = (time - self._start) // self.step_s
        if name in self._column and 0 <= row < self._n:
            self._values[row, self._column[name]] = value

    def cut(self, time: int) -> None:
        """Forget the steps from `time` (unix s) on."""
        kept = min(max((time - self._start) // self.step_s, 0), self._n)
        self._values[kept : self._n] = np.nan
        self._n = kept

    def _move(self, row: int) -> int:
        """Make room for `row`; returns its new place."""
        shift = row + 1 - self._keep
        for first in range(0, self._n - shift, shift):  # bit by bit, because a copy of the whole would be as large again
            kept = self._values[first + shift : min(first + 2 * shift, self._n)]
            self._values[first : first + len(kept)] = kept
        self._values[max(self._n - shift, 0) :] = np.nan
        self._start += shift * self.step_s
        return row - shift

    def series(self) -> Series:
        """A view of what is kept: read it before the next `append`."""
        first = max(self._n - self._keep, 0)
        return Series(self._start + first * self.step_s, self.step_s, self.features, self._values[first : self._n])
