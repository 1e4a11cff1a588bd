"""Weather ahead: only what was issued by the origin counts, numbers worked out by hand."""

from dataclasses import replace
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from edge_agent.contract.bundle import read_shipped_bundle
from edge_agent.contract.errors import ConfigError, DataError
from edge_agent.contract.features import FeatureBuilder
from edge_agent.contract.plan import FeaturePlan
from edge_agent.contract.schema import Feature
from edge_agent.contract.series import Series
from edge_agent.contract.weather import PerfectWeather, WeatherForecast, WeatherForecasts

HOUR = 3600
NOON = 473_364 * HOUR  # 2024-01-01T12:00Z
ROLES = ("outdoor_temperature", "wind_speed")
NAN = float("nan")


def issue(issued_at, values, *, role="outdoor_temperature", first=None, spacing=HOUR):
    values = np.asarray(values, float)
    first = issued_at if first is None else first
    return WeatherForecast(role, issued_at, first + spacing * np.arange(len(values)), values)


def ahead(forecasts, origin, *, horizon=4, step_s=HOUR, roles=("outdoor_temperature",)):
    return WeatherForecasts(forecasts).ahead(np.array([origin]), horizon=horizon, step_s=step_s, roles=roles)[0]


def test_a_step_has_the_value_at_its_middle():
    assert ahead([issue(NOON, [0, 10, 20, 30, 40])], NOON)[:, 0].tolist() == [5, 15, 25, 35]
    assert ahead([issue(NOON, [0, 12])], NOON, step_s=600, horizon=3)[:, 0].tolist() == [1, 3, 5]


def test_the_newest_issue_at_or_before_the_origin_counts_and_no_later_one():
    forecasts = [issue(NOON + 1, [9] * 9, first=NOON), issue(NOON, [2] * 9), issue(NOON - HOUR, [1] * 9)]
    assert ahead(forecasts, NOON)[:, 0].tolist() == [2] * 4
    assert ahead(forecasts, NOON + HOUR)[:, 0].tolist() == [9] * 4


def test_each_role_has_its_own_newest_issue():
    forecasts = [issue(NOON - HOUR, [1] * 9), issue(NOON, [7] * 9, role="wind_speed")]
    assert ahead(forecasts, NOON, roles=ROLES).tolist() == [[1, 7]] * 4


def test_beyond_an_hour_after_the_last_valid_time_nothing_is_known():
    values = ahead([issue(NOON, [3, 3])], NOON)[:, 0]  # says something until 14:00
    np.testing.assert_array_equal(values, [3, 3, NAN, NAN])


def test_between_valid_times_far_apart_nothing_is_known():
    np.testing.assert_array_equal(ahead([issue(NOON, [0, 8], spacing=4 * HOUR)], NOON)[:, 0], [NAN] * 4)
    assert ahead([issue(NOON, [0, 6], spacing=3 * HOUR)], NOON, horizon=3)[:, 0].tolist() == [1, 3, 5]


def test_an_old_forecast_says_nothing_and_the_lack_is_told():
    forecasts = WeatherForecasts([issue(NOON - 13 * HOUR, [3] * 48)])
    assert np.isnan(forecasts.ahead(np.array([NOON]), horizon=2, step_s=HOUR, roles=ROLES)).all()
    assert (
        forecasts.lack("outdoor_temperature", NOON, seconds=HOUR) == "the last forecast of outdoor_temperature is 13 h old, 12 h at most are expected"
    )
    assert forecasts.lack("outdoor_temperature", NOON - 2 * HOUR, seconds=HOUR) is None
    assert forecasts.lack("wind_speed", NOON, seconds=HOUR) == "no forecast of wind_speed has come yet"
    short = WeatherForecasts([issue(NOON, [3, 3])])
    assert short.lack("outdoor_temperature", NOON, seconds=4 * HOUR) == "the forecast of outdoor_temperature covers 50% of the next 4 h"


@pytest.mark.parametrize(("times", "values"), [([0, 0], [1, 2]), ([0], [1, 2]), ([], []), ([0, 1], [1, NAN])])
def test_a_damaged_forecast_is_refused(times, values):
    with pytest.raises(DataError, match="wind_speed is damaged"):
        WeatherForecast("wind_speed", 0, np.array(times, np.int64), np.array(values, float))


def test_perfect_weather_is_the_mean_over_the_sensors_of_the_role():
    features = (Feature("north", "outdoor_temperature"), Feature("meter", "energy"), Feature("south", "outdoor_temperature"))
    series = Series(NOON, HOUR, features, np.array([[1, 5, 3], [NAN, 5, 4], [NAN, 5, NAN]], float))
    values = PerfectWeather(series).ahead(np.array([NOON, NOON + HOUR]), horizon=3, step_s=HOUR, roles=ROLES)
    np.testing.assert_array_equal(values[:, :, 0], [[2, 4, NAN], [4, NAN, NAN]])
    assert np.isnan(values[:, :, 1]).all()
    with pytest.raises(DataError, match="600 s"):
        PerfectWeather(series).ahead(np.array([NOON]), horizon=3, step_s=600, roles=ROLES)


def plan(**changes):
    made = FeaturePlan("energy", "energy", HOUR, 4, HOUR, 24, ("target",), ("lead",), weather=ROLES)
    return replace(made, **changes)


def builder(weather=None):
    series = Series(NOON, HOUR, (Feature("meter", "energy"),), np.ones((48, 1)))
    return FeatureBuilder(plan(), series, target="meter", zone=ZoneInfo("UTC"), weather=weather)


def test_model_inputs_hold_the_weather_or_nan():
    origins = np.array([NOON + 24 * HOUR, NOON + 25 * HOUR])
    assert np.isnan(builder().inputs(origins).arrays["weather"]).all()
    weather = builder(WeatherForecasts([issue(int(origins[0]), [5] * 9)])).inputs(origins).arrays["weather"]
    assert weather.shape == (2, *plan().input_shapes()["weather"]) == (2, 4, 2)
    assert (weather[:, :, 0] == 5).all()
    assert np.isnan(weather[:, :, 1]).all()


def before(forecasts, times, *, step_s=HOUR, role="outdoor_temperature"):
    return WeatherForecasts(forecasts).before(np.asarray(times), step_s=step_s, role=role)


def test_of_a_past_step_the_newest_forecast_issued_by_its_beginning_counts():
    forecasts = [issue(NOON - HOUR, [1] * 9), issue(NOON + 1, [2] * 9), issue(NOON + 2 * HOUR, [3] * 9)]
    np.testing.assert_array_equal(before(forecasts, NOON + HOUR * np.arange(-2, 4)), [NAN, 1, 1, 2, 3, 3])
    assert np.isnan(before(forecasts, [NOON], role="wind_speed")).all()
    assert before([issue(NOON, [0, 12])], NOON + 600 * np.arange(3), step_s=600).tolist() == [1, 3, 5]


def test_of_a_past_step_a_forecast_older_than_twelve_hours_says_nothing():
    np.testing.assert_array_equal(before([issue(NOON, [3] * 48)], [NOON + 12 * HOUR, NOON + 13 * HOUR]), [3, NAN])


def test_the_first_hours_of_a_forecast_say_what_the_whole_says_of_the_past():
    whole = issue(NOON, np.arange(60) ** 1.5, first=NOON - 12 * HOUR)
    times = NOON + 600 * np.arange(-6, 13 * 6)
    near = whole.near_issue()
    assert len(near.times) == 19
    np.testing.assert_array_equal(before([near], times, step_s=600), before([whole], times, step_s=600))
    assert issue(NOON, [1, 2], first=NOON + 24 * HOUR).near_issue() is None


def context(weather, thermometers, origins, *, step_s=HOUR, context_step_s=HOUR):
    """Outdoor temperature in the context of the last four intervals before each origin."""
    n_steps = 48 * HOUR // step_s
    features = (Feature("meter", "energy"), *(Feature(f"t{i}", "outdoor_temperature") for i in range(len(thermometers))))
    values = np.stack([np.ones(n_steps), *(np.broadcast_to(t, n_steps) for t in thermometers)], axis=1)
    reading = plan(step_s=step_s, context_step_s=context_step_s, context_length=4, context=("target", "role:outdoor_temperature"))
    series = Series(NOON, step_s, features, values)
    made = FeatureBuilder(reading, series, target="meter", zone=ZoneInfo("UTC"), weather=weather)
    return made.inputs(np.array(origins)).arrays["context"][:, :, 1]


def hourly_issues(n):
    """At hour i a forecast of i degrees for good."""
    return WeatherForecasts([issue(NOON + i * HOUR, [i] * 24) for i in range(n)])


def test_forecasts_stand_in_for_a_thermometer_that_is_not_there_or_was_silent():
    origin = [NOON + 24 * HOUR]
    np.testing.assert_array_equal(context(hourly_issues(48), [], origin), [[20, 21, 22, 23]])
    silent = np.where(np.arange(48) == 22, NAN, -5.0)
    np.testing.assert_array_equal(context(hourly_issues(48), [silent], origin), [[-5, -5, 22, -5]])
    np.testing.assert_array_equal(context(hourly_issues(48), [silent, np.full(48, -7.0)], origin), [[-6, -6, -7, -6]])
    np.testing.assert_array_equal(context(None, [silent], origin), [[-5, -5, NAN, -5]])
    np.testing.assert_array_equal(context(hourly_issues(12), [], [NOON + 25 * HOUR]), [[11, 11, 11, NAN]])


@pytest.mark.parametrize(("step_s", "context_step_s"), [(600, HOUR), (HOUR, 1800), (1800, HOUR)])
def test_forecasts_stand_in_on_every_grid(step_s, context_step_s):
    found = context(hourly_issues(48), [], [NOON + 24 * HOUR], step_s=step_s, context_step_s=context_step_s)
    hours = 24 + np.arange(-4, 0) * context_step_s / HOUR
    np.testing.assert_array_equal(found, [np.floor(hours)])


def test_what_is_forecast_after_an_origin_changes_nothing_of_its_past():
    origin = NOON + 24 * HOUR
    known = [issue(NOON + i * HOUR, [i] * 24) for i in range(24)]
    later = [issue(origin + i * 600 + 1, [99] * 24, first=NOON) for i in range(6)]
    for forecasts in (known, known + later):
        np.testing.assert_array_equal(context(WeatherForecasts(forecasts), [], [origin]), [[20, 21, 22, 23]])


def test_what_was_measured_later_stands_in_for_nothing():
    series = Series(NOON, HOUR, (Feature("t0", "outdoor_temperature"),), np.ones((48, 1)))
    assert np.isnan(context(PerfectWeather(series), [], [NOON + 24 * HOUR])).all()


def test_a_plan_with_weather_survives_its_json_form_and_one_without_has_no_such_key():
    assert FeaturePlan.from_dict(plan().to_dict()) == plan()
    bare = plan(weather=())
    assert "weather" not in bare.to_dict()
    assert FeaturePlan.from_dict(bare.to_dict()) == bare
    assert "weather" not in bare.input_shapes()


def test_a_plan_of_a_first_release_is_read_as_one_without_weather():
    assert read_shipped_bundle() is not None


def test_a_plan_names_the_weather_channels_for_the_manifest():
    assert plan().describe()[-2:] == [
        {"input": "weather", "name": "outdoor_temperature", "unit": "degC"},
        {"input": "weather", "name": "wind_speed", "unit": "m/s"},
    ]


def test_a_role_that_no_forecast_tells_is_refused():
    with pytest.raises(ConfigError, match="no forecast of role 'co2'"):
        plan(weather=("co2",))
