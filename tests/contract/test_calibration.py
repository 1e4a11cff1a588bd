"""Calibration: hand-worked levels, coverage put right on fresh data, quantiles that never cross."""

from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_agent.contract.baseline import QUANTILE_LEVELS
from edge_agent.contract.calibration import Calibration, fit_calibration, identity, level_of, publish, read_at, widest_ratio
from edge_agent.contract.errors import ConfigError
from edge_agent.contract.plan import FeaturePlan

NAN = float("nan")
NORMAL = np.array([NormalDist().inv_cdf(level) for level in QUANTILE_LEVELS])
PLAN = FeaturePlan("energy", "energy", 3600, 24, 3600, 24, ("target",))
DECILES = np.arange(10.0, 100.0, 10.0)
"""Deciles of a flat distribution from 0 to 100."""


@pytest.mark.parametrize(
    ("actual", "probability"),
    [
        (10.0, 0.1),
        (50.0, 0.5),
        (55.0, 0.55),
        (0.0, 0.0),
        (5.0, 0.05),
        (-20.0, -0.2),
        (97.0, 0.97),
        (130.0, 1.3),
        (-1e9, -1.0),
        (1e9, 2.0),
        (NAN, NAN),
    ],
)
def test_where_a_value_stands_among_the_quantiles(actual, probability):
    assert level_of(np.array([[actual]]), DECILES[None, None], QUANTILE_LEVELS)[0, 0] == pytest.approx(probability, nan_ok=True)


def test_a_value_on_equal_quantiles_stands_in_their_middle():
    # the first three deciles are zero, and so is where they go on to: zero stands between the levels 0 and 0.3
    quantiles = np.array([[[0.0, 0.0, 0.0, 5.0, 5.0, 5.0, 5.0, 6.0, 7.0]]] * 4)
    stood_at = level_of(np.array([[-0.1], [0.0], [2.5], [5.0]]), quantiles, QUANTILE_LEVELS)
    np.testing.assert_allclose(stood_at[:, 0], [0.0, 0.15, 0.35, 0.4 + 0.15])


def test_reading_between_and_beyond_the_levels():
    read = read_at(DECILES[None, None], QUANTILE_LEVELS, np.array([[-0.2, 0.02, 0.1, 0.55, 0.9, 1.3]]))
    np.testing.assert_allclose(read[0, 0], [-20.0, 2.0, 10.0, 55.0, 90.0, 130.0])


@given(hnp.arrays(np.float64, (3, 4, 9), elements=st.floats(0, 1e4)), st.floats(-0.99, 1.99))
def test_reading_where_a_value_stands_gives_the_value(quantiles, level):
    quantiles = np.sort(quantiles, axis=-1) + np.arange(9)  # no two equal
    value = read_at(quantiles, QUANTILE_LEVELS, np.full((4, 1), level))[..., 0]
    np.testing.assert_allclose(level_of(value, quantiles, QUANTILE_LEVELS), level, atol=1e-6)


def test_identity_changes_nothing():
    quantiles = np.sort(np.random.default_rng(0).gamma(1.0, 50.0, (5, 24, 9)), axis=-1)
    published, mean = publish(quantiles, quantiles[..., 4], identity(QUANTILE_LEVELS), PLAN)
    np.testing.assert_allclose(published, quantiles)
    np.testing.assert_array_equal(mean, quantiles[..., 4])


def test_each_block_of_lead_times_reads_its_own_levels():
    levels = np.array([np.full(9, 0.3), np.full(9, 0.7)])
    calibration = Calibration(levels, np.ones(9), None, 0)
    published = calibration.apply(np.tile(DECILES, (1, 24, 1)), np.zeros((1, 24)), QUANTILE_LEVELS)
    np.testing.assert_allclose(published[0, :12], 30.0)
    np.testing.assert_allclose(published[0, 12:], 70.0)


def draws(n, *, seed, spread=2.0, level=100.0):
    """What happened at `n` origins around a forecast level, `(n, 24)`: as wide as `spread`."""
    return level + spread * np.random.default_rng(seed).standard_normal((n, 24))


@pytest.mark.parametrize(("spread", "shift"), [(2.0, 0.0), (0.5, 0.0), (1.0, 0.7), (3.0, -2.0)])
def test_after_fitting_the_coverage_on_fresh_origins_is_right(spread, shift):
    n = 2000
    quantiles, mean = np.tile(100.0 + shift + NORMAL, (n, 24, 1)), np.full((n, 24), 100.0)
    calibration = fit_calibration(quantiles, mean, draws(n, seed=1, spread=spread), QUANTILE_LEVELS, origins_per_day=1)
    published = calibration.apply(quantiles, mean, QUANTILE_LEVELS)
    below = (draws(n, seed=2, spread=spread)[..., None] <= published).mean(axis=(0, 1))
    np.testing.assert_allclose(below, QUANTILE_LEVELS, atol=0.02)


def test_few_days_move_the_levels_little():
    quantiles, mean = np.tile(100.0 + NORMAL, (48, 24, 1)), np.full((48, 24), 100.0)
    actual = np.full((48, 24), 100.0 + NORMAL[1])  # always on the second decile
    calibration = fit_calibration(quantiles, mean, actual, QUANTILE_LEVELS, origins_per_day=24)  # two days: trust 2 / 32
    np.testing.assert_allclose(calibration.read_levels[0], 0.2 / 16 + np.array(QUANTILE_LEVELS) * 15 / 16, atol=1e-6)
    assert calibration.n_origins == 48


def test_unknown_outcomes_are_left_out_and_no_outcome_changes_nothing():
    quantiles, mean, actual = np.tile(DECILES, (40, 24, 1)), np.full((40, 24), 50.0), np.full((40, 24), NAN)
    nothing = fit_calibration(quantiles, mean, actual, QUANTILE_LEVELS, origins_per_day=1)
    np.testing.assert_allclose(nothing.read_levels, np.tile(QUANTILE_LEVELS, (8, 1)))
    actual[:, 0] = 10.0
    some = fit_calibration(quantiles, mean, actual, QUANTILE_LEVELS, origins_per_day=1)
    assert (some.read_levels[0] != nothing.read_levels[0]).any()
    np.testing.assert_array_equal(some.read_levels[1:], nothing.read_levels[1:])


def test_the_total_ratio_is_that_of_whole_horizons():
    mean = np.full((11, 24), 10.0)
    actual = mean * np.linspace(0.5, 1.5, 11)[:, None]
    actual[3, 0] = NAN  # this day's total is unknown
    known = np.delete(np.linspace(0.5, 1.5, 11), 3)
    calibration = fit_calibration(None, mean, actual, QUANTILE_LEVELS, origins_per_day=1)
    np.testing.assert_allclose(calibration.total_ratio, np.quantile(known, QUANTILE_LEVELS), atol=1e-6)


def days_of_a_home(n, *, seed):
    """Hourly energy whose days differ by a fifth, and hours within them by 70 %, `(n, 24)`, with the true quantiles of each hour."""
    rng = np.random.default_rng(seed)
    hours = 100.0 + 300.0 * (np.arange(24) == 8) + 600.0 * (np.arange(24) == 19)
    shape = np.exp(0.2 * rng.standard_normal((n, 1))) * rng.gamma(2.0, 0.5, (n, 24))
    levels = np.quantile(np.exp(0.2 * rng.standard_normal(99_999)) * rng.gamma(2.0, 0.5, 99_999), QUANTILE_LEVELS)
    return hours * shape, np.tile(hours[:, None] * levels, (n, 1, 1)), np.tile(hours * 1.02, (n, 1))


def held(calibration, *, seed):
    """Share of other days whose total lies within the published band, and how wide that is."""
    actual, _, mean = days_of_a_home(2000, seed=seed)
    ratio, (low, high) = actual.sum(axis=1) / mean.sum(axis=1), calibration.total_ratio[[0, -1]]
    return ((low <= ratio) & (ratio <= high)).mean(), high - low


def test_days_that_lack_one_step_tell_the_band_of_the_total():
    actual, quantiles, mean = days_of_a_home(60, seed=1)
    whole = fit_calibration(quantiles, mean, actual, QUANTILE_LEVELS, origins_per_day=1)
    actual[:, 23] = NAN  # a counter that restarts at midnight
    holed = fit_calibration(quantiles, mean, actual, QUANTILE_LEVELS, origins_per_day=1)
    np.testing.assert_allclose(holed.total_ratio, whole.total_ratio, atol=0.1)
    assert 0.7 < held(holed, seed=2)[0] < 0.9


@pytest.mark.parametrize(("n_days", "known"), [(60, 0.5), (1, 1.0), (3, 1.0)])
def test_the_band_of_the_total_is_wide_where_too_few_days_tell_of_it(n_days, known):
    actual, quantiles, mean = days_of_a_home(n_days, seed=3)
    actual[:, round(24 * known) :] = NAN
    calibration = fit_calibration(quantiles, mean, actual, QUANTILE_LEVELS, origins_per_day=1)
    coverage, width = held(calibration, seed=4)
    assert coverage > 0.9
    assert width < 2.5
    assert (np.diff(calibration.total_ratio) >= 0).all()


def test_a_week_of_whole_days_is_taken_as_it_is():
    actual, quantiles, mean = days_of_a_home(7, seed=5)
    ratio = actual.sum(axis=1) / mean.sum(axis=1)
    actual, quantiles, mean = (np.repeat(values, 24, axis=0) for values in (actual, quantiles, mean))
    calibration = fit_calibration(quantiles, mean, actual, QUANTILE_LEVELS, origins_per_day=24)
    np.testing.assert_allclose(calibration.total_ratio, np.quantile(np.repeat(ratio, 24), QUANTILE_LEVELS), atol=1e-6)


def test_the_widest_total_is_that_of_steps_all_high_or_all_low_around_the_forecast():
    skewed = np.array([10.0, 20.0, 30.0, 40.0, 45.0, 55.0, 70.0, 90.0, 120.0])  # the median is 45, the mean 50
    ratio = widest_ratio(np.tile(skewed, (24, 1)), np.full(24, 50.0), QUANTILE_LEVELS)
    np.testing.assert_allclose(ratio, [0.2, 0.4, 0.6, 0.8, 1.0, 1.1, 1.4, 1.8, 2.4])
    np.testing.assert_array_equal(widest_ratio(np.zeros((24, 9)), np.zeros(24), QUANTILE_LEVELS), np.ones(9))


def test_a_model_of_means_gets_the_quantiles_of_its_residuals():
    mean = np.zeros((9, 24))
    actual = np.tile(np.arange(-4.0, 5.0)[:, None], 24)
    calibration = fit_calibration(None, mean, actual, QUANTILE_LEVELS, origins_per_day=1)
    np.testing.assert_allclose(
        calibration.apply(None, mean + 7.0, QUANTILE_LEVELS)[0, 5], 7.0 + np.quantile(np.repeat(np.arange(-4.0, 5.0), 3), QUANTILE_LEVELS)
    )
    with pytest.raises(ConfigError, match="needs residual quantiles"):
        identity(QUANTILE_LEVELS).apply(None, mean, QUANTILE_LEVELS)


ANY = st.floats(-1e6, 1e6)
TABLES = hnp.arrays(np.float64, (8, 9), elements=st.floats(-1, 2)).map(lambda table: np.sort(table, axis=-1))


@given(hnp.arrays(np.float64, (2, 24, 9), elements=ANY), hnp.arrays(np.float64, (2, 24), elements=ANY), TABLES, st.booleans())
def test_published_quantiles_never_cross_and_energy_is_never_negative(quantiles, mean, table, has_quantiles):
    calibration = Calibration(table, np.ones(9), 1e3 * (table - 0.5), 0)
    published, published_mean = publish(quantiles if has_quantiles else None, mean, calibration, PLAN)
    assert published.shape == (2, 24, 9)
    assert (np.diff(published, axis=-1) >= 0).all()
    assert (published >= 0).all()
    assert (published_mean >= 0).all()


def test_temperatures_may_be_negative():
    plan = FeaturePlan("warmth", "outdoor_temperature", 3600, 24, 3600, 24, ("target",))
    published, mean = publish(np.tile(DECILES - 100.0, (1, 24, 1)), np.full((1, 24), -50.0), identity(QUANTILE_LEVELS), plan)
    assert (published < 0).all()
    assert (mean == -50.0).all()


@given(st.integers(0, 99), st.booleans())
def test_the_json_form_is_exact(seed, has_quantiles):
    actual = draws(30, seed=seed)
    quantiles = np.tile(100.0 + NORMAL, (30, 24, 1)) if has_quantiles else None
    calibration = fit_calibration(quantiles, np.full((30, 24), 99.0), actual, QUANTILE_LEVELS, origins_per_day=1)
    again = Calibration.from_dict(calibration.to_dict())
    assert again.to_dict() == calibration.to_dict()
    np.testing.assert_array_equal(again.read_levels, calibration.read_levels)


GOOD = identity((0.1, 0.5, 0.9)).to_dict()


@pytest.mark.parametrize(
    "change",
    [
        {"read_levels": [0.1, 0.5, 0.9]},
        {"read_levels": []},
        {"read_levels": [[0.5, 0.1, 0.9]]},
        {"read_levels": [[0.1, 0.5]]},
        {"read_levels": [[-1.1, 0.5, 0.9]]},
        {"read_levels": [[0.1, 0.5, 2.1]]},
        {"read_levels": [[0.1, 0.5, NAN]]},
        {"read_levels": [[0.1, 0.5], [0.1]]},
        {"read_levels": "deciles"},
        {"read_levels": None},
        {"read_levels": [[0.1, 0.5, 10**400]]},
        {"total_ratio": [1.0, 0.9, 0.8]},
        {"total_ratio": [-1.0, 0.9, 1.8]},
        {"total_ratio": [[1.0, 1.0, 1.0]]},
        {"total_ratio": 1.0},
        {"residuals": [[1.0, 0.0, 2.0]]},
        {"residuals": [[1.0, 2.0]]},
        {"residuals": [[1.0, 2.0, float("inf")]]},
        {"n_origins": -1},
        {"n_origins": "many"},
        {"n_origins": True},
        {"n_orgins": 0},
    ],
)
def test_garbage_is_refused(change):
    with pytest.raises(ConfigError, match=r"calibration .*export the model again"):
        Calibration.from_dict({**GOOD, **change})


def test_missing_keys_and_other_types_are_refused():
    for wrong in ({}, [], None, "x", {k: v for k, v in GOOD.items() if k != "residuals"}):
        with pytest.raises(ConfigError, match="not of the expected form"):
            Calibration.from_dict(wrong)
