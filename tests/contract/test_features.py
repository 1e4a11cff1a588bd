"""Features: known values by hand, and no value at or after an origin changes an input."""

from dataclasses import replace
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.contract.baseline import QUANTILE_LEVELS
from edge_agent.contract.errors import ConfigError, DataError
from edge_agent.contract.features import FeatureBuilder, calendar
from edge_agent.contract.localtime import local_seconds
from edge_agent.contract.plan import CALENDAR, FUTURE, LAGS, FeaturePlan
from edge_agent.contract.schema import ROLES, Feature, parse_house
from edge_agent.contract.series import Series

NAN = float("nan")
UTC = ZoneInfo("UTC")
DAY = 86_400
MONDAY = int(datetime.fromisoformat("2026-03-02T00:00Z").timestamp())
FEATURES = (Feature("meter", "energy"), Feature("kitchen", "indoor_temperature"), Feature("bed", "indoor_temperature"), Feature("dial", "co2"))
EVERYTHING = ("target", "sensor:kitchen", *(f"role:{role}" for role in ROLES), *CALENDAR)
"""Every context feature there is."""


def plan(step_s=600, *, context_step_s=1800, days=7, context=EVERYTHING, future=FUTURE, anchored=True, horizon_days=1):
    horizon = horizon_days * DAY // step_s
    length = days * DAY // context_step_s
    return FeaturePlan(
        "energy", "energy", step_s, horizon, context_step_s, length, context, future, anchored=anchored, daily_length=20 if anchored else 0
    )


def history(days=30, *, step_s=600, seed=0, gaps=0.1, start=MONDAY):
    rng = np.random.default_rng(seed)
    values = rng.gamma(1.0, 60.0, (days * DAY // step_s, len(FEATURES)))
    values[rng.random(values.shape) < gaps] = NAN
    return Series(start, step_s, FEATURES, values)


def builder(which, series, *, zone="UTC", **options):
    return FeatureBuilder(which, series, target="meter", zone=ZoneInfo(zone), **options)


def channel(which, series, name, origin, **options):
    """One channel of one origin's inputs."""
    inputs = builder(which, series, **options).inputs(np.array([origin])).arrays
    names, values = (which.context, inputs["context"]) if name in which.context else (which.future, inputs["future"])
    return values[0, :, names.index(name)]


@settings(max_examples=40)
@given(st.data())
def test_nothing_at_or_after_the_origin_is_read(data):
    step_s = data.draw(st.sampled_from((600, 900, 3600)))
    which = plan(step_s, horizon_days=data.draw(st.sampled_from((1, 2))))
    series = history(20, step_s=step_s, seed=data.draw(st.integers(0, 9)), start=MONDAY + 20 * DAY)  # summer time begins on the seventh day
    row = data.draw(st.integers(0, len(series)))
    origin = np.array([series.start + row * step_s])
    changed = series.values.copy()
    changed[row:] = data.draw(st.sampled_from((NAN, 0.0, 1e9)))
    zone = data.draw(st.sampled_from(("UTC", "Europe/Brussels", "Australia/Lord_Howe")))
    before, after = (builder(which, s, zone=zone).inputs(origin).arrays for s in (series, replace(series, values=changed)))
    for name in which.input_shapes():
        np.testing.assert_array_equal(before[name], after[name], err_msg=name)


@settings(max_examples=20)
@given(st.data())
def test_a_batch_equals_one_by_one(data):
    step_s = data.draw(st.sampled_from((600, 1800, 3600)))
    which, series = plan(step_s), history(15, step_s=step_s)
    rows = data.draw(st.lists(st.integers(0, len(series)), min_size=1, max_size=5))
    origins = series.start + step_s * np.array(rows)
    together = builder(which, series).inputs(origins).arrays
    assert {name: array.shape for name, array in together.items()} == {name: (len(rows), *shape) for name, shape in which.input_shapes().items()}
    assert {array.dtype for array in together.values()} == {np.dtype(np.float32)}
    for i, origin in enumerate(origins):
        alone = builder(which, series.between(series.start, int(origin)), first_origin=int(origin)).inputs(origins[i : i + 1]).arrays
        for name in together:
            np.testing.assert_array_equal(together[name][i], alone[name][0], err_msg=name)


def test_the_target_is_averaged_over_each_context_interval():
    series = replace(history(10), values=np.arange(10 * 144.0)[:, None] * [1, 0, 0, 0])
    target = channel(plan(), series, "target", series.end)
    assert target[-1] == np.mean([1437, 1438, 1439])
    assert target[0] == np.mean([1440 - 1008, 1440 - 1007, 1440 - 1006])


def test_a_context_interval_is_known_when_half_of_it_is():
    series = history(10, gaps=0.0)
    series.values[-3:, 0], series.values[-6:-3, 0] = [NAN, 4.0, 8.0], [NAN, NAN, 4.0]
    np.testing.assert_array_equal(channel(plan(), series, "target", series.end)[-2:], np.float32([NAN, 6.0]))


def test_an_hourly_house_repeats_its_values_in_a_half_hourly_context():
    series = history(10, step_s=3600, gaps=0.0)
    target = channel(plan(3600), series, "target", series.end)
    np.testing.assert_array_equal(target[-4:], np.float32(np.repeat(series.values[-2:, 0], 2)))
    sine = channel(plan(3600), series, "time_of_day_sin", series.end)
    np.testing.assert_allclose(sine[-2:], np.sin(2 * np.pi * np.array([23.0, 23.5]) / 24), atol=1e-6)


def test_a_role_is_the_mean_of_its_known_sensors():
    series = history(10, gaps=0.0)
    series.values[-9:, 1:3] = [[20.0, 22.0]] * 3 + [[20.0, NAN]] * 3 + [[NAN, NAN]] * 3
    temperature = channel(plan(), series, "role:indoor_temperature", series.end)
    np.testing.assert_array_equal(temperature[-3:], np.float32([21.0, 20.0, NAN]))
    np.testing.assert_array_equal(channel(plan(), series, "sensor:kitchen", series.end)[-3:], np.float32([20.0, 20.0, NAN]))


def test_a_role_without_sensors_is_unknown():
    series = history(10)
    assert np.isnan(channel(plan(), series, "role:pressure", series.end)).all()


def test_a_series_shorter_than_the_context_is_unknown_before_it_begins():
    series = history(1, gaps=0.0)
    inputs = builder(plan(), series).inputs(np.array([series.start, series.end])).arrays
    target = inputs["context"][:, :, 0]
    assert np.isnan(target[0]).all()
    assert np.isfinite(target[1]).sum() == 48
    assert np.isfinite(inputs["context"][:, :, [EVERYTHING.index(name) for name in CALENDAR]]).all()
    assert (inputs["anchor"][0] == 0).all()
    assert inputs["scale"][0, 0] == pytest.approx(1 / 6)  # Wh that 1 W makes in ten minutes


@pytest.mark.parametrize(
    ("zone", "time", "hour", "weekday"),
    [
        ("UTC", "2026-03-02T00:00Z", 0.0, 0),  # a Monday
        ("UTC", "2026-03-01T18:00Z", 18.0, 6),
        ("Europe/Brussels", "2026-03-01T23:30Z", 0.5, 0),
        ("Europe/Brussels", "2026-07-04T22:00Z", 0.0, 6),  # summer time
        ("America/St_Johns", "2026-01-03T03:00Z", 23.5, 4),
        ("Australia/Lord_Howe", "2026-06-05T13:30Z", 0.0, 5),
    ],
)
def test_calendar_by_hand(zone, time, hour, weekday):
    row = calendar(np.array([int(datetime.fromisoformat(time).timestamp())]), ZoneInfo(zone))[0]
    day, week = 2 * np.pi * hour / 24, 2 * np.pi * (weekday + hour / 24) / 7
    np.testing.assert_allclose(row, [np.sin(day), np.cos(day), np.sin(week), np.cos(week), weekday >= 5], atol=1e-6)


@given(st.sampled_from(("UTC", "Australia/Lord_Howe", "Asia/Kathmandu", "America/Santiago")), st.integers(0, 40_000_000))
def test_the_calendar_goes_round_once_a_day_and_once_a_week(zone, offset):
    times = MONDAY + offset // 300 * 300 + np.arange(0, DAY, 1800)
    rows, share = calendar(times, ZoneInfo(zone)), local_seconds(times, ZoneInfo(zone)) / DAY
    np.testing.assert_allclose(rows[:, 0] + 1j * rows[:, 1], 1j * np.exp(-2j * np.pi * share), atol=1e-6)
    np.testing.assert_allclose(rows[:, 2] + 1j * rows[:, 3], 1j * np.exp(-2j * np.pi * (share + 3) / 7), atol=1e-5)


def test_future_calendar_is_that_of_the_horizon():
    series = history(10)
    inputs = builder(plan(context=("target",)), series).inputs(np.array([series.end])).arrays
    np.testing.assert_array_equal(inputs["future"][0, :, :5], calendar(series.end + 600 * np.arange(144), UTC))


def test_lead_runs_from_zero_to_one():
    series = history(10)
    lead = channel(plan(), series, "lead", series.end)
    np.testing.assert_allclose(lead[[0, 71, -1]], [0.5 / 144, 71.5 / 144, 143.5 / 144])


@pytest.mark.parametrize("days", [1, 2, 7])
def test_lags_by_hand(days):
    series = replace(history(10), values=np.arange(10 * 144.0)[:, None] * [1, 0, 0, 0])
    lag = channel(plan(), series, f"lag_{days}d", series.end)
    np.testing.assert_array_equal(lag, 1440 + np.arange(144) - 144 * days)


def test_the_hour_around_a_lag_is_centred_on_the_step():
    values = np.zeros((10 * 144, 4))
    values[-100:-93, 0] = [10.0, 1.0, 2.0, 3.0, 4.0, 5.0, 20.0]  # half of the first and last, all of the five between
    series = replace(history(10), values=values)
    hour = channel(plan(), series, "lag_1d_hour", series.end)
    assert hour[144 - 97] == pytest.approx((10 / 2 + 1 + 2 + 3 + 4 + 5 + 20 / 2) / 6)


def test_the_hour_around_a_lag_ends_at_the_origin():
    values = np.zeros((10 * 144, 4))
    values[-5:, 0] = [8.0, 1.0, 2.0, 3.0, 4.0]
    hour = channel(plan(), replace(history(10), values=values), "lag_1d_hour", MONDAY + 10 * DAY)
    assert hour[143] == pytest.approx((1 / 2 + 2 + 3 + 4) / 3.5)
    assert hour[142] == pytest.approx((8 / 2 + 1 + 2 + 3 + 4) / 4.5)
    assert hour[141] == pytest.approx((8 + 1 + 2 + 3 + 4) / 5.5)  # the step before these five is half inside, and zero


def test_a_lag_that_is_not_yet_past_is_unknown():
    series = history(20, gaps=0.0)
    inputs = builder(plan(horizon_days=2), series).inputs(np.array([series.start + 10 * DAY])).arrays["future"][0]
    lag_1d, lag_2d = (inputs[:, FUTURE.index(name)] for name in ("lag_1d", "lag_2d"))
    assert np.isfinite(lag_1d[:144]).all()
    assert np.isnan(lag_1d[144:]).all()
    assert np.isfinite(lag_2d).all()
    assert np.isnan(inputs[147:, FUTURE.index("lag_1d_hour")]).all()


def test_unknown_hours_stay_unknown_and_half_known_ones_are_averaged():
    series = history(10, gaps=0.0)
    series.values[:, 0] = NAN
    series.values[-100, 0] = 6.0
    hour = channel(plan(), series, "lag_1d_hour", series.end)
    np.testing.assert_array_equal(np.flatnonzero(np.isfinite(hour)), 44 + np.arange(-3, 4))
    assert set(hour[np.isfinite(hour)]) == {6.0}


def test_anchor_and_scale_are_those_of_the_climatology():
    series = history(20)
    which = builder(plan(), series)
    inputs = which.inputs(np.array([series.end])).arrays
    quantiles, mean = which.climatology.filled(len(series), 144)
    np.testing.assert_allclose(inputs["anchor"][0], np.column_stack([quantiles, mean]), rtol=1e-6)
    assert inputs["scale"][0, 0] == pytest.approx(np.nanmean(series.values[:, 0]), rel=1e-6)
    given = np.ones((1, 144, 10), np.float32)
    assert which.inputs(np.array([series.end]), given).arrays["anchor"] is given


def test_the_scale_looks_back_four_weeks():
    series = history(40, gaps=0.0)
    series.values[: 12 * 144, 0], series.values[12 * 144 :, 0] = 1e6, 50.0
    assert builder(plan(), series).scales(np.array([series.end])).tolist() == [[50.0]]


@pytest.mark.parametrize(("future", "days"), [((), 3), (CALENDAR, 3), (("lead", "lag_1d"), 29)])
def test_a_plan_without_anchor_still_looks_back_as_far_as_its_lags(future, days):
    assert plan(days=3, future=future, anchored=False).history_s == days * DAY
    assert plan(days=3, future=future).history_s == 57 * DAY


def test_known_share_counts_steps():
    series = history(2, gaps=0.0)
    series.values[-36:, 1] = NAN
    which = builder(plan(), series)
    assert which.known_share(series.end, "kitchen", DAY) == 0.75
    assert which.known_share(series.end, "meter", 4 * DAY) == 0.5
    assert which.known_share(series.start, "meter", DAY) == 0.0
    together = which.known_shares(np.array([series.end, series.start + DAY, series.start]), "kitchen", DAY)
    assert together.tolist() == [which.known_share(origin, "kitchen", DAY) for origin in (series.end, series.start + DAY, series.start)]


def test_origins_must_lie_on_the_series():
    series = history(2)
    for wrong in (series.start - 600, series.end + 600, series.start + 1):
        with pytest.raises(DataError, match="an origin lies outside the series or off its grid of 600 s"):
            builder(plan(), series).inputs(np.array([series.start, wrong]))
    with pytest.raises(DataError, match="outside"):
        builder(plan(), series, first_origin=series.end).inputs(np.array([series.start]))


def test_plan_and_series_must_share_their_step():
    with pytest.raises(DataError, match="steps of 600 s, the series of 3600 s"):
        builder(plan(), history(2, step_s=3600))
    with pytest.raises(DataError, match="no feature 'attic'"):
        builder(plan(context=("sensor:attic",)), history(2))


@pytest.mark.parametrize("step_s", [300, 900, 1800, 3600])
def test_an_anchored_plan_runs_at_any_step(step_s):
    at_step = plan().at_step(step_s)
    assert (at_step.step_s, at_step.horizon, at_step.context_length) == (step_s, DAY // step_s, 336)
    series = history(10, step_s=step_s)
    inputs = builder(at_step, series).inputs(np.array([series.end])).arrays
    assert {name: array.shape[1:] for name, array in inputs.items()} == at_step.input_shapes()


def test_a_plan_of_raw_sensors_keeps_its_step():
    with pytest.raises(ConfigError, match="steps of 600 s, the house has 900 s: set step = 600"):
        plan(anchored=False).at_step(900)
    with pytest.raises(ConfigError, match="the house has 3600 s"):
        replace(plan(), horizon=10).at_step(3600)  # 100 minutes
    assert plan().at_step(600) == plan()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"context": ("role:indor_temperature",)}, "did you mean 'indoor_temperature'"),
        ({"context": ("weeknd",)}, "unknown context feature 'weeknd': did you mean 'weekend'"),
        ({"future": ("lag_9d",)}, "unknown future feature 'lag_9d'"),
        ({"role": "enrgy"}, "did you mean 'energy'"),
        ({"horizon": 0}, "horizon is 0"),
        ({"step_s": "600"}, "step_s is '600'"),
        ({"context_length": True}, "context_length is True"),
        ({"context_step_s": 1000}, "one must divide the other"),
        ({"quantile_levels": (0.1, 0.9, 0.5)}, "ascending"),
        ({"quantile_levels": (0.25, 0.5, 0.75)}, "among them"),
        ({"quantile_levels": (0.0, 0.1, 0.5, 0.9)}, "between 0 and 1"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        replace(plan(), **change)


def test_a_plan_survives_its_json_form():
    assert FeaturePlan.from_dict(plan().to_dict()) == plan()
    with pytest.raises(ConfigError, match=r"missing or unknown keys \['horizon', 'horizont'\]"):
        FeaturePlan.from_dict({("horizont" if k == "horizon" else k): v for k, v in plan().to_dict().items()})


def test_a_plan_describes_every_channel_in_order():
    which = replace(plan(context=("target", "sensor:dial", "role:co2", "weekend"), future=("lead", "lag_1d_hour")), daily_length=2)
    rows = which.describe()
    assert [row["name"] for row in rows] == [
        *("target", "sensor:dial", "role:co2", "weekend", "lead", "lag_1d_hour", "mean_2d_ago", "mean_1d_ago"),
        *(f"q{level}" for level in QUANTILE_LEVELS),
        *("mean", "mean_28d"),
    ]
    assert [row["unit"] for row in rows[:6]] == ["Wh", "canonical unit of the sensor", "ppm", "1", "1", "Wh"]
    assert sum(shape[-1] for shape in which.input_shapes().values()) == len(rows)
    assert set(LAGS) < set(FUTURE)


HOUSE = """
site = "h"
time_zone = "UTC"
[[targets]]
name = "energy"
sensor = "meter"
[[targets]]
name = "warmth"
sensor = "bed"
[[sensors]]
name = "dial"
role = "co2"
column = "c"
[[sensors]]
name = "bed"
role = "indoor_temperature"
column = "b"
[[sensors]]
name = "meter"
role = "energy"
column = "m"
[[sensors]]
name = "hall"
role = "indoor_temperature"
column = "h"
"""


def test_a_plan_names_the_sensors_that_it_reads_the_target_first():
    house = parse_house(HOUSE, source="x")
    assert plan(context=("role:indoor_temperature", "sensor:bed", "target")).sensors(house) == ("meter", "bed", "hall")
    with pytest.raises(ConfigError, match="no sensor 'kitchen'"):
        plan().sensors(house)
    with pytest.raises(ConfigError, match="target 'warmth' of house 'h' is indoor_temperature, the model forecasts energy"):
        replace(plan(context=("target",)), target="warmth").sensors(house)


def test_daily_means_run_back_from_the_origin_and_a_day_is_known_when_half_of_it_is():
    values = np.repeat([[10.0], [20.0], [30.0]], 24, axis=0)
    values[24 : 24 + 12] = NAN  # half of the second day
    values[48 : 48 + 13] = NAN  # more than half of the third
    series = Series(MONDAY, 3600, FEATURES[:1], values)
    which = replace(plan(3600, context=("target",), future=()), daily_length=4)
    daily = builder(which, series).inputs(np.array([series.end])).arrays["daily"]
    np.testing.assert_array_equal(daily, np.array([[NAN, 10.0, 20.0, NAN]], np.float32))
