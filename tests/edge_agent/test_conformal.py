"""Corrections by hand, and what must hold: bounded, ascending, each day counted once, the band true in the long run."""

from dataclasses import replace
from datetime import date, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from edge_agent.config import HistoryLimits
from edge_agent.conformal import MOST, Bands, Correction, Offsets
from edge_agent.contract.localtime import DAY_S, day_bounds
from edge_agent.contract.schema import parse_house
from edge_agent.contract.series import Series
from edge_agent.forecaster import Forecaster
from edge_agent.health import Health
from edge_agent.history import History
from edge_agent.issued import IssuedForecast, add_issued
from edge_agent.keeping import Keeper
from edge_agent.plausibility import absurdity
from edge_agent.steps import ClosedStep

HOUR = 3600
LEVELS = (0.1, 0.5, 0.9)
FIRST = date(2026, 6, 2)
START = day_bounds(FIRST, ZoneInfo("Europe/Berlin"))[0]
HOUSE_TOML = """
site = "home"
time_zone = "Europe/Berlin"
step = 3600
targets = [{name = "energy", sensor = "meter"}]
sensors = [{name = "meter", role = "energy", topic = "z/meter", field = "energy", topic_unit = "kWh"}]
"""
HOUSE = parse_house(HOUSE_TOML, source="house.toml")
NONE = Offsets.none(LEVELS, least=0.0)
BAND = np.broadcast_to([10.0, 50.0, 90.0], (2, 24, 3))


@pytest.fixture
def history(tmp_path):
    with History(tmp_path / "history.db") as history:
        yield history


def issued(history, hours, *, model="ours", grade="full"):
    def one(hour):
        origin = START + HOUR * hour
        return IssuedForecast("energy", model, "live", origin, origin + 5, HOUR, LEVELS, BAND[0].astype(np.float32), np.full(24, 50.0), grade, None)

    add_issued(history, [one(hour) for hour in hours])


def happened(history, hours, *, value):
    history.close_steps([ClosedStep(START + HOUR * hour, {"meter": value}, ()) for hour in hours], {})


def test_without_offsets_nothing_changes():
    np.testing.assert_array_equal(NONE.apply(BAND), BAND)


def test_offsets_after_a_day_above_the_band_are_those_worked_out_by_hand():
    # every level is missed by itself: 0.1, 0.5, 0.9; a hundredth of it, and 0.3 x (0.9 - 0.1) / 2 = 0.12 for the width
    after = NONE.after(BAND, np.full((2, 24), 95.0))
    np.testing.assert_allclose(after.values, np.tile([0.001 - 0.12, 0.005, 0.009 + 0.12], (8, 1)))
    # read a quarter of the way between two levels: 0.4 levels are 40 Wh
    np.testing.assert_allclose(after.apply(BAND)[0, 0], [max(10 - 11.9, 0), 50.5, 90 + 12.9])


def test_only_the_lead_times_that_are_known_move_by_themselves():
    actual = np.full((2, 24), np.nan)
    actual[:, 3:6] = 30.0  # 0.1 and 0.9 missed by 0.1 each the band is too wide
    after = NONE.after(BAND, actual)
    width = 0.3 * 0.1 / 8
    np.testing.assert_allclose(after.values[1], [0.001 + width, -0.005, -0.001 - width])
    np.testing.assert_allclose(after.values[0], [width, 0.0, -width])


def test_nothing_known_changes_nothing():
    np.testing.assert_array_equal(NONE.after(BAND, np.full((2, 24), np.nan)).values, NONE.values)


def test_a_quantile_that_is_what_happened_is_met():
    nothing = np.zeros((2, 24, 3))
    np.testing.assert_array_equal(NONE.after(nothing, np.zeros((2, 24))).values, NONE.values)


def test_offsets_stay_bounded_and_levels_ascend_whatever_happens():
    dice, offsets = np.random.default_rng(0), NONE
    for day in range(200):
        actual = dice.choice([0.0, 1e9, 50.0], (2, 24)) if day % 50 else np.full((2, 24), 1e9)
        offsets = offsets.after(BAND, actual)
        assert np.abs(offsets.values).max() <= MOST + 1e-12
        assert (np.diff(np.asarray(LEVELS) + offsets.values) >= 0).all()
        assert (np.diff(offsets.apply(BAND)) >= 0).all()
        assert (offsets.apply(BAND) >= 0).all()


def test_temperatures_may_fall_below_zero():
    wide = replace(Offsets.none(LEVELS, least=-np.inf), values=np.tile([-0.1, 0.0, 0.1], (8, 1)))
    np.testing.assert_allclose(wide.apply(np.full((1, 8, 3), [1.0, 5.0, 9.0]))[0, 0], [0.0, 5.0, 10.0])
    np.testing.assert_allclose(wide.apply(np.full((1, 8, 3), [0.0, 4.0, 8.0]))[0, 0], [-1.0, 4.0, 9.0])


def test_what_is_published_is_as_plausible_as_what_the_model_says(tmp_path):
    """A meter of at most 15 kW, a model that comes close to it, and bands that were too narrow for weeks."""
    house = parse_house(HOUSE_TOML.replace('topic_unit = "kWh"', 'topic_unit = "kWh", valid = [0, 15_000]'), source="house.toml")
    forecaster = Forecaster(house, None)
    levels = forecaster.plan.quantile_levels
    keeper = Keeper(History(tmp_path / "history.db"), HistoryLimits(), Health(house), is_replay=False)
    keeper.open(house)
    offsets = np.tile(np.linspace(-MOST, MOST, len(levels)), (8, 1))
    correction = Correction("energy", forecaster.model_id, replace(Offsets.none(levels, least=0.0), values=offsets))
    keeper.save_state("correction energy", correction.to_json())
    quantiles = np.tile(np.linspace(200.0, 14_000.0, len(levels)), (24, 1))
    past = Series(START - 28 * DAY_S, HOUR, house.features, np.full((28 * 24, 1), 7_000.0))
    forecast = replace(forecaster.forecast(past, START, issued_at=START), quantiles=quantiles)
    published = Bands(house, keeper).corrected(forecaster, forecast)
    keeper.close()
    assert published.quantiles[0, 0] == 0.0
    assert published.quantiles[0, -1] == 15_000.0
    assert absurdity(published.quantiles, published.mean, past, house.sensor("meter"), START) is None


@pytest.mark.parametrize("spread", [0.5, 2.0])
def test_a_band_half_or_twice_as_wide_as_it_should_be_becomes_true(spread):
    levels = tuple(np.round(np.arange(0.1, 0.95, 0.1), 1))
    true = np.array([-1.2816, -0.8416, -0.5244, -0.2533, 0.0, 0.2533, 0.5244, 0.8416, 1.2816])  # of the normal distribution
    quantiles = np.broadcast_to(spread * true, (4, 24, 9))
    dice, offsets, inside = np.random.default_rng(1), Offsets.none(levels, least=-np.inf), []
    for _ in range(58):
        actual, band = dice.normal(size=(4, 24)), offsets.apply(quantiles)
        inside.append(((band[..., 0] <= actual) & (actual <= band[..., -1])).mean())
        offsets = offsets.after(quantiles, actual)
    assert abs(np.mean(inside[-28:]) - 0.8) < 0.02


def test_each_day_counts_once_and_only_when_its_forecasts_have_ended(history):
    issued(history, range(48))
    happened(history, range(47), value=95.0)
    new = Correction("energy", "ours", NONE)
    assert new.extended(history, HOUSE, most_days=7) is new
    happened(history, [47], value=95.0)
    once = new.extended(history, HOUSE, most_days=7)
    assert once.looked_until == FIRST
    np.testing.assert_allclose(once.offsets.values, NONE.after(BAND, np.full((2, 24), 95.0)).values)
    assert once.extended(history, HOUSE, most_days=7) is once


def test_a_restart_goes_on_from_what_was_stored(history):
    issued(history, range(96))
    happened(history, range(96), value=95.0)
    new = Correction("energy", "ours", NONE)
    at_once = new.extended(history, HOUSE, most_days=7)
    assert at_once.looked_until == FIRST + timedelta(days=2)
    in_pieces = new
    for _ in range(3):
        history.save_state("it", in_pieces.extended(history, HOUSE, most_days=1).to_json())
        in_pieces = new.continued(history.state("it"))
    assert in_pieces.looked_until == at_once.looked_until
    np.testing.assert_allclose(in_pieces.offsets.values, at_once.offsets.values, atol=1e-5)
    assert Correction("energy", "another", NONE).continued(in_pieces.to_json()).looked_until is None


def test_other_models_and_the_climatology_in_a_models_place_teach_nothing(history):
    issued(history, range(24), model="another")
    issued(history, range(24), grade="baseline")
    happened(history, range(72), value=95.0)
    after = Correction("energy", "ours", NONE).extended(history, HOUSE, most_days=7)
    np.testing.assert_array_equal(after.offsets.values, NONE.values)


def test_a_clock_that_was_a_year_ahead_does_not_end_the_learning(history):
    issued(history, range(72))
    happened(history, range(72), value=95.0)
    ahead = Correction("energy", "ours", NONE, looked_until=FIRST + timedelta(days=365))
    learnt = ahead.extended(history, HOUSE, most_days=7)
    assert learnt.looked_until == FIRST + timedelta(days=1)
    assert learnt.extended(history, HOUSE, most_days=7) is learnt
