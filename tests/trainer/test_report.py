"""The report: what it says is what was scored, its pictures are the page's own, and it asks nothing of the network."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from edge_agent.contract.bundle import read_bundle
from edge_agent.contract.schema import parse_house
from edge_agent.contract.series import Series
from edge_agent.forecaster import Forecaster, Model
from trainer import report_pictures
from trainer.findings import Finding
from trainer.report import closer, report
from trainer.report_tables import costs
from trainer.report_words import Money, amount, energy, energy_words, percent, signed
from trainer.rolling import Home, forecasts
from trainer.scorecard import Account
from trainer.workers import Skipped

DAY_S = 86_400
EURO = Money(0.30, "EUR")


@pytest.fixture(scope="module")
def model():
    return Model(read_bundle(Path(__file__).parents[1] / "fixtures" / "tiny", allow_unsigned=True))


@pytest.fixture(scope="module")
def make_card(model):
    def make(site="h", *, role="energy", seed=0, is_modelled=True, n_days=9, gap=None):
        house = parse_house(
            f"""
            site = "{site}"
            time_zone = "Europe/Berlin"
            step = 3600
            targets = [{{ name = "it", sensor = "s" }}]
            sensors = [{{ name = "s", role = "{role}", column = "c" }}]
            """,
            source="test",
        )
        values = np.random.default_rng(seed).gamma(2.0, 200.0, 70 * 24) if role == "energy" else 20 + np.random.default_rng(seed).random(70 * 24)
        if gap:
            values[gap] = np.nan
        forecaster = Forecaster(house, model if is_modelled else None, target="it")
        home = Home(forecaster, Series(0, 3600, house.features, values[:, None]), 60 * DAY_S + 3600 * np.arange(24 * n_days))
        account = Account(home)
        for part in forecasts([home]):
            account.add(part)
        return account.card()

    return make


@pytest.fixture(scope="module")
def card(make_card):
    return make_card()


@pytest.fixture(scope="module")
def text(card):
    return report([card], [], EURO)


class Page(HTMLParser):
    """Text, tags and whatever points out of the page."""

    VOID = ("meta", "br", "link", "img")

    def __init__(self, text):
        super().__init__()
        self.open, self.count, self.links, self.text = [], {}, [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.count[tag] = self.count.get(tag, 0) + 1
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href", "action") and not value.startswith("#")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data


def test_a_page_of_one_home_is_whole_and_alone(text):
    page = Page(text)
    assert page.open == []
    assert page.links == []
    assert not re.search(r"url\((?!#)|@import|<script", text)
    assert page.count["svg"] == 9  # three days, three of all days, lead, hour, calibration
    assert "nan" not in page.text.lower()
    assert "What getting tomorrow wrong cost" in page.text
    for kind in ("good", "typical", "bad"):
        assert f"A {kind} day" in page.text


def test_pictures_have_the_pages_colours_only(text):
    drawn = "".join(re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL))
    assert set(re.findall(r"#[0-9a-f]{6}\b", drawn)) <= {"#ffffff", "#000000"}
    used = set(re.findall(r"var\(--([\w-]+)\)", drawn))
    assert {"model", "ink", "band-outer", "band-inner", "other-0"} <= used
    head = text[: text.index("</style>")]
    assert all(head.count(f"--{name}:") == 3 for name in used), "light, dark and print"


def test_what_is_said_is_what_was_scored(card, text):
    days, words = card.days, energy_words(card, EURO)
    off = np.abs(days.actual - days.forecast[card.method]).mean()
    assert words["off"] == energy(off)
    assert words["money"] == f"{off / 1000 * 0.3:.2f}\u00a0EUR"
    assert words["share"] == percent(off / days.actual.mean())
    page = Page(text)
    assert f"Tomorrow's total was off by {words['off']} on average" in page.text
    own, total = card.scores()[card.method], f"{card.scores()[card.method].total_mae:,.0f}"
    assert f"{own.mae:.4g}" in page.text
    assert total in page.text


def test_costs_are_energy_times_price():
    class Days:
        def __len__(self):
            return 10

        misplaced = dict.fromkeys(("m", "28-day mean", "same time yesterday", "rolling climatology"), np.full(10, 4000.0))

        def errors(self, _):
            return np.full(10, 1500.0)

    class One:
        days, method = Days(), "m"

    first, *others = costs(One, Money(0.2, "CHF"))
    assert first["name"] == "Hearthcast (m)"
    nbsp = "\u00a0"
    assert first["cells"] == [(f"1.5{nbsp}kWh", f"0.30{nbsp}CHF"), (f"4.0{nbsp}kWh", f"0.80{nbsp}CHF"), (f"40.0{nbsp}kWh", f"8.00{nbsp}CHF")]
    assert [row["name"] for row in others] == ["average of four weeks", "same as yesterday", "weighted average"]


def test_a_room_has_no_money_and_no_totals(make_card):
    page = Page(report([make_card(role="indoor_temperature", is_modelled=False)], [], EURO))
    assert "At any time of the next day the temperature was off by" in page.text
    assert "No model forecasts this" in page.text
    assert "EUR" not in page.text
    assert "kWh" not in page.text
    assert "°C" in page.text


def test_a_page_of_many_homes_names_the_worst_and_lists_all(make_card):
    cards = [make_card(f"home{i}", seed=i) for i in range(5)]
    page = Page(report(cards, [Skipped("gone:it", "no <b>table</b>")], EURO))
    assert page.open == []
    assert "5 homes together" in page.text
    assert all(f"home{i}, it" in page.text for i in range(5))
    assert "gone:it (no <b>table</b>)" in page.text  # escaped: else the parser had taken it for a tag
    assert [role for role, _ in closer(cards)] == ["worst", "in the middle", "best"]
    assert page.count["svg"] == 4 + 3 * 9


def test_what_was_wrong_with_the_data_is_said(make_card):
    found = Finding("/home/me/h.csv", "dead", "zero for 3 days from <May>", "masked", "left unknown", sensor="s", steps=72)
    page = Page(report([make_card(is_modelled=False, n_days=2)], [], EURO, [found]))
    assert page.open == []
    assert "1 finding in the recorded histories" in page.text
    assert "zero for 3 days from <May>: left unknown" in page.text
    assert "/home/me" not in page.text  # a report may be handed on


def test_homes_of_different_kinds_have_pages_of_their_own(make_card):
    page = Page(report([make_card("a"), make_card("b", role="indoor_humidity", is_modelled=False)], [], EURO))
    assert "together" not in page.text
    assert "a, it" in page.text
    assert "b, it" in page.text


def test_a_home_without_a_whole_day_is_still_scored_by_step(make_card):
    page = Page(report([make_card(n_days=2, gap=slice(60 * 24 + 10, None, 20))], [], EURO))
    assert "No day of this span is known throughout" in page.text
    assert "rolling climatology" in page.text


def test_the_same_cards_make_the_same_page(card, text):
    assert report([card], [], EURO) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (energy(640), "640 Wh"),
        (energy(999), "1.0 kWh"),
        (energy(13_420), "13.4 kWh"),
        (energy(151_270), "151 kWh"),
        (amount(0.414, "degC"), "0.41 °C"),
        (amount(6.03, "%"), "6.0 %"),
        (percent(0.204), "20 %"),
        (percent(float("nan")), "-"),
        (signed(-0.0001), "+0.0 %"),
        (signed(-0.023), "-2.3 %"),
        (EURO.of(0.0), "0.00 EUR"),
        (EURO.of(10.0), "under 0.01 EUR"),
    ],
)
def test_numbers_are_written_for_people(value, text):
    assert value.replace("\u00a0", " ") == text


def test_a_day_is_drawn_as_power_and_the_best_guess_reaches_its_end(card):
    zone = ZoneInfo("UTC")
    methods = dict(list(card.examples["typical"].items())[:2])
    model, other = methods
    figure = report_pictures.day(methods, {model: "ours", other: "other"}, zone=zone, unit="Wh")
    (axes,) = figure.axes
    assert axes.get_ylabel() == "W"  # steps of an hour: Wh and W are one number
    best = next(line for line in axes.get_lines() if line.get_label() == "ours")
    own = methods[model]
    assert best.get_ydata().tolist() == [*own.mean[0], own.mean[0, -1]]
    heavy = {name: replace(p, mean=50 * p.mean, actual=50 * p.actual) for name, p in methods.items()}
    assert report_pictures.day(heavy, {model: "ours", other: "other"}, zone=zone, unit="Wh").axes[0].get_ylabel() == "kW"
