from zoneinfo import ZoneInfo

import numpy as np
import pytest

from edge_agent.contract.errors import ConfigError, DataError
from edge_agent.contract.schema import Feature, parse_house
from edge_agent.contract.series import Series
from edge_agent.forecaster import Forecaster
from trainer.backtest import backtest, choose_origins
from trainer.baselines import CLIMATOLOGY, actual_values

DAY_S = 86_400
HOUSE = parse_house(
    """
    site = "h"
    time_zone = "UTC"
    step = 3600
    targets = [{ name = "energy", sensor = "mains" }]
    sensors = [{ name = "mains", role = "energy", column = "wh" }]
    """,
    source="test",
)


def house_series(values):
    return Series(0, 3600, (Feature("mains", "energy"),), np.asarray(values, float)[:, None])


@pytest.fixture
def same_every_day():
    """70 days, each with 0, 1, … 23 Wh in its hours."""
    return house_series(np.tile(np.arange(24.0), 70))


def test_a_house_that_repeats_itself_is_forecast_without_error(same_every_day):
    origins = choose_origins(same_every_day, DAY_S, start=None, end=None, every_s=3600)
    scores = backtest(Forecaster(HOUSE, None), same_every_day, origins).scores()
    assert scores[CLIMATOLOGY].crps == scores["same time yesterday"].mae == scores["28-day mean"].total_mae == 0.0
    # persistence repeats one of 0 … 23: the mean absolute difference of two numbers out of 24 is (24² - 1) / (3 · 24)
    assert scores["persistence"].mae == pytest.approx(575 / 72, rel=0.02)


def test_the_default_span_is_the_last_fifth_with_a_whole_day_after_each_origin(same_every_day):
    origins = choose_origins(same_every_day, DAY_S, start=None, end=None, every_s=DAY_S)
    assert origins.tolist() == [day * DAY_S for day in range(56, 70)]


def test_what_happened_is_unknown_beyond_the_series(same_every_day):
    builder = Forecaster(HOUSE, None).builder(same_every_day)
    actual = actual_values(builder, np.array([same_every_day.end - 3600]))
    assert actual[0, 0] == 23.0
    assert np.isnan(actual[0, 1:]).all()


def test_nothing_after_an_origin_changes_its_forecast(same_every_day):
    origins = np.array([60 * DAY_S])
    changed = same_every_day.values.copy()
    changed[60 * 24 :] = 1e6
    before = backtest(Forecaster(HOUSE, None), same_every_day, origins).of_model
    after = backtest(Forecaster(HOUSE, None), house_series(changed[:, 0]), origins).of_model
    np.testing.assert_array_equal(before.quantiles, after.quantiles)
    assert after.actual[0, 0] == 1e6


def test_unknown_steps_are_scored_for_no_method(same_every_day):
    values = same_every_day.values[:, 0].copy()
    values[61 * 24 + 5] = np.nan
    result = backtest(Forecaster(HOUSE, None), house_series(values), np.array([61 * DAY_S, 62 * DAY_S]))
    # the first origin's actual lacks that step; the second origin's "yesterday" lacks the same hour
    assert {row.n_values for row in result.scores().values()} == {48 - 2}


def test_a_span_without_a_whole_day_is_an_error(same_every_day):
    origins = choose_origins(same_every_day, DAY_S, start=same_every_day.end - 3600, end=None, every_s=3600)
    with pytest.raises(DataError, match="widen --from and --to"):
        backtest(Forecaster(HOUSE, None), same_every_day, origins)


def test_origins_off_the_grid_are_refused(same_every_day):
    with pytest.raises(ConfigError, match="no multiple"):
        choose_origins(same_every_day, DAY_S, start=None, end=None, every_s=600)


def test_the_reference_houses_baselines_are_those_of_the_literature(reference_house, reference_csv):
    """The yardstick, measured independently on the published table with its own clock as the calendar."""
    from dataclasses import replace

    from trainer.datasets import read_table

    house = replace(reference_house, time_zone="UTC", table_clock="utc")
    series = read_table(house, [reference_csv]).series
    assert house.zone == ZoneInfo("UTC")
    origins = choose_origins(series, DAY_S, start=None, end=None, every_s=3600)
    scores = backtest(Forecaster(house, None), series, origins).scores()
    assert len(origins) == 634
    assert scores["same time yesterday"].mae == pytest.approx(50.5, abs=0.05)
    assert scores["28-day mean"].total_mae == pytest.approx(2905, abs=0.5)
    assert scores[CLIMATOLOGY].crps == pytest.approx(28.9, abs=0.05)
    assert scores[CLIMATOLOGY].total_mae == pytest.approx(2823, abs=0.5)
