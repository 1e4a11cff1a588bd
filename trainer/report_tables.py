"""The report's tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from edge_agent.contract.localtime import iso_local
from trainer.baselines import CLIMATOLOGY, YESTERDAY, yardstick
from trainer.crowd import FIGURES, gain
from trainer.report_words import AVERAGE, COMPARED, OURS, PLAIN, Money, amount, energy, signed
from trainer.scorecard import NO_WEATHER, Card
from trainer.scores import DAY_TYPES, Scores, figure, skill
from trainer.tally import Tally


def costs(card: Card, money: Money) -> list[dict[str, Any]]:
    """One row a method: what a day's total was off by, what came in another hour or amount, and that over all days; in Wh and in money."""
    days, rows = card.days, []
    for label in (card.method, *(label for label in COMPARED[True] if label != card.method)):
        total, misplaced = float(days.errors(label).mean()), float(days.misplaced[label].mean())
        is_model = label == card.method != CLIMATOLOGY
        cells = [(energy(wh), money.of(wh)) for wh in (total, misplaced, misplaced * len(days))]
        rows.append({"name": f"{OURS} ({label})" if is_model else PLAIN[label], "cells": cells})
    return rows


def facts(card: Card) -> dict[str, str]:
    zone = card.house.zone
    grades = ", ".join(f"{count:,} {grade}" for grade, count in sorted(card.grades.items()))
    return {
        "house": f"{card.house.site}, target {card.target}, time zone {card.house.time_zone}",
        "model": f"{card.method} {card.version}".strip() + (f", given {card.weather}" if card.weather != NO_WEATHER else ""),
        "origins": f"{card.n_origins:,}, from {iso_local(card.first, zone)} to {iso_local(card.last, zone)}",
        "each forecast": f"{card.tallies[card.method].horizon} steps of {card.step_s // 60} min",
        "grade of the inputs": grades,
        "values scored": f"{card.tallies[card.method].n_values:,}, the same for every method",
    }


def methods_table(scores: Mapping[str, Scores], tallies: Mapping[str, Tally], method: str, *, day_steps: float) -> list[dict[str, Any]]:
    """The specialists' table, one row a method."""
    return [
        {
            "name": label,
            "is_model": label == method,
            "errors": [figure(value) for value in (row.mae, row.rmse, row.crps, row.total_mae / day_steps)],
            "coverage": f"{row.coverage:.2f}" if tallies[label].below.any() else "-",
            "skills": [
                signed(value)
                for value in (
                    skill(row, scores[yardstick(scores)])["crps"],
                    skill(row, scores[yardstick(scores)])["total_mae"],
                    skill(row, scores[YESTERDAY])["total_mae"],
                )
            ],
        }
        for label, row in scores.items()
    ]


def groups(tallies: Mapping[str, Tally], method: str, step_s: int) -> list[dict[str, Any]]:
    """The model's scores by lead time, hour and day type, beside the yardstick's."""

    def rows(scores_of: Callable[[Tally], dict[int, Scores]], name: Callable[[int], str]) -> list[dict[str, Any]]:
        own, usual = scores_of(tallies[method]), scores_of(tallies[yardstick(tallies)])
        return [
            {
                "name": name(number),
                "n": f"{row.n_values:,}",
                "errors": [figure(value) for value in (row.mae, row.rmse, row.crps)],
                "coverage": f"{row.coverage:.2f}",
                "skill": signed(skill(row, usual[number])["crps"]),
            }
            for number, row in own.items()
        ]

    return [
        {"title": "By lead time", "first": "hours ahead", "rows": rows(lambda tally: tally.lead_hours(step_s), lambda hour: f"{hour} to {hour + 1}")},
        {"title": "By hour of the day", "first": "local hour", "rows": rows(Tally.hours, lambda hour: f"{hour:02d}:00")},
        {"title": "By day type", "first": "day", "rows": rows(Tally.day_types, lambda kind: DAY_TYPES[kind])},
    ]


def home_row(card: Card, money: Money) -> dict[str, Any]:
    """A home's row in the table of all homes."""
    own, days = card.scores()[card.method], card.days
    is_known = card.adds_up and len(days) > 0
    total = float(days.errors(card.method).mean()) if is_known else float("nan")
    return {
        "name": card.name.replace(":", ", "),
        "days": len(days),
        "usual": energy(float(days.actual.mean())) if is_known else "-",
        "off": energy(total) if is_known else amount(own.mae, card.unit),
        "average": energy(float(days.errors(AVERAGE).mean())) if is_known else amount(card.scores()[YESTERDAY].mae, card.unit),
        "money": money.of(total) if is_known else "",
        "misplaced": energy(float(days.misplaced[card.method].mean())) if is_known else "",
        "skills": [signed(gain(card, *pair)) for pair in FIGURES.values()],
        "coverage": f"{own.coverage:.2f}",
        "seen": str(card.seen) if card.seen.n_seen else "",
        "grades": ", ".join(f"{count:,} {grade}" for grade, count in sorted(card.grades.items())),
    }
