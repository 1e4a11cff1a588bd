"""The page of rooms: skill by hand, and a ridge regression that finds what is there."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.accuracy.cases import PERFECT_WEATHER, whole, with_perfect_weather
from benchmarks.accuracy.published import SUFFIX
from benchmarks.accuracy.ridge import Ridge
from benchmarks.accuracy.rooms import OURS, Figure, section, skill
from benchmarks.accuracy.yardsticks import ROOM_NAIVE, Yardstick
from edge_agent.contract.schema import parse_house
from edge_agent.contract.series import Series
from trainer.baselines import MIXTURE
from trainer.scores import score

HOUSE = """
site = "small"
time_zone = "UTC"
step = 3600
table_clock = "utc"
targets = [{ name = "hall", sensor = "hall" }]
sensors = [
  { name = "hall", role = "indoor_temperature", column = "hall" },
  { name = "outdoor", role = "outdoor_temperature", column = "outdoor" },
]
"""


def figures(ours, perfect):
    naive = {("T1", label, "full"): Figure((mae,), 0.8) for label, mae in zip(ROOM_NAIVE, (2.0, 1.0, 4.0), strict=True)}
    naive |= {("RH_1", label, "full"): Figure((mae,), 0.8) for label, mae in zip(ROOM_NAIVE, (2.0, 3.0, 4.0), strict=True)}
    bands = (("", 0.76), (SUFFIX, 0.81))
    ours_by_variant = (("full", ours), (PERFECT_WEATHER, perfect))
    return naive | {(room, OURS + s, v): Figure(maes, holds) for s, holds in bands for v, maes in ours_by_variant for room in ("T1", "RH_1")}


def test_skill_is_over_the_best_naive_forecast_of_each_room():
    found = figures((0.8, 1.0), (0.5,))
    assert skill(["T1", "RH_1"], OURS, "full", found) == pytest.approx((0.1 + 0.55) / 2)
    assert np.isnan(skill(["T1"], MIXTURE, "full", found))


def test_the_page_says_what_is_wanted_and_what_was_measured():
    def measured(gain):
        return [(gain, True), ("0.760", False), ("0.810", True)]

    made = section("Rooms", "3 origins.", ["T1", "RH_1"], figures((0.8, 1.0), (1.0,)), is_trained_on=True)
    assert [(claim.measured, claim.met) for claim in made.claims] == [*measured("+32.5 %"), *measured("+25.0 %")]
    assert made.rows[0][:4] == ["T1", "2.000", "**1.000**", "4.000"]
    assert made.rows[0][8:12] == ["0.900 ±0.100", "+10.0 %", "0.76", "0.81"]
    assert "Hearthcast, rooms, perfect weather forecast +0.0 % / +50.0 %" in made.text
    assert not section("Others", "", ["T1"], figures((0.8,), (1.0,)), is_trained_on=False).claims


@pytest.fixture(scope="module")
def room():
    """A hall that follows the outdoor temperature of three hours before, half of it."""
    rng = np.random.default_rng(0)
    outdoor = np.cumsum(rng.normal(0, 1, 60 * 24 + 3)) * 0.5
    hall = 20 + 0.5 * outdoor[:-3]
    house = parse_house(HOUSE, source="house.toml")
    return whole("small", house, "hall", Series(1_767_225_600, 3600, house.features, np.stack([hall, outdoor[3:]], axis=1)))


def test_ridge_finds_what_the_weather_ahead_tells(room):
    blind, told = (score(Ridge().predict(case)) for case in (room, with_perfect_weather(room)))
    naive = min(score(Yardstick(label).predict(room)).mae for label in ROOM_NAIVE)
    assert told.mae < 0.1 * naive
    assert told.mae < 0.2 * blind.mae
    assert 0.5 < blind.coverage < 0.99


def test_ridge_reads_nothing_of_the_test_span(room):
    values = room.series.values.copy()
    changed = type(room.series)(room.series.start, 3600, room.series.features, values)
    values[(int(room.origins[0]) - room.series.start) // 3600 :] = 5.0
    first = slice(0, 1)
    seen = [Ridge().predict(replace(room, series=series)).quantiles[first] for series in (room.series, changed)]
    np.testing.assert_allclose(seen[0], seen[1])
