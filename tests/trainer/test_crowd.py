import json
from dataclasses import replace

import numpy as np
import pytest

from edge_agent.contract.schema import parse_house
from edge_agent.contract.series import Series
from edge_agent.forecaster import Forecaster
from trainer.baselines import CHANGE, CLIMATOLOGY, MIXTURE, YESTERDAY, yardstick
from trainer.crowd import pool_json, pools, spread
from trainer.rolling import Home, forecasts
from trainer.scorecard import Account, to_json

DAY_S = 86_400


def card_of(values, *, site="h", n_origins=48, role="energy", step_s=3600):
    house = parse_house(
        f"""
        site = "{site}"
        time_zone = "UTC"
        step = {step_s}
        targets = [{{ name = "it", sensor = "s" }}]
        sensors = [{{ name = "s", role = "{role}", column = "c" }}]
        """,
        source="test",
    )
    home = Home(
        Forecaster(house, None), Series(0, step_s, house.features, np.asarray(values, float)[:, None]), 60 * DAY_S + 3600 * np.arange(n_origins)
    )
    account = Account(home)
    for part in forecasts([home]):
        account.add(part)
    return account.card()


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(0).gamma(2.0, 50.0, 70 * 24)


def test_json_holds_every_method_and_grouping_without_nan(noise):
    data = to_json(card_of(noise))
    assert set(data["scores"]) == {"persistence", YESTERDAY, "same time last week", "28-day mean", CLIMATOLOGY}
    assert set(data["by"]["hour"][CLIMATOLOGY]) == {str(hour) for hour in range(24)}
    assert set(data["by"]["lead_step"][CLIMATOLOGY]) == {str(step) for step in range(24)}
    assert set(data["by"]["day_type"][CLIMATOLOGY]) == {"weekday"}  # 1970-03-02 is a Monday
    assert data["scores"][YESTERDAY]["skill_over_yesterday"]["total_mae"] == 0.0
    assert "NaN" not in json.dumps(data)


def test_a_home_of_any_size_counts_the_same_in_the_pool(noise):
    one, tenth = card_of(noise), card_of(noise / 10, site="small")
    (pool,) = pools([one, tenth])
    alone = one.scores()[CLIMATOLOGY]
    assert pool.scores()[CLIMATOLOGY].mae == pytest.approx(alone.mae / one.tallies[CLIMATOLOGY].mean_actual)
    assert pool.scores()[CLIMATOLOGY].coverage == pytest.approx(alone.coverage)
    assert pool.scores()[CLIMATOLOGY].n_values == 2 * alone.n_values


def test_a_room_is_measured_against_the_mixture_that_stands_in_for_a_model(noise):
    warm = card_of(20 + noise / 100, site="warm", role="indoor_temperature")
    data = to_json(warm)
    assert (data["model"], yardstick(data["scores"])) == (MIXTURE, MIXTURE)
    assert list(data["scores"])[-3:] == [CHANGE, CLIMATOLOGY, MIXTURE]
    assert data["scores"][MIXTURE]["skill"]["crps"] == 0.0


def test_a_home_that_uses_nothing_is_scaled_by_one_watt(noise):
    (pool,) = pools([card_of(np.where(np.arange(noise.size) % 50 == 0, 1.0, 0.0))])
    assert pool.scores()["persistence"].mae < 0.1


def test_units_steps_and_models_are_not_mixed(noise):
    warm = card_of(20 + noise / 100, site="warm", role="indoor_temperature")
    fine = card_of(np.repeat(noise / 2, 2), site="fine", step_s=1800)
    other = replace(card_of(noise, site="other"), method="persistence")
    found = pools([card_of(noise), warm, fine, other])
    assert [[card.house.site for card in pool.cards] for pool in found] == [["warm"], ["other"], ["fine"], ["h"]]
    assert [pool.is_relative for pool in found] == [False, True, True, True]
    assert found[0].scores()[CLIMATOLOGY].mae == pytest.approx(warm.scores()[CLIMATOLOGY].mae)


def test_spread_names_the_ends_and_leaves_out_the_unknown():
    found = spread({"a": -0.2, "b": 0.1, "c": 0.3, "d": 0.5, "e": 0.6, "f": float("nan")})
    assert found.quartiles == pytest.approx((-0.2, 0.1, 0.3, 0.5, 0.6))
    assert (found.worst_home, found.best_home, found.n_homes, found.n_positive) == ("a", "e", 5, 4)
    assert spread({"f": float("nan")}).worst_home == ""


def test_a_pool_as_json_says_how_homes_differ(noise):
    data = pool_json(pools([card_of(noise), card_of(noise[::-1], site="back")])[0])
    assert data["homes"] == ["h:it", "back:it"]
    assert data["unit"] == "share of each home's mean"
    assert set(data["spread"]) == {"CRPS skill", "day skill", "day skill over yesterday"}
    skill = data["spread"]["CRPS skill"]
    assert skill["worst"] == skill["median"] == skill["best"] == 0.0  # the climatology beside itself
    assert skill["worst_home"] == skill["best_home"] == "h:it"
    assert json.dumps(data)
