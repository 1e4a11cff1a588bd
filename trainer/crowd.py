"""Many homes taken together: pooled in units of each home's own mean, and spread from the worst to the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any, Final

import numpy as np

from edge_agent.contract.features import MIN_SCALE_W
from trainer.baselines import CLIMATOLOGY, YESTERDAY, yardstick
from trainer.scorecard import Card, finite, scores_json
from trainer.scores import Scores, skill
from trainer.seen import Seen, together
from trainer.tally import Tally

FIGURES: Final[dict[str, tuple[str, str | None]]] = {
    "CRPS skill": ("crps", None),
    "day skill": ("total_mae", None),
    "day skill over yesterday": ("total_mae", YESTERDAY),
}
"""Error and baseline of each skill; None: the yardstick."""
QUARTILES: Final = ("worst", "lower quartile", "median", "upper quartile", "best")


@dataclass(frozen=True, eq=False)
class Pool:
    """Homes whose values can be taken together: one model, one unit, one step."""

    method: str
    """Label of the model."""
    unit: str
    """Of the homes' own scores."""
    step_s: int
    cards: Sequence[Card]
    tallies: dict[str, Tally]
    """By label; energy in units of each home's mean per step, states as they are."""

    @property
    def is_relative(self) -> bool:
        """Whether errors are shares of each home's mean."""
        return self.unit == "Wh"

    def scores(self) -> dict[str, Scores]:
        """Scores by label over all values of all homes."""
        return {label: tally.whole() for label, tally in self.tallies.items()}

    @property
    def seen(self) -> Seen:
        """Days of all homes together, and those of them that the model has looked at before."""
        return together(card.seen for card in self.cards)

    @property
    def seen_note(self) -> str:
        """Of the latter; empty when there are none."""
        return self.seen.note(f"{sum(card.seen.n_seen > 0 for card in self.cards)} of the {len(self.cards)} homes")

    def spreads(self) -> dict[str, Spread]:
        """How each of FIGURES differs from home to home."""
        return {name: spread({card.name: gain(card, *figure) for card in self.cards}) for name, figure in FIGURES.items()}


@dataclass(frozen=True)
class Spread:
    """One figure over homes; more is better."""

    quartiles: tuple[float, ...]
    """In the order of QUARTILES."""
    worst_home: str
    """Its name; empty when the figure is known of none."""
    best_home: str
    n_homes: int
    """Homes of which the figure is known."""
    n_positive: int
    """Those of them with a gain."""


def pools(cards: Sequence[Card]) -> list[Pool]:
    """The homes by model, unit and step."""

    def kind(card: Card) -> tuple[str, str, int]:
        return card.method, card.unit, card.step_s

    return [_pool(*key, list(group)) for key, group in groupby(sorted(cards, key=kind), kind)]


def _pool(method: str, unit: str, step_s: int, cards: list[Card]) -> Pool:
    sums: dict[str, Tally] = {}
    for card in cards:
        for label, tally in card.tallies.items():
            scaled = tally.scaled(1.0 / level(card)) if card.adds_up else tally
            sums[label] = sums[label] + scaled if label in sums else scaled
    return Pool(method, unit, step_s, cards, sums)


def level(card: Card) -> float:
    """Mean energy of a step in Wh over what is scored; never below what 1 W makes, as in the features."""
    return max(card.tallies[CLIMATOLOGY].mean_actual, MIN_SCALE_W * card.step_s / 3600)


def gain(card: Card, error: str, baseline: str | None = None) -> float:
    """Skill of a home's model in one error, over a baseline or, by default, over its yardstick."""
    scores = card.scores()
    return skill(scores[card.method], scores[baseline or yardstick(scores)])[error]


def spread(values: dict[str, float]) -> Spread:
    """Quartiles and both ends by name; homes of which the figure is unknown (NaN) are left out."""
    known = {name: value for name, value in values.items() if np.isfinite(value)}
    if not known:
        return Spread((float("nan"),) * len(QUARTILES), "", "", 0, 0)
    numbers = np.array(list(known.values()))
    quartiles = np.quantile(numbers, np.linspace(0.0, 1.0, len(QUARTILES)))
    ends = (pick(known, key=lambda name: known[name]) for pick in (min, max))
    return Spread(tuple(quartiles.tolist()), *ends, len(known), int((numbers > 0).sum()))


def pool_json(pool: Pool) -> dict[str, Any]:
    """A pool's scores and spreads, JSON-able."""
    unit = "share of each home's mean" if pool.is_relative else pool.unit
    head = {"model": pool.method, "unit": unit, "step_s": pool.step_s, "homes": [card.name for card in pool.cards]}
    head["seen"] = {**asdict(pool.seen), "note": pool.seen_note}
    spreads = {
        name: {**dict(zip(QUARTILES, one.quartiles, strict=True)), **{k: v for k, v in asdict(one).items() if k != "quartiles"}}
        for name, one in pool.spreads().items()
    }
    return finite({**head, **scores_json(pool.tallies, pool.method), "spread": spreads})
