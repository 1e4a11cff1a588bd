"""Rolling origins of one home: a bundle beside everything it has to beat, with no sight past any origin."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from edge_agent.contract.errors import ConfigError
from edge_agent.contract.schema import HouseSpec
from edge_agent.contract.series import Series
from edge_agent.forecaster import Forecaster
from trainer.rolling import Home, Weather, forecasts
from trainer.scores import Predictions, Scores, concatenated, score, where_all_known

Ints = npt.NDArray[np.int64]

TEST_SHARE: Final = 0.2


@dataclass(frozen=True, eq=False)
class Backtest:
    """A model's forecasts at many origins, and the baselines' at the same, whole: for many homes take `workers.cards`, which keeps sums."""

    model: str
    house: HouseSpec
    unit: str
    predictions: dict[str, Predictions]
    """By label; the model's first, the rolling climatology's last."""
    grades: dict[str, int]
    """Origins by grade: where the inputs do not allow the model, its row is the climatology's forecast, as on the gateway."""

    @property
    def of_model(self) -> Predictions:
        """The model's own."""
        return self.predictions[self.model]

    def scores(self) -> dict[str, Scores]:
        """Scores by label, all on the same steps."""
        return {label: score(p) for label, p in where_all_known(self.predictions).items()}


def backtest(forecaster: Forecaster, series: Series, origins: Ints, *, weather: Weather | None = None) -> Backtest:
    """Forecasts of the model and the baselines at `origins` (unix s, on the series' grid).

    Raises:
        DataError: no origins.
    """
    home = Home(forecaster, series, origins, weather)
    parts = list(forecasts([home]))
    predictions = {label: concatenated([part.predictions[label] for part in parts]) for label in parts[0].predictions}
    grades = Counter(str(grade) for part in parts for grade in part.grades)
    return Backtest(home.method, forecaster.house, forecaster.plan.unit, predictions, dict(grades))


def choose_origins(series: Series, horizon_s: int, *, start: int | None, end: int | None, every_s: int) -> Ints:
    """Origins at full multiples of `every_s` (UTC) in [start, end - horizon]; by default in the last 20 % of the series.

    Raises:
        ConfigError: `every_s` is no multiple of the step.
    """
    if every_s % series.step_s:
        raise ConfigError(f"--every: {every_s} s is no multiple of the house's step of {series.step_s} s")
    first = series.start + int(len(series) * (1 - TEST_SHARE)) * series.step_s if start is None else max(start, series.start)
    last = min(series.end if end is None else end, series.end) - horizon_s
    return np.arange(-(-first // every_s) * every_s, last + 1, every_s, dtype=np.int64)
