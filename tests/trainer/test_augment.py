import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge_agent.contract.schema import Feature
from edge_agent.contract.series import Series
from trainer.augment import disaggregate, interrupted, slow_level, some_temperature, together, weather_load

HALF_HOUR = 1800
START = 1_767_225_600
FEATURES = (Feature("meter", "energy"), Feature("living", "indoor_temperature"))

energies = arrays(np.float64, 96, elements=st.one_of(st.floats(0, 5000), st.just(float("nan"))))
seeds = st.integers(0, 2**32 - 1)


def home(energy):
    return Series(START, HALF_HOUR, FEATURES, np.stack([energy, np.full(len(energy), 20.0)], axis=1))


def changed(kind, series, seed):
    rng = np.random.default_rng(seed)
    if kind == "level":
        return slow_level(series, "meter", rng)
    if kind == "weather":
        return weather_load(series, "meter", some_temperature(series, rng), rng)
    if kind == "two":
        return together(series, "meter", series.column("meter")[::-1])
    return disaggregate(series, "meter", 600, rng)


KINDS = ("level", "weather", "two", "fine")


@pytest.mark.parametrize("kind", KINDS)
@given(energies, seeds)
@settings(max_examples=25, deadline=None)
def test_nothing_becomes_negative_and_unknown_stays_unknown(kind, energy, seed):
    series = home(energy)
    new = changed(kind, series, seed)
    column = new.column("meter").reshape(96, -1)
    unknown = np.isnan(energy) | (np.isnan(energy[::-1]) if kind == "two" else False)
    assert (np.isnan(column) == unknown[:, None]).all()
    assert (column[~unknown] >= 0).all()
    assert (new.column("living") == 20.0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides_all(kind):
    series = home(np.random.default_rng(0).gamma(1, 100, 960))
    first, again, other = (changed(kind, series, seed).values for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, again)
    assert kind == "two" or not np.array_equal(first, other)


@given(energies, seeds)
@settings(max_examples=50, deadline=None)
def test_finer_steps_hold_the_energy_of_the_old_ones(energy, seed):
    fine = disaggregate(home(energy), "meter", 600, np.random.default_rng(seed))
    assert (fine.step_s, len(fine)) == (600, 288)
    np.testing.assert_allclose(fine.column("meter").reshape(96, 3).sum(axis=1), energy, rtol=1e-9, atol=1e-9)


def test_finer_steps_are_spikier_than_an_even_spread():
    energy = np.random.default_rng(0).gamma(1, 100, 960)
    fine = disaggregate(home(energy), "meter", 600, np.random.default_rng(1)).column("meter")
    assert fine.std() > 1.2 * np.repeat(energy / 3, 3).std()


def test_a_slow_level_hardly_moves_within_an_hour_and_does_over_weeks():
    factor = slow_level(home(np.full(48 * 60, 100.0)), "meter", np.random.default_rng(2)).column("meter") / 100
    assert np.abs(np.diff(np.log(factor))).max() < 0.06
    assert np.log(factor).std() > 0.04


def test_a_cooled_home_uses_more_on_hot_days_only():
    series = home(np.full(48 * 20, 100.0))
    days = np.arange(20) % 2  # a mild day, a hot day
    temperature = 10.0 + 25.0 * np.repeat(days, 48)
    added = weather_load(series, "meter", temperature, np.random.default_rng(0)).column("meter") - 100
    by_day = added.reshape(20, 48).sum(axis=1)
    assert abs(np.corrcoef(by_day, days)[0, 1]) > 0.5
    assert (added >= 0).all()


def test_two_homes_add_up():
    np.testing.assert_array_equal(together(home(np.full(4, 10.0)), "meter", np.array([1.0, 2.0, 3.0, np.nan])).column("meter"), [11, 12, 13, np.nan])


def test_a_home_known_again_and_again_is_never_known_for_long():
    series = home(np.full(48 * 400, 100.0))
    known = np.isfinite(interrupted(series, "meter", np.random.default_rng(3)).values)
    days = known.any(axis=1).reshape(-1, 48).any(axis=1).astype(int)
    edges = np.flatnonzero(np.diff(np.r_[0, days, 0]))
    lengths = edges[1::2] - edges[::2]
    assert len(lengths) > 3
    assert lengths.max() <= 40
    assert (edges[2::2] - edges[1:-1:2]).min() >= 56  # a day may lack its first quarter besides
