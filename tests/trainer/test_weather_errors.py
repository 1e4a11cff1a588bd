import numpy as np
import pytest

from edge_agent.contract.schema import WEATHER_ROLES, Feature
from edge_agent.contract.series import Series
from edge_agent.contract.weather import PerfectWeather
from trainer.weather_errors import SIZES, FaultyForecasts

HOUR = 3600
ORIGINS = 1_767_225_600 + HOUR * np.arange(4000)


class Still:
    """Every role has one value for ever."""

    def __init__(self, value):
        self.value = value

    def ahead(self, origins, *, horizon, step_s, roles):
        return np.full((len(origins), horizon, len(roles)), self.value, np.float32)


def faulty(value=50.0, *, seed=0, origins=ORIGINS, horizon=36, step_s=HOUR, roles=WEATHER_ROLES):
    return FaultyForecasts(Still(value), seed=seed).ahead(origins, horizon=horizon, step_s=step_s, roles=roles)


def test_every_weather_role_has_its_errors():
    assert tuple(SIZES) == WEATHER_ROLES


def test_the_temperature_is_off_by_a_kelvin_after_six_hours_and_two_after_a_day():
    spread = (faulty()[:, :, 0] - 50).std(axis=0)
    assert spread[6] == pytest.approx(1.04, rel=0.1)
    assert spread[24] == pytest.approx(2.0, rel=0.1)
    assert spread[35] == pytest.approx(2.0, rel=0.1)


def test_an_error_lasts_for_hours_and_not_for_a_day():
    error = faulty()[:, :, 0] - 50
    assert np.corrcoef(error[:, 10], error[:, 11])[0, 1] > 0.75
    assert abs(np.corrcoef(error[:, 2], error[:, 28])[0, 1]) < 0.1


def test_neighbouring_origins_have_different_errors():
    error = faulty()[:, 12, 0]
    assert abs(np.corrcoef(error[:-1], error[1:])[0, 1]) < 0.1


def test_the_night_stays_dark_and_nothing_leaves_its_range():
    assert (faulty(0.0)[:, :, 3] == 0).all()
    assert (faulty(0.5)[:, :, 2] >= 0).all()
    assert faulty(99.0)[:, :, 1].max() <= 100


def test_origin_and_seed_decide_and_nothing_else():
    np.testing.assert_array_equal(faulty()[7:9], faulty(origins=ORIGINS[7:9]))
    assert not np.array_equal(faulty(seed=1), faulty())


def test_finer_steps_see_the_same_error():
    hourly, fine = faulty(roles=WEATHER_ROLES[:1], horizon=24), faulty(roles=WEATHER_ROLES[:1], horizon=144, step_s=600)
    np.testing.assert_allclose(fine.reshape(len(ORIGINS), 24, 6).mean(axis=2)[:, 5], hourly[:, 5, 0], atol=0.3)


def test_they_stand_in_for_no_sensor_in_training():
    series = Series(int(ORIGINS[0]), HOUR, (Feature("north", "outdoor_temperature"),), np.ones((48, 1)))
    faulty_ones = FaultyForecasts(PerfectWeather(series), seed=0)
    assert np.isnan(faulty_ones.before(ORIGINS[:48], step_s=HOUR, role="outdoor_temperature")).all()


def test_unknown_stays_unknown():
    assert np.isnan(faulty(np.nan)).all()
