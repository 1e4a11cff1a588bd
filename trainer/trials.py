"""Which way of tuning a house is worth it: trials on forward-chaining folds, and a choice that at each fold knows only the folds before it.

Every held-out origin counts twice, and honestly both times: once at the gate, where what was chosen without it is compared with the base, and
afterwards among those that the final choice is made by (prequential evaluation: Dawid 1984).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from edge_agent.contract.calibration import Calibration, fit_calibration, publish
from edge_agent.contract.localtime import DAY_S
from trainer.baselines import actual_values
from trainer.evaluate import raw_outputs
from trainer.folds import Fold
from trainer.gate import Comparison, compare
from trainer.losses import Losses, losses_by_origin
from trainer.scores import Predictions, pinball_losses
from trainer.tuner import Recipe, Tuner, Weights
from trainer.windows import Windows

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

SHARES: Final = (0.0, 0.25, 0.5, 0.75, 1.0)
BATCH: Final = 256
SCORED: Final = 600
"""About as many origins of a fold are scored: neighbouring hours tell much the same."""
STRIDES: Final = (1, 5, 7, 11, 13, 17, 19, 23, 25, 29, 31, 35, 37, 41, 43, 47)
"""Distances of scored origins, in origins: coprime with 24, so that every hour of the day is met."""
CORRECTIONS: Final = {"base": 0.0, "blend": 0.5, "house": 1.0}
"""Share of the house's own correction, by what a calibration is called."""


@dataclass(frozen=True)
class Choice:
    """How the house's model is made."""

    recipe: Recipe
    levels: str
    """Calibration of the quantile levels: `base`, `house` or their `blend`."""
    totals: str
    """Calibration of the day's total: the same."""

    @property
    def is_base(self) -> bool:
        """Whether this is the base, unchanged."""
        return self.recipe.share == 0 and self.levels == self.totals == "base"


@dataclass(eq=False)
class Trials:
    """All trials of one house.

    Args:
        tuner: the base network, ready to be tuned.
        windows: everything before the test span.
        folds: at least two.
        calibration: the base's.
        trainings: learning rates and numbers of epochs to try, the gentlest first.
    """

    tuner: Tuner
    windows: Windows
    folds: Sequence[Fold]
    calibration: Calibration
    trainings: Sequence[tuple[float, int]]
    _tuned: dict[tuple[int, tuple[float, int]], Weights] = field(default_factory=dict)
    _losses: dict[tuple[int, Recipe], Losses] = field(default_factory=dict)
    _outputs: dict[tuple[int, Recipe], tuple[Floats, Floats]] = field(default_factory=dict)

    @property
    def recipes(self) -> list[Recipe]:
        """Every recipe on trial, the base first."""
        return [self.base, *(Recipe(rate, epochs, share) for rate, epochs in self.trainings for share in SHARES[1:])]

    @property
    def base(self) -> Recipe:
        """The base as it is."""
        return Recipe(*self.trainings[0], share=0.0)

    def run(self, number: int, *, on_batch: Callable[[int], None]) -> None:
        """Train and score everything on fold `number`."""
        for training in self.trainings:
            self._tuned[number, training] = self.tuner.train(self.windows, self.folds[number].train, training, on_batch=on_batch)
        for recipe in self.recipes:
            self._losses[number, recipe] = self._score(number, self._predict(number, recipe), self.calibration)

    def gain(self, number: int, recipe: Recipe) -> float:
        """Of a recipe over the base on fold `number`: 1 - CRPS / the base's."""
        own, base = (np.nanmean(self._losses[number, which].crps) for which in (recipe, self.base))
        return float(1.0 - own / base)

    def held_out(self, number: int) -> Windows:
        """The windows of fold `number` that are scored."""
        rows = self.folds[number].held_out
        stride = next((stride for stride in STRIDES if len(rows) <= SCORED * stride), STRIDES[-1])
        return self.windows.subset(rows[::stride])

    def losses(self, number: int, choice: Choice) -> Losses:
        """Of the model that `choice` makes, on fold `number`, with what a house calibration learns from the folds before it."""
        if choice.levels == choice.totals == "base":
            return self._losses[number, choice.recipe]
        return self._score(number, self._raw(number, choice.recipe), self.calibrated(choice, number))

    def choose(self, n_known: int) -> Choice:
        """The best by the first `n_known` folds, the base where none is certain to be better; the gentlest mixture when there is no fold yet."""
        if n_known == 0:
            return Choice(Recipe(*self.trainings[0], share=SHARES[1]), "base", "base")
        recipe = max(self.recipes, key=lambda recipe: self.certain_gain(recipe, n_known))
        return Choice(recipe, self._levels(recipe, n_known), self._totals(recipe, n_known))

    def calibrated(self, choice: Choice, n_known: int) -> Calibration:
        """The calibration of `choice`, whose house part is learnt on the first `n_known` folds."""
        house = self._house(choice.recipe, n_known)
        levels, totals = CORRECTIONS[choice.levels], CORRECTIONS[choice.totals]
        return Calibration(
            (1 - levels) * self.calibration.read_levels + levels * house.read_levels,
            (1 - totals) * self.calibration.total_ratio + totals * house.total_ratio,
            None,
            house.n_origins if levels or totals else self.calibration.n_origins,
        )

    def gate(self) -> dict[str, Comparison]:
        """The models chosen before each fold beside the base, on all folds together: CRPS and error of the day's total."""
        chosen = [self.losses(number, self.choose(number)) for number in range(len(self.folds))]
        bases = [self._losses[number, self.base] for number in range(len(self.folds))]
        origins = np.concatenate([losses.origins for losses in bases])
        return {
            name: compare(*(np.concatenate([getattr(losses, name) for losses in side]) for side in (chosen, bases)), origins)
            for name in ("crps", "total")
        }

    def certain_gain(self, recipe: Recipe, n_known: int) -> float:
        """The CRPS that a recipe gained over the base on the first `n_known` folds, less its standard error.

        The mean alone would choose a training that was lucky on one fold and spoils the next: firm trainings are good or bad by far more than gentle
        ones, and nearly always more uncertain.
        """
        own, base = (np.concatenate([self._losses[number, which].crps for number in range(n_known)]) for which in (recipe, self.base))
        found = compare(own, base, np.concatenate([self._losses[number, recipe].origins for number in range(n_known)]))
        return found.gain - found.error

    def _levels(self, recipe: Recipe, n_known: int) -> str:
        """The correction of the levels that was best on the folds after the first, each time learnt on those before."""

        def loss(levels: str) -> float:
            return float(np.nanmean(np.concatenate([self.losses(number, Choice(recipe, levels, "base")).crps for number in range(1, n_known)])))

        return min(CORRECTIONS, key=loss) if n_known > 1 else "base"

    def _totals(self, recipe: Recipe, n_known: int) -> str:
        """The same of the total's; the base's where no total is known."""

        def losses(totals: str) -> Floats:
            return np.concatenate([self._total_losses(number, Choice(recipe, "base", totals)) for number in range(1, n_known)])

        if n_known < 2 or not len(losses("base")):
            return "base"
        return min(CORRECTIONS, key=lambda totals: float(np.mean(losses(totals))))

    def _total_losses(self, number: int, choice: Choice) -> Floats:
        """Pinball losses of the total's quantiles on fold `number`, over the origins whose total is known."""
        held_out, (_, mean) = self.held_out(number), self._raw(number, choice.recipe)
        quantiles = mean.sum(axis=1, keepdims=True) * self.calibrated(choice, number).total_ratio
        actual = actual_values(held_out.builder, held_out.origins).sum(axis=1)
        known = np.isfinite(actual)
        return pinball_losses(quantiles[known], actual[known], self.windows.plan.quantile_levels).ravel()

    def _house(self, recipe: Recipe, n_known: int) -> Calibration:
        """The house's own correction, learnt on held-out forecasts of the first `n_known` folds."""
        parts = [(self.held_out(number), self._raw(number, recipe)) for number in range(n_known)]
        quantiles, mean = (np.concatenate([raw[i] for _, raw in parts]) for i in range(2))
        origins = np.concatenate([windows.origins for windows, _ in parts])
        actual = actual_values(self.windows.builder, origins)
        per_day = len(origins) / max(len(np.unique(origins // DAY_S)), 1)
        return fit_calibration(quantiles, mean, actual, self.windows.plan.quantile_levels, origins_per_day=per_day)

    def _raw(self, number: int, recipe: Recipe) -> tuple[Floats, Floats]:
        """What the network of `recipe` puts out on fold `number`."""
        if (number, recipe) not in self._outputs:
            self._outputs[number, recipe] = self._predict(number, recipe)
        return self._outputs[number, recipe]

    def _predict(self, number: int, recipe: Recipe) -> tuple[Floats, Floats]:
        self.tuner.put(self._tuned[number, recipe.training], recipe.share)
        quantiles, mean = raw_outputs(self.tuner.network.model, self.held_out(number), batch_size=BATCH)
        if quantiles is None:
            raise TypeError("a model of the mean alone cannot be fine-tuned")  # `read_start` lets none through
        return quantiles, mean

    def _score(self, number: int, raw: tuple[Floats, Floats], calibration: Calibration) -> Losses:
        windows = self.held_out(number)
        quantiles, mean = publish(*raw, calibration, windows.plan)
        actual = actual_values(windows.builder, windows.origins)
        return losses_by_origin(Predictions(windows.origins, windows.plan.step_s, windows.plan.quantile_levels, quantiles, mean, actual))
