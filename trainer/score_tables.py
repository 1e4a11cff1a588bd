"""Score cards as tables on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite

from rich import box
from rich.markup import escape
from rich.table import Table

from edge_agent.contract.localtime import iso_utc
from trainer.baselines import YESTERDAY, yardstick
from trainer.crowd import FIGURES, QUARTILES, Pool, gain
from trainer.findings import count
from trainer.scorecard import NO_WEATHER, Card
from trainer.scores import Scores, figure, skill


def _skills(*scored: Card | Pool) -> str:
    yardsticks = " or ".join(dict.fromkeys(yardstick(of.tallies) for of in scored))
    return f"Skill = 1 - error / error of the {yardsticks};\nvs yesterday: the day's error over that of yesterday's."


def score_table(card: Card) -> Table:
    """The model and the baselines, one row each; skill is against the yardstick."""
    unit = f"{card.unit} a step" if card.adds_up else card.unit
    grades = ", ".join(f"{count} {grade}" for grade, count in sorted(card.grades.items()))
    given = f"\n{card.method} was given: {card.weather}" if card.weather != NO_WEATHER else ""
    note = f"\nnote: {card.seen_note}" if card.seen_note else ""
    title = f"{card.house.site}, {card.target}: {card.n_origins:,} origins\n{iso_utc(card.first)} to {iso_utc(card.last)}{given}{note}"
    return _methods(card, title=escape(title), caption=f"Errors in {unit}. {_skills(card)}\nInputs: {grades}.", form=figure)


def pool_table(pool: Pool) -> Table:
    """The same over many homes."""
    unit = "shares of each home's mean" if pool.is_relative else pool.unit
    note = f"\nnote: {pool.seen_note}" if pool.seen_note else ""
    title = f"{count(len(pool.cards), 'home')} together, steps of {pool.step_s // 60} min{note}"
    return _methods(pool, title=title, caption=f"Errors in {unit}. {_skills(pool)}", form="{:.3f}".format)


def _methods(of: Card | Pool, *, title: str, caption: str, form: Callable[[float], str]) -> Table:
    """One row a method; of states, and of shares, the error of a day is that of its mean."""
    scores, is_sum = of.scores(), isinstance(of, Card) and of.adds_up
    n_values = next(iter(scores.values())).n_values
    table = Table(title=f"{title}\n{n_values:,} steps known", caption=caption, box=box.SIMPLE_HEAD, padding=0)
    day = "day\nmean" if of.unit != "Wh" else "day\ntotal"
    for heading in ("forecast", "MAE", "RMSE", "CRPS", "p10-\np90", day, "CRPS\nskill", f"{day}\nskill", "vs\nyesterday"):
        is_name = heading == "forecast"
        table.add_column(heading, justify="left" if is_name else "right", no_wrap=not is_name, overflow="fold" if is_name else "ellipsis")
    for label, row in scores.items():
        cells = [form(value) for value in (row.mae, row.rmse, row.crps)]
        cover = f"{row.coverage:.2f}" if of.tallies[label].below.any() else "-"
        total = form(row.total_mae / (1 if is_sum else of.tallies[label].horizon))
        table.add_row(escape(label), *cells, cover, total, *_gains(row, scores), style="bold" if label == of.method else None)
    return table


def _gains(row: Scores, scores: dict[str, Scores]) -> list[str]:
    over = skill(row, scores[yardstick(scores)])
    return [percent(value) for value in (over["crps"], over["total_mae"], skill(row, scores[YESTERDAY])["total_mae"])]


def percent(value: float) -> str:
    """`+12.3%`, or a dash for what is unknown."""
    return f"{round(value, 3) + 0.0:+.1%}" if isfinite(value) else "-"  # no minus before a zero


def homes_table(cards: Sequence[Card]) -> Table:
    """One row a home."""
    table = Table(title="By home", caption=_skills(*cards), box=box.SIMPLE_HEAD, padding=0)
    seen = ("seen\nbefore",) if any(card.seen.n_seen for card in cards) else ()
    for heading in ("home", "origins", "MAE", "day", "p10-\np90", "CRPS\nskill", "day\nskill", "vs\nyesterday", *seen):
        is_name = heading == "home"
        table.add_column(heading, justify="left" if is_name else "right", no_wrap=not is_name, overflow="fold")
    for card in cards:
        own = card.scores()[card.method]
        total = own.total_mae if card.adds_up else own.total_mae / card.tallies[card.method].horizon
        gains = [gain(card, *pair) for pair in FIGURES.values()]
        figures = (f"{figure(own.mae)} {card.unit}", figure(total), f"{own.coverage:.2f}")
        table.add_row(card.name, str(card.n_origins), *figures, *map(percent, gains), *([str(card.seen)] if seen else []))
    return table


def spread_table(pool: Pool) -> Table:
    """From the worst home to the best."""
    spreads = pool.spreads()
    table = Table(title=escape(f"From home to home: {pool.method} over the {yardstick(pool.tallies)}"), box=box.SIMPLE_HEAD, padding=0)
    table.add_column("")
    for name in spreads:
        table.add_column(name, justify="right", overflow="fold")
    for place, name in enumerate(QUARTILES):
        table.add_row(name, *(percent(spread.quartiles[place]) for spread in spreads.values()))
    table.add_row("homes with a gain", *(f"{spread.n_positive} of {spread.n_homes}" for spread in spreads.values()))
    table.add_row("worst home", *(spread.worst_home for spread in spreads.values()))
    return table
