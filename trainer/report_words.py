"""What the report says in words, and how it writes energy, money and shares."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np

from trainer.baselines import CHANGE, CLIMATOLOGY, LABELS, MIXTURE, YESTERDAY
from trainer.crowd import Pool
from trainer.scorecard import Card

NBSP: Final = "\u00a0"
"""Between a number and its unit: no line ends there."""
OURS: Final = "Hearthcast"
AVERAGE: Final = LABELS["mean_28d"]
PLAIN: Final = {
    AVERAGE: "average of four weeks",
    YESTERDAY: "same as yesterday",
    LABELS["last_week"]: "same as a week ago",
    LABELS["persistence"]: "as it is now",
    CLIMATOLOGY: "weighted average",
    MIXTURE: "mixture of simple guesses",
}
"""What a method is, for people; the weighted average is that of eight weeks, the mixture weighs each guess by how well it did of late."""
COMPARED: Final = {True: (AVERAGE, YESTERDAY, CLIMATOLOGY), False: (LABELS["persistence"], YESTERDAY, MIXTURE)}
"""Shown beside the model, for sums and for states."""
GUESSES: Final = {
    LABELS["persistence"]: "that it stays as it is",
    YESTERDAY: "that tomorrow is like yesterday",
    CHANGE: "that it goes on from now as it did yesterday",
}
"""What anybody may assume of a state."""


@dataclass(frozen=True)
class Money:
    """What a kWh costs."""

    price: float
    currency: str

    def of(self, wh: float) -> str:
        """`0.57 EUR`."""
        value = wh / 1000 * self.price
        return f"{value:,.2f}{NBSP}{self.currency}" if value >= 0.005 or value == 0 else f"under{NBSP}0.01{NBSP}{self.currency}"

    @property
    def text(self) -> str:
        """The price, for people."""
        return f"{self.price:.2f} {self.currency} a kWh"


def date_of(unix_s: int, card: Card) -> str:
    return f"{datetime.fromtimestamp(unix_s, card.house.zone):%-d %B %Y}"


def shown(unit: str) -> str:
    return "°C" if unit == "degC" else unit


def energy_words(card: Card, money: Money) -> dict[str, str]:
    days = card.days
    if not len(days):
        return {}
    own, usual = days.errors(card.method), float(days.actual.mean())
    average, yesterday = (float(days.errors(label).mean()) for label in (AVERAGE, YESTERDAY))
    return {
        "off": energy(own.mean()),
        "share": percent(own.mean() / usual) if usual > 0 else "",
        "usual": energy(usual),
        "money": money.of(own.mean()),
        "half": energy(np.median(own)),
        "tenth": energy(np.quantile(own, 0.9)),
        "average": energy(average),
        "average_money": money.of(average),
        "yesterday": energy(yesterday),
        "yesterday_money": money.of(yesterday),
        "verdict": _verdict(own.mean(), average),
        "band": _band_words(card),
    }


def _verdict(own: float, other: float) -> str:
    """How the two errors compare, in words."""
    if other <= 0:
        return ""
    less = 1 - own / other
    return f"{percent(abs(less))} {'less' if less > 0 else 'more'}" if abs(less) >= 0.005 else "as much"


def _band_words(card: Card) -> str:
    if card.total_band is None:
        return ""
    low, high = card.total_band
    forecast = card.days.forecast[card.method]
    inside = (low * forecast <= card.days.actual) & (card.days.actual <= high * forecast)
    return percent(inside.mean())


def state_words(card: Card, _: Money) -> dict[str, str]:
    scores = card.scores()
    guesses = {text: scores[label].mae for label, text in GUESSES.items()}
    best = min(guesses, key=lambda text: guesses[text])
    return {
        "off": amount(scores[card.method].mae, card.unit),
        "now": amount(scores[LABELS["persistence"]].mae, card.unit),
        "yesterday": amount(scores[YESTERDAY].mae, card.unit),
        "verdict": _verdict(scores[card.method].mae, guesses[best]),
        "best": best,
    }


def pool_words(one: Pool, money: Money) -> dict[str, str]:
    """The home in the middle, in words."""
    if not one.is_relative:
        middle = {label: float(np.median([card.scores()[label].mae for card in one.cards])) for label in (one.method, *COMPARED[False])}
        return {
            "off": amount(middle[one.method], one.unit),
            "now": amount(middle[LABELS["persistence"]], one.unit),
            "yesterday": amount(middle[YESTERDAY], one.unit),
        }
    cards = [card for card in one.cards if len(card.days) and card.days.actual.mean() > 0]

    def middle(label: str | None) -> float:
        return (
            float(np.median([card.days.errors(label or card.method).mean() / card.days.actual.mean() for card in cards])) if cards else float("nan")
        )

    costs = [float(card.days.errors(card.method).mean()) for card in cards]
    better = sum(card.days.errors(card.method).mean() < card.days.errors(AVERAGE).mean() for card in cards)
    return {
        "off": percent(middle(None)),
        "average": percent(middle(AVERAGE)),
        "yesterday": percent(middle(YESTERDAY)),
        "money": money.of(float(np.median(costs))) if costs else "-",
        "wh": energy(float(np.median(costs))) if costs else "-",
        "better": f"{better} of {len(cards)}",
    }


def energy(wh: float) -> str:
    """`640 Wh`, `1.9 kWh`, `104 kWh`."""
    if wh < 995:
        return f"{wh:.0f}{NBSP}Wh"
    return f"{wh / 1000:.1f}{NBSP}kWh" if wh < 99_950 else f"{wh / 1000:,.0f}{NBSP}kWh"


def amount(value: float, unit: str) -> str:
    """`0.41 °C`, `2.3 °C`."""
    return f"{value:.2f}{NBSP}{shown(unit)}" if value < 1 else f"{value:.1f}{NBSP}{shown(unit)}"


def percent(share: float) -> str:
    """`23 %`."""
    return f"{100 * share:.0f}{NBSP}%" if np.isfinite(share) else "-"


def signed(share: float) -> str:
    """`+2.3 %`, or a dash for what is unknown."""
    return f"{round(100 * share, 1) + 0.0:+.1f}{NBSP}%" if np.isfinite(share) else "-"  # no minus before a zero
