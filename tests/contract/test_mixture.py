"""The mixture of naive forecasts: weights and bands by hand, and nothing from after the origin."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.contract.baseline import QUANTILE_LEVELS
from edge_agent.contract.mixture import NaiveMixture

HOUR, DAY = 3600, 86_400
NAN = float("nan")


def days(*levels, step_s=HOUR):
    """Each day at one level."""
    return np.repeat(np.array(levels, float), DAY // step_s)


def at(values, origin, *, step_s=HOUR, horizon=None, levels=QUANTILE_LEVELS):
    quantiles, mean = NaiveMixture(values, step_s=step_s).at(np.array([origin]), horizon or DAY // step_s, levels)
    return quantiles[0], mean[0]


def wandering(step_s=HOUR, n_days=40, seed=0):
    rng = np.random.default_rng(seed)
    hours = np.arange(n_days * DAY // step_s) * step_s / HOUR
    return 20 + 2 * np.sin(2 * np.pi * hours / 24) + np.cumsum(rng.normal(0, 0.05, len(hours)))


@pytest.mark.parametrize("step_s", [600, HOUR])
def test_each_member_weighs_by_its_inverse_squared_error_of_late(step_s):
    values = days(10, 12, 13, step_s=step_s)
    quantiles, mean = at(values, len(values), step_s=step_s)
    # asked a day ago, persistence, yesterday and the usual change missed 13 by 1, the usual level (11) by 2;
    # two days ago all but the change, which knew no day before, said 10 and missed 12 by 2
    earlier = np.exp(-1 / 14)
    errors = np.array([(1 + 4 * earlier) / (1 + earlier)] * 2 + [1.0, 4.0]) + 1e-6
    weights = 1 / errors
    members = np.array([13.0, 13.0, 13 + (1 + 2) / 2, (13 + 12 + 10) / 3])
    np.testing.assert_allclose(mean, (weights * members).sum() / weights.sum())
    yesterday = (weights * [12.0, 12.0, 14.0, 11.0]).sum() / weights.sum()
    widest = max(13 - yesterday, 12 - 10)
    np.testing.assert_allclose(quantiles[:, -1] - mean, widest)


def test_a_room_that_repeats_its_day_is_forecast_exactly_where_others_would_be_off():
    one_day = 20 + np.arange(24) / 8
    quantiles, mean = at(np.tile(one_day, 20), 20 * 24 - 6)
    np.testing.assert_allclose(mean, np.roll(one_day, 6), atol=0.02)
    assert np.ptp(quantiles, axis=1).max() < 0.05


def test_a_room_that_stays_where_it_is_left_is_forecast_to_stay():
    jumps = days(*np.random.default_rng(0).normal(20, 3, 40))
    _, mean = at(np.concatenate([jumps, [31.0]]), len(jumps) + 1)
    assert mean[0] > 28


def test_the_band_holds_four_of_five_of_what_comes():
    inside = []
    for seed in range(8):
        values = wandering(seed=seed, n_days=60)
        origins = np.arange(30 * 24, 59 * 24, 7)
        quantiles, _ = NaiveMixture(values, step_s=HOUR).at(origins, 24, (0.1, 0.5, 0.9))
        actual = values[origins[:, None] + np.arange(24)]
        inside.append(((quantiles[..., 0] <= actual) & (actual <= quantiles[..., 2])).mean())
    assert np.mean(inside) == pytest.approx(0.8, abs=0.03)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_nothing_at_or_after_the_origin_is_read(data):
    step_s = data.draw(st.sampled_from((900, HOUR)))
    values = wandering(step_s, n_days=data.draw(st.sampled_from((2, 12))))
    values[np.random.default_rng(1).random(len(values)) < 0.1] = NAN
    origin = data.draw(st.integers(0, len(values)))
    changed = values.copy()
    changed[origin:] = data.draw(st.sampled_from((NAN, 0.0, 1e9)))
    horizon = DAY // step_s * data.draw(st.sampled_from((1, 2)))
    for before, after in zip(*(at(v, origin, step_s=step_s, horizon=horizon) for v in (values, changed)), strict=True):
        np.testing.assert_array_equal(before, after)


def test_as_many_degrees_more_or_twice_as_many_are_so_in_the_forecast():
    values = wandering()
    for before, more, twice in zip(*(at(v, 900) for v in (values, values + 7, 2 * values)), strict=True):
        np.testing.assert_allclose(more, before + 7)
        np.testing.assert_allclose(twice, 2 * before, rtol=1e-4)


def test_quantiles_ascend_around_the_mean():
    quantiles, mean = at(wandering(600), 144 * 35, step_s=600)
    assert (np.diff(quantiles, axis=1) > 0).all()
    np.testing.assert_allclose(quantiles[:, 4], mean)
    np.testing.assert_allclose(quantiles[:, -1] + quantiles[:, 0], 2 * mean)


def test_an_unknown_member_is_left_out():
    values = wandering()
    values[876:900] = NAN  # the day before the origin: no last value, no yesterday, and the usual change has nothing to go on from
    _, mean = at(values, 900)
    week = np.nanmean([values[900 - 24 * back : 924 - 24 * back] for back in range(1, 8)], axis=0)
    np.testing.assert_allclose(mean, week)


def test_where_nothing_is_known_it_says_so():
    for values in (np.full(100, NAN), np.array([])):
        quantiles, mean = at(values, len(values))
        assert np.isnan(quantiles).all()
        assert np.isnan(mean).all()


def test_many_origins_equal_one_by_one():
    values, origins = wandering(), np.array([0, 5, 24, 300, 960])
    together = NaiveMixture(values, step_s=HOUR).at(origins, 24, QUANTILE_LEVELS)
    for i, origin in enumerate(origins):
        for whole, one in zip(together, at(values, origin), strict=True):
            np.testing.assert_array_equal(whole[i], one)
