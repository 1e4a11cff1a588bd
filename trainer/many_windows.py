"""Windows of many homes at several steps: what a model over many homes is trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from edge_agent.contract.errors import DataError
from edge_agent.contract.features import MIN_SCALE_W, FeatureBuilder
from edge_agent.contract.plan import FeaturePlan
from edge_agent.contract.series import Series
from trainer.homes import Home
from trainer.weather_errors import training_weather
from trainer.windows import Gathered, Ints, Windows, daily_origins


class ManyWindows:
    """The windows of several `Windows`, numbered through; a batch holds windows of one step only, from any homes.

    A batch of 128 windows meets a hundred homes, and asking each for one window costs more than training on it. So many batches are gathered
    together: each home is asked once for all of its windows in them.
    """

    at_once: Final = 32

    def __init__(self, parts: Sequence[Windows]) -> None:
        """Take the parts together.

        Raises:
            DataError: there is no window at all.
        """
        self.parts = [part for part in parts if len(part)]
        if not self.parts:
            raise DataError("no usable window in these homes: at least a month with the target known for most of the time is expected of each")
        sizes = [len(part) for part in self.parts]
        self._part = np.repeat(np.arange(len(sizes)), sizes)
        self._first = np.cumsum([0, *sizes])
        self._step = np.array([part.plan.step_s for part in self.parts])[self._part]

    def __len__(self) -> int:
        return len(self._part)

    def by_step(self) -> dict[int, list[Windows]]:
        """The parts of each step, finest first."""
        steps = sorted({part.plan.step_s for part in self.parts})
        return {step_s: [part for part in self.parts if part.plan.step_s == step_s] for step_s in steps}

    def cut(self, order: Ints, batch_size: int) -> list[Ints]:
        """Batches of one step each, in the order in which their last window comes.

        The last batch of a step is filled up with windows of its first ones: XLA compiles each size anew.
        """
        batches = []
        for step_s in np.unique(self._step[order]):
            places = np.flatnonzero(self._step[order] == step_s)
            size = min(batch_size, len(places))
            places = np.resize(places, -(-len(places) // size) * size).reshape(-1, size)
            batches += [(int(rows.max()), i, order[rows]) for i, rows in enumerate(places)]
        return [picked for *_, picked in sorted(batches, key=lambda batch: batch[:2])]

    def gather(self, batches: Sequence[Ints]) -> list[Gathered]:
        """The windows of each batch."""
        out: dict[int, Gathered] = {}
        steps = [int(self._step[picked[0]]) for picked in batches]
        for step_s in set(steps):
            which = [i for i, step in enumerate(steps) if step == step_s]
            inputs, actual = self._gather(np.concatenate([batches[i] for i in which]))
            edges = np.cumsum([0, *(len(batches[i]) for i in which)])
            for i, first, last in zip(which, edges, edges[1:], strict=False):
                out[i] = {name: values[first:last] for name, values in inputs.items()}, actual[first:last]
        return [out[i] for i in range(len(batches))]

    def describe(self, window: int) -> str:
        """Whose window this is, and of what time."""
        part = int(self._part[window])
        windows = self.parts[part]
        return f"{windows.describe(int(window - self._first[part]))}, at steps of {windows.plan.step_s // 60} min"

    def _gather(self, picked: Ints) -> Gathered:
        """Windows of one step, in the order of `picked`."""
        by_part = np.argsort(self._part[picked], kind="stable")
        numbers, firsts = np.unique(self._part[picked[by_part]], return_index=True)
        groups = np.split(picked[by_part], firsts[1:])
        local = [(self.parts[part], group - self._first[part]) for part, group in zip(numbers, groups, strict=True)]
        inputs = [windows.inputs(mine).arrays for windows, mine in local]
        back = np.argsort(by_part)
        arrays = {name: np.concatenate([one[name] for one in inputs])[back] for name in inputs[0]}
        return arrays, np.concatenate([windows.actual(mine) for windows, mine in local])[back]


def windows_of(
    home: Home, series: Series, plan: FeaturePlan, *, per_day: float, rng: np.random.Generator, on_progress: Callable[[int], None] | None = None
) -> Windows:
    """Windows of one form of a home, `daily_origins` of it; none of a time when the home used nothing at all."""
    plan = plan.at_step(series.step_s)
    weather = training_weather(plan, series, seed=int(rng.integers(2**31))) if plan.weather else None
    builder = FeatureBuilder(plan, series, target=home.sensor, zone=home.house.zone, weather=weather)
    origins = daily_origins(series, plan, home.sensor, per_day=per_day, rng=rng)
    if len(origins):
        origins = origins[builder.scales(origins)[:, 0] > 1.01 * MIN_SCALE_W * plan.step_s / 3600]
    return Windows(builder, origins, name=home.name, on_progress=on_progress)
