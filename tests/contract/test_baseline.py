"""Rolling climatology and the naive family, worked out by hand; nothing at or after an origin is read."""

import math
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.contract.baseline import QUANTILE_LEVELS, Climatology, ClimatologySettings, quantile_columns, seasonal_naive, seasonal_naive_at
from edge_agent.contract.localtime import local_seconds

NAN = float("nan")
UTC = ZoneInfo("UTC")
HOUR, DAY = 3600, 86_400
MONDAY = int(datetime.fromisoformat("2026-11-23T00:00Z").timestamp())
PLAIN = ClimatologySettings(days_back=3, decay_days=math.inf, neighbour_s=0, other_day_type=1.0)


def hourly(values, settings=PLAIN, *, start=MONDAY, zone=UTC, step_s=HOUR):
    return Climatology(np.asarray(values, float), start=start, step_s=step_s, zone=zone, horizon=DAY // step_s, settings=settings)


def days_at_noon(*values):
    """Hourly series of whole days, unknown but at noon."""
    series = np.full((len(values), 24), NAN)
    series[:, 12] = values
    return series.ravel()


def test_a_quantile_is_the_first_value_whose_share_reaches_the_level():
    # shares 0.1, 0.6, 0.3 of the weight: the distribution steps to 0.1, 0.7, 1.0
    columns, total = quantile_columns(np.array([[1.0, 6.0, 3.0], [0.0, 0.0, 0.0], [0.0, 2.0, 2.0]]), (0.1, 0.11, 0.7, 0.71))
    assert columns[0].tolist() == [0, 1, 1, 2]
    assert columns[2].tolist() == [1, 1, 2, 2]
    assert total.tolist() == [10.0, 0.0, 4.0]


@given(st.lists(st.lists(st.floats(0, 10), min_size=5, max_size=5), min_size=1, max_size=4), st.sampled_from([(0.5,), QUANTILE_LEVELS]))
def test_weighted_quantiles_are_those_of_a_plain_loop(weights, levels):
    columns, total = quantile_columns(np.array(weights), levels)
    for row, found, weight in zip(weights, columns, total, strict=True):
        assert weight == pytest.approx(sum(row))
        shares = np.cumsum(row) / max(sum(row), 1e-300)
        if weight > 0:
            assert found.tolist() == [next(i for i, share in enumerate(shares) if share >= level - 1e-12) for level in levels]


def test_equal_weights_by_hand():
    quantiles, mean = hourly(days_at_noon(30.0, 10.0, 20.0)).at(72)
    assert quantiles[12].tolist() == [10.0] * 3 + [20.0] * 3 + [30.0] * 3
    assert mean[12] == pytest.approx(20.0)
    assert np.isnan(quantiles[11]).all()
    assert np.isnan(mean[11])


def test_older_days_weigh_less():
    settings = ClimatologySettings(days_back=3, decay_days=2.0, neighbour_s=0, other_day_type=1.0)
    quantiles, mean = hourly(days_at_noon(30.0, 10.0, 20.0), settings).at(72)
    weights = [math.exp(-3 / 2), math.exp(-2 / 2), math.exp(-1 / 2)]  # shares 0.186, 0.307, 0.506: 10 reaches 0.307, 20 reaches 0.814
    assert mean[12] == pytest.approx(np.average([30.0, 10.0, 20.0], weights=weights))
    assert quantiles[12].tolist() == [10.0] * 3 + [20.0] * 5 + [30.0]


def test_days_before_the_window_do_not_count():
    _, mean = hourly(days_at_noon(1e6, 30.0, 10.0, 20.0)).at(96)
    assert mean[12] == pytest.approx(20.0)


def test_neighbours_count_by_their_distance():
    settings = ClimatologySettings(days_back=1, decay_days=math.inf, neighbour_s=HOUR, other_day_type=1.0)
    day = np.full(24, NAN)
    day[11:14] = [4.0, 8.0, 16.0]
    quantiles, mean = hourly(day, settings).at(24, levels=(0.25, 0.26, 0.75, 0.76))
    assert mean[12] == pytest.approx((0.5 * 4 + 8 + 0.5 * 16) / 2)
    assert quantiles[12].tolist() == [4.0, 8.0, 8.0, 16.0]
    assert mean[10] == 4.0  # only its later neighbour is known


def test_a_neighbour_after_the_origin_does_not_count():
    settings = ClimatologySettings(days_back=1, decay_days=math.inf, neighbour_s=HOUR, other_day_type=1.0)
    values = np.arange(30.0)
    _, mean = hourly(values, settings).at(24, 24)
    # 23:00 tomorrow: 22:00 at half weight and 23:00; the midnight after them is the origin itself
    assert mean[23] == pytest.approx((0.5 * 22 + 23) / 1.5)


def test_the_other_day_type_weighs_less():
    settings = ClimatologySettings(days_back=2, decay_days=math.inf, neighbour_s=0, other_day_type=0.25)
    friday = hourly(days_at_noon(10.0, 20.0), settings, start=MONDAY + 4 * DAY)  # Friday, Saturday -> Sunday
    assert friday.at(48)[1][12] == pytest.approx((0.25 * 10 + 20) / 1.25)
    sunday = hourly(days_at_noon(10.0, 20.0), settings, start=MONDAY + 6 * DAY)  # Sunday, Monday -> Tuesday
    assert sunday.at(48)[1][12] == pytest.approx((0.25 * 10 + 20) / 1.25)


def test_the_weekend_is_local():
    settings = ClimatologySettings(days_back=2, decay_days=math.inf, neighbour_s=0, other_day_type=0.0)
    # 12:00 UTC is already the next day in Kiritimati (+14): Friday noon UTC is their Saturday
    quantiles, _ = hourly(days_at_noon(10.0, 20.0), settings, start=MONDAY + 3 * DAY, zone=ZoneInfo("Pacific/Kiritimati")).at(48)
    assert quantiles[12].tolist() == [20.0] * 9


@pytest.mark.parametrize(
    ("zone", "step_s", "before"),
    [
        ("Europe/Brussels", 600, "2016-03-25T00:00Z"),
        ("Europe/Brussels", 3600, "2016-10-28T00:00Z"),
        ("Australia/Lord_Howe", 1800, "2026-04-03T00:00Z"),
        ("Australia/Lord_Howe", 300, "2026-10-02T00:00Z"),
        ("America/St_Johns", 900, "2026-03-06T00:00Z"),
    ],
)
def test_habits_keep_their_wall_time_across_a_clock_change(zone, step_s, before):
    start = int(datetime.fromisoformat(before).timestamp()) - 5 * DAY
    times = start + step_s * np.arange(10 * DAY // step_s)
    wall_time = (local_seconds(times, ZoneInfo(zone)) % DAY).astype(float)
    climatology = hourly(wall_time, zone=ZoneInfo(zone), start=start, step_s=step_s)
    for day in range(5, 9):  # the change comes on the seventh
        row = day * DAY // step_s
        quantiles, mean = climatology.at(row)
        expected = wall_time[row : row + DAY // step_s]
        known = np.flatnonzero(np.isfinite(mean))
        assert len(known) > 0.9 * len(expected)
        np.testing.assert_array_equal(quantiles[known, 4], expected[known])


@given(st.data())
def test_nothing_at_or_after_the_origin_is_read(data):
    step_s = data.draw(st.sampled_from((1800, 3600)))
    zone = ZoneInfo(data.draw(st.sampled_from(("UTC", "Europe/Brussels", "Australia/Lord_Howe"))))
    start = int(datetime.fromisoformat("2016-10-20T00:00Z").timestamp())
    values = np.random.default_rng(data.draw(st.integers(0, 99))).gamma(1.0, 60.0, 14 * DAY // step_s)
    origin = data.draw(st.integers(1, len(values)))
    changed = values.copy()
    changed[origin:] = data.draw(st.sampled_from((NAN, 0.0, 1e9)))
    settings = ClimatologySettings(days_back=7)
    before, after = (hourly(v, settings, zone=zone, start=start, step_s=step_s) for v in (values, changed))
    for a, b in zip(before.filled(origin), after.filled(origin), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(seasonal(values, origin, step_s).values(), seasonal(changed, origin, step_s).values(), strict=True):
        np.testing.assert_array_equal(a, b)


def seasonal(values, origin, step_s):
    return seasonal_naive(values, origin=origin, horizon=2 * DAY // step_s, step_s=step_s)


@given(st.integers(0, 99), st.lists(st.integers(0, 14 * 48), min_size=1, max_size=6))
def test_many_origins_are_answered_like_each(seed, origins):
    rng = np.random.default_rng(seed)
    values = np.where(rng.random(14 * 48) < 0.1, NAN, rng.gamma(1.0, 60.0, 14 * 48))
    start = int(datetime.fromisoformat("2016-10-20T00:00Z").timestamp())
    climatology = hourly(values, ClimatologySettings(days_back=7), step_s=1800, start=start, zone=ZoneInfo("Europe/Brussels"))
    quantiles, means = climatology.filled_at(np.array(origins), 48)
    for origin, quantile, mean in zip(origins, quantiles, means, strict=True):
        for together, alone in zip((quantile, mean), climatology.filled(origin), strict=True):
            np.testing.assert_array_equal(together, alone)


@given(st.integers(0, 99), st.sampled_from((24, 48)))
def test_naive_forecasts_at_many_origins_are_those_of_each(seed, horizon):
    rng = np.random.default_rng(seed)
    values = np.where(rng.random(40 * 24) < 0.1, NAN, rng.gamma(1.0, 60.0, 40 * 24))
    origins = rng.integers(0, len(values) + 1, 5)
    together = seasonal_naive_at(values, origins, horizon=horizon, step_s=HOUR)
    for i, origin in enumerate(origins):
        for name, alone in seasonal_naive(values, origin=int(origin), horizon=horizon, step_s=HOUR).items():
            np.testing.assert_array_equal(together[name][i], alone)


def test_a_row_is_shared_only_where_no_candidate_lies_beyond_its_origin():
    """The night the clock goes back, wall time reaches an hour further: origins on both sides of it, at every step."""
    zone, start = ZoneInfo("Europe/Brussels"), int(datetime.fromisoformat("2016-10-25T00:00Z").timestamp())
    values = np.random.default_rng(3).gamma(1.0, 60.0, 9 * 48)
    climatology = hourly(values, ClimatologySettings(days_back=4), step_s=1800, start=start, zone=zone)
    origins = np.arange(3 * 48, 8 * 48)
    quantiles, means = climatology.filled_at(origins, 48)
    for origin, quantile, mean in zip(origins, quantiles, means, strict=True):
        for together, alone in zip((quantile, mean), climatology.filled(int(origin)), strict=True):
            np.testing.assert_array_equal(together, alone)


def test_skipped_steps_change_nothing_in_the_others():
    climatology = hourly(np.random.default_rng(0).gamma(1.0, 60.0, 96))
    whole, part = climatology.at(96, 24), climatology.at(96, 24, skip=20)
    np.testing.assert_array_equal(whole[0][20:], part[0])
    np.testing.assert_array_equal(whole[1][20:], part[1])


def test_a_time_of_day_without_past_is_filled_from_the_last_days_as_a_whole():
    climatology = hourly(days_at_noon(30.0, 10.0, 20.0))
    quantiles, mean = climatology.filled(72, levels=(0.1, 0.5, 0.9))
    np.testing.assert_allclose(quantiles[3], [12.0, 20.0, 28.0])
    assert mean[3] == 20.0


def test_before_the_first_value_nothing_is_known():
    quantiles, mean = hourly(np.ones(24)).filled(0)
    assert quantiles.shape == (24, 9)
    assert np.isnan(quantiles).all()
    assert np.isnan(mean).all()
    assert np.isnan(hourly([]).filled_at(np.array([0]), 24)[1]).all()


def test_a_long_series_has_room_for_its_sorting_keys():
    values = np.tile(np.arange(24.0), 400)
    climatology = hourly(values, ClimatologySettings(days_back=366, neighbour_s=7 * HOUR))  # 5,490 candidates: 13 bits beside 14 for the rows
    np.testing.assert_allclose(climatology.at(len(values), levels=(0.5,))[0][12], 12.0)


def test_naive_forecasts_by_hand():
    values = np.repeat(np.arange(28.0), 24) + np.tile(np.arange(24) / 100, 28)  # day + hour / 100
    naive = seasonal_naive(values, origin=28 * 24, horizon=24, step_s=HOUR)
    assert naive["persistence"].tolist() == [27.23] * 24
    assert naive["yesterday"][5] == 27.05
    assert naive["last_week"][5] == 21.05
    assert naive["change"][5] == pytest.approx(27.23 + 27.05 - 26.23)  # from the last value on as yesterday went on from 26.23
    assert naive["mean_28d"][5] == pytest.approx(13.5 + 0.05)


def test_naive_forecasts_know_only_what_they_have():
    values = np.arange(30.0)
    values[10] = NAN
    naive = seasonal_naive(values, origin=30, horizon=24, step_s=HOUR)
    assert np.isnan(naive["last_week"]).all()
    assert naive["mean_28d"][1] == np.mean([7.0])  # 07:00 of the one day before
    assert np.isnan(naive["mean_28d"][4])  # 10:00 yesterday is unknown
    assert np.isnan(seasonal_naive(values, origin=0, horizon=24, step_s=HOUR)["persistence"]).all()
