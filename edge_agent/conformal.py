"""Bands that stay true: where a model's distribution is read is corrected day by day, by how often what happened stayed below each level.

Adaptive conformal inference (Gibbs & Candes 2021) on the probability scale: where too much stayed above a level's quantile, the level is read higher
from then on. Slowly for each level and block of lead times; quickly only in how wide the band is, because one day tells little about nine levels.
Model comparisons stay on the uncorrected quantiles, which are what is stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_agent.contract.calibration import N_BLOCKS, read_at
from edge_agent.contract.forecast import Forecast, Grade
from edge_agent.contract.localtime import DAY_S, day_bounds, local_date
from edge_agent.contract.schema import HouseSpec
from edge_agent.forecaster import CLIMATOLOGY, Forecaster
from edge_agent.history import History
from edge_agent.issued import issued_between
from edge_agent.keeping import Keeper
from edge_agent.plausibility import bounds

Floats = npt.NDArray[np.float64]

SLOW: Final = 0.01
"""How far a level moves, in one block, after a day on which everything fell on one side of it. Alone, what keeps the band true within a month (0.2)
costs 0.6 % of CRPS."""
FAST: Final = 0.3
"""How far the outer levels move apart, in all blocks, after a day on which everything fell outside them (the inner ones in proportion). Both were
chosen on other homes than those they are judged on (trainer/LOG.md)."""
MOST: Final = 0.3
"""Bound of an offset: a broken meter must not bend the bands without end."""
DAYS_AT_ONCE: Final = 7
"""Days looked at in one go: a new model may have weeks of forecasts from its time in shadow, and readings wait meanwhile."""


@dataclass(frozen=True, eq=False)
class Offsets:
    """By how much each level is read higher, in each block of lead times."""

    values: Floats
    """`(N_BLOCKS, n_levels)`; `levels + values` ascends along the levels."""
    levels: tuple[float, ...]
    least: float
    """What no quantile is below: 0 for energy."""
    most: float = np.inf
    """What none is above."""

    @classmethod
    def none(cls, levels: tuple[float, ...], *, least: float, most: float = np.inf) -> Offsets:
        """No correction."""
        return cls(np.zeros((N_BLOCKS, len(levels))), levels, least, most)

    def apply(self, quantiles: Floats) -> Floats:
        """Quantiles `(n, horizon, n_levels)`, ascending, read where the correction says."""
        wanted = (np.asarray(self.levels) + self.values)[_blocks(quantiles.shape[1])]
        return np.clip(np.maximum.accumulate(read_at(quantiles, self.levels, wanted), axis=-1), self.least, self.most)

    def after(self, quantiles: Floats, actual: Floats) -> Offsets:
        """The offsets after a day's forecasts whose steps have become known.

        Args:
            quantiles: uncorrected, `(n, horizon, n_levels)`.
            actual: `(n, horizon)`, NaN unknown.
        """
        levels, push = np.asarray(self.levels), self._push(self.apply(quantiles), actual)
        widening = (push.mean(axis=0)[-1] - push.mean(axis=0)[0]) / 2
        share = ((2 * levels - levels[0] - levels[-1]) / (levels[-1] - levels[0])) ** 3  # -1 for the lowest level, 1 for the highest, little between
        values = np.clip(self.values + SLOW * push + FAST * widening * share, -MOST, MOST)
        return replace(self, values=np.maximum.accumulate(levels + values, axis=-1) - levels)

    def _push(self, published: Floats, actual: Floats) -> Floats:
        """By what share of the steps each level was missed, `(N_BLOCKS, n_levels)`: positive where too much stayed above it."""
        levels, block = np.asarray(self.levels), _blocks(actual.shape[1])
        push = np.zeros(self.values.shape)
        for b in range(N_BLOCKS):
            known = np.isfinite(actual[:, block == b])
            if known.any():
                happened, read = actual[:, block == b][known][:, None], published[:, block == b][known]
                # any level between the shares below and not above is met: where a meter reads zero half the time nothing else is possible
                push[b] = levels - np.clip(levels, (happened < read).mean(axis=0), (happened <= read).mean(axis=0))
        return push


@dataclass(frozen=True, eq=False)
class Correction:
    """What has been learnt of one model's forecasts of one target, from those whose days have passed. Each day counts once."""

    target: str
    model: str
    """`Forecaster.model_id`."""
    offsets: Offsets
    """Those in force."""
    looked_until: date | None = None
    """The last day that was looked at, whether or not anything was known of it."""

    def continued(self, stored: Mapping[str, Any] | None) -> Correction:
        """With what was `stored`, where it is of the same model and levels."""
        if stored is None or (stored["model"], tuple(stored["levels"])) != (self.model, self.offsets.levels):
            return self
        looked = stored["looked_until"]
        offsets = replace(self.offsets, values=np.asarray(stored["offsets"], float))
        return replace(self, offsets=offsets, looked_until=None if looked is None else date.fromisoformat(looked))

    def to_json(self) -> dict[str, Any]:
        """What `continued` takes."""
        looked = None if self.looked_until is None else self.looked_until.isoformat()
        return {"model": self.model, "levels": self.offsets.levels, "offsets": self.offsets.values.tolist(), "looked_until": looked}

    def extended(self, history: History, house: HouseSpec, *, most_days: int) -> Correction:
        """After every further day whose forecasts have all come to their end, `most_days` of them at once.

        Raises:
            ServiceError: the history cannot be read.
        """
        last = history.last_closed()
        day = None if last is None else self._next_day(history, house, last)
        correction = self
        for _ in range(most_days):
            if last is None or day is None or day_bounds(day, house.zone)[1] + DAY_S > last + house.step_s:
                break
            correction = replace(correction, offsets=after_day(correction, history, house, day), looked_until=day)
            day += timedelta(days=1)
        return correction

    def _next_day(self, history: History, house: HouseSpec, last: int) -> date | None:
        today = local_date(last, house.zone)
        if self.looked_until is not None and self.looked_until >= today:
            return today - timedelta(days=1)  # the clock was ahead
        if self.looked_until is not None:
            return self.looked_until + timedelta(days=1)
        found = history.rows("SELECT min(origin) FROM issued WHERE target = ? AND model = ?", self.target, self.model)
        return None if found[0][0] is None else local_date(found[0][0], house.zone)


def after_day(correction: Correction, history: History, house: HouseSpec, day: date) -> Offsets:
    """The offsets after the forecasts with an origin on a local day."""
    start, end = day_bounds(day, house.zone)
    issued = issued_between(history, correction.target, start, end)
    by_origin = {f.origin: f for f in issued if f.model == correction.model and is_own(f.model, f.grade) and f.levels == correction.offsets.levels}
    if not by_origin:
        return correction.offsets
    horizon = max(len(f.mean) for f in by_origin.values())
    feature = house.sensor(house.target(correction.target).sensor).feature
    actual = history.series((feature,), start, end + horizon * house.step_s, house.step_s).values[:, 0]
    rows = [(origin - start) // house.step_s for origin in by_origin]
    happened = np.stack([actual[row : row + horizon] for row in rows])
    return correction.offsets.after(np.stack([f.quantiles for f in by_origin.values()]).astype(float), happened)


def is_own(model: str, grade: Grade) -> bool:
    """Whether the model itself made the forecast, and not the climatology in its place."""
    return grade != "baseline" or model == CLIMATOLOGY


class Bands:
    """The corrections of the forecasters at work: learnt once a day, kept in the history, applied to what is published."""

    def __init__(self, house: HouseSpec, keeper: Keeper) -> None:
        self.house, self.keeper = house, keeper
        self._corrections: dict[str, Correction] = {}
        """By target."""
        self._learnt: tuple[object, ...] | None = None
        """Of which day and models everything is learnt."""

    def learn_daily(self, forecasters: Sequence[Forecaster], end: int) -> None:
        """Learn from the days that have passed, when the local day of `end` (of the last closed step, unix s) or a model is a new one."""
        due = local_date(end, self.house.zone), *(forecaster.model_id for forecaster in forecasters)
        if due == self._learnt or not self.keeper.save():  # what is not on the disk cannot be looked at
            return
        learnt = [self._learn(forecaster) for forecaster in forecasters]
        if not any(learnt):
            self._learnt = due

    def _learn(self, forecaster: Forecaster) -> bool:
        """Whether anything was learnt: there may be more."""
        known = self._of(forecaster)
        extended = self.keeper.read(lambda history: known.extended(history, self.house, most_days=DAYS_AT_ONCE), known)
        if extended is known:
            return False
        self._corrections[forecaster.plan.target] = extended
        self.keeper.save_state(f"correction {forecaster.plan.target}", extended.to_json())
        return True

    def corrected(self, forecaster: Forecaster, forecast: Forecast) -> Forecast:
        """The forecast as it is published. The climatology in a model's place stays as it is."""
        if not is_own(forecaster.model_id, forecast.grade):
            return forecast
        return replace(forecast, quantiles=self._of(forecaster).offsets.apply(forecast.quantiles[None])[0])

    def _of(self, forecaster: Forecaster) -> Correction:
        target, model = forecaster.plan.target, forecaster.model_id
        if target not in self._corrections or self._corrections[target].model != model:
            stored = self.keeper.read(lambda history: history.state(f"correction {target}"), None)
            # read beyond the outer levels, a band could leave what the sensor measures: what is published must be as plausible as what the model says
            least, most = bounds(self.house.sensor(forecaster.target_sensor), self.house.step_s)
            none = Offsets.none(forecaster.plan.quantile_levels, least=least, most=most)
            self._corrections[target] = Correction(target, model, none).continued(stored)
        return self._corrections[target]


def _blocks(horizon: int) -> npt.NDArray[np.int64]:
    return np.arange(horizon) * N_BLOCKS // horizon
