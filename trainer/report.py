"""The backtest's report: one HTML file with its pictures in it, in plain words first and in tables last."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from edge_agent import __version__
from trainer import report_pictures as draw
from trainer.baselines import WITHOUT_MODEL, YESTERDAY, yardstick
from trainer.crowd import Pool, gain, pools
from trainer.findings import Finding
from trainer.report_tables import costs, facts, groups, home_row, methods_table
from trainer.report_words import (
    AVERAGE,
    COMPARED,
    OURS,
    PLAIN,
    Money,
    amount,
    date_of,
    energy,
    energy_words,
    percent,
    pool_words,
    shown,
    signed,
    state_words,
)
from trainer.scorecard import Card
from trainer.scores import Scores
from trainer.tally import Tally
from trainer.workers import Skipped

CLOSER: Final = 3
"""Of more homes than this only the worst, the median and the best have their own pictures."""
PACKAGES: Final = ("onnxruntime", "numpy")


def report(cards: Sequence[Card], skipped: Sequence[Skipped], money: Money, findings: Sequence[Finding] = ()) -> str:
    """The page.

    Args:
        cards: of the homes, at least one.
        skipped: homes that could not be scored.
        money: what energy costs.
        findings: what was wrong with the histories, and what was done about it.
    """
    environment = Environment(loader=PackageLoader("trainer"), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    environment.filters |= {"percent": percent, "signed": signed}
    several = len(cards) > 1
    return environment.get_template("report.html.j2").render(
        title=f"{len(cards)} homes" if several else cards[0].name.replace(":", ", "),
        homes=[{**home(card, money), "role": role} for role, card in closer(cards)],
        pools=[pool(one, money) for one in pools(cards) if len(one.cards) > 1],
        several=several,
        skipped=skipped,
        findings=findings,
        price=money.text,
        has_energy=any(card.adds_up for card in cards),
        versions={"hearthcast": __version__, **{name: _version(name) for name in PACKAGES}},
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def closer(cards: Sequence[Card]) -> list[tuple[str, Card]]:
    """The homes that are shown with pictures, and why: all of a few, else of each kind the worst, the middle and the best by CRPS skill."""
    if len(cards) <= CLOSER:
        return [("", card) for card in cards]
    shown = []
    for one in pools(cards):
        ranked = sorted(one.cards, key=lambda card: gain(card, "crps"))
        places = {0: "worst", len(ranked) - 1: "best", len(ranked) // 2: "in the middle"}
        shown += [(places[place], ranked[place]) for place in sorted(places)]
    return shown


def home(card: Card, money: Money) -> dict[str, Any]:
    """What the page says of one home."""
    scores, days = card.scores(), card.days
    return {
        "name": card.name.replace(":", ", "),
        "anchor": card.name.replace(":", "-"),
        "is_energy": card.adds_up,
        "quantity": "energy" if card.adds_up else card.house.sensor(card.house.target(card.target).sensor).role.split("_")[-1],
        "n_days": len(days),
        "seen_note": card.seen_note,
        "span": f"{date_of(card.first, card)} to {date_of(card.last, card)}",
        "hour": f"{datetime.fromtimestamp(int(days.origins[len(days) // 2]), card.house.zone):%H:%M}" if len(days) else "",
        "words": (energy_words if card.adds_up else state_words)(card, money),
        "has_model": card.method not in WITHOUT_MODEL,
        "coverage": scores[card.method].coverage,
        "pictures": _pictures(card, money),
        "costs": costs(card, money) if card.adds_up and len(days) else [],
        "crps_skill": gain(card, "crps"),
        "table": methods_table(scores, card.tallies, card.method, day_steps=1 if card.adds_up else card.tallies[card.method].horizon),
        "unit": shown(card.unit) + (f" in {card.step_s // 60} min" if card.adds_up else ""),
        "yardstick": yardstick(card.tallies),
        "facts": facts(card),
        "groups": groups(card.tallies, card.method, card.step_s),
    }


def _pictures(card: Card, money: Money) -> dict[str, Any]:
    days, zone = card.days, card.house.zone
    compared = COMPARED[card.adds_up]
    factor, unit = (1000.0, "kWh") if card.adds_up and len(days) and days.actual.mean() >= 1000 else (1.0, card.unit)
    own = f"{OURS}, {card.method}" if card.method not in WITHOUT_MODEL else PLAIN[card.method]
    named = {card.method: OURS if card.method not in WITHOUT_MODEL else PLAIN[card.method], **{label: PLAIN[label] for label in compared}}
    pictures: dict[str, Any] = {"days": [_example(card, kind, named) for kind in card.examples]}
    if len(days):
        actual, forecast = days.actual / factor, days.forecast[card.method] / factor
        pictures["timeline"] = _svg(draw.timeline(days.origins, actual, forecast, card.total_band, zone=zone, unit=unit, name=named[card.method]))
        pictures["against"] = _svg(draw.against(actual, forecast, unit=unit))
    if card.adds_up and len(days):
        means = {named[label]: float(days.errors(label).mean()) for label in named}
        texts = [f"{energy(value)}, {money.of(value)}" for value in means.values()]
        pictures["bars"] = _svg(draw.bars({name: value / factor for name, value in means.items()}, unit=f"{unit} a day", texts=texts))
    upwards = f"off by, {'W' if card.adds_up else shown(card.unit)}"
    to_power = 3600 / card.step_s if card.adds_up else 1.0
    curves = {named[label]: card.tallies[label].scaled(to_power) for label in named}
    return pictures | _curves(curves, card.step_s, upwards) | {"calibration": _svg(_calibration(card.tallies[card.method], own))}


def _example(card: Card, kind: str, named: Mapping[str, str]) -> dict[str, Any]:
    methods = card.examples[kind]
    own = methods[card.method]
    beside = AVERAGE if card.adds_up else YESTERDAY
    methods = {card.method: own, beside: methods[beside]}
    picture = draw.day(methods, {card.method: named[card.method], beside: PLAIN[beside]}, zone=card.house.zone, unit=card.unit)
    caption = ""
    if card.adds_up:
        forecast, came = float(own.mean.sum()), float(own.actual.sum())
        caption = f"Forecast {energy(forecast)}, came {energy(came)}: off by {energy(abs(came - forecast))}."
    else:
        caption = f"On average off by {amount(float(np.abs(own.median - own.actual).mean()), card.unit)}."
    return {
        "kind": kind,
        "date": f"{datetime.fromtimestamp(int(own.origins[0]), card.house.zone):%A, %-d %B %Y}",
        "caption": caption,
        "svg": _svg(picture),
    }


def _curves(tallies: Mapping[str, Tally], step_s: int, upwards: str, *, is_share: bool = False) -> dict[str, Markup]:
    """Error by hours ahead and by hour of the day."""

    def drawn(scores_of: Callable[[Tally], dict[int, Scores]], across: str) -> Markup:
        curves = {}
        for name, tally in tallies.items():
            by_hour = scores_of(tally)
            curves[name] = np.array(list(by_hour)) + 0.5, np.array([scores.mae for scores in by_hour.values()])
        return _svg(draw.errors(curves, across=across, upwards=upwards, is_share=is_share))

    return {"lead": drawn(lambda tally: tally.lead_hours(step_s), "hours ahead"), "hours": drawn(Tally.hours, "hour of the day")}


def _calibration(tally: Tally, name: str) -> Any:
    return draw.calibration(tally.quantile_levels, tally.coverage_by_level(), name=name)


def _svg(figure: Any) -> Markup:
    return Markup(draw.svg(figure))  # noqa: S704  our own drawing


def pool(one: Pool, money: Money) -> dict[str, Any]:
    """What the page says of many homes together."""
    cards = sorted(one.cards, key=lambda card: gain(card, "total_mae" if card.adds_up else "crps"))
    compared = COMPARED[one.is_relative]
    own = OURS if one.method not in WITHOUT_MODEL else PLAIN[one.method]
    named = {one.method: own, **{label: PLAIN[label] for label in compared}}
    upwards = "off by, of the home's mean" if one.is_relative else f"off by, {shown(one.unit)}"
    pictures = _curves({named[label]: one.tallies[label] for label in named}, one.step_s, upwards, is_share=one.is_relative)
    skills = {
        "day totals" if one.is_relative else "days' means": np.array([gain(card, "total_mae") for card in cards]),
        "every step, with its band (CRPS)": np.array([gain(card, "crps") for card in cards]),
    }
    pictures |= {"homes": _svg(draw.homes(skills)), "calibration": _svg(_calibration(one.tallies[one.method], own))}
    spreads = one.spreads()
    return {
        "method": one.method,
        "is_energy": one.is_relative,
        "n_homes": len(cards),
        "step": one.step_s // 60,
        "unit": "shares of each home's mean" if one.is_relative else shown(one.unit),
        "words": pool_words(one, money),
        "seen_note": one.seen_note,
        "pictures": pictures,
        "spreads": [{"name": name, "spread": spread} for name, spread in spreads.items()],
        "homes": [home_row(card, money) for card in cards],
        "table": methods_table(one.scores(), one.tallies, one.method, day_steps=one.tallies[one.method].horizon),
        "groups": groups(one.tallies, one.method, one.step_s),
        "coverage": one.scores()[one.method].coverage,
        "n_origins": f"{sum(card.n_origins for card in cards):,}",
    }
