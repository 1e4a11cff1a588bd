"""What is taken away from a case is really gone, and what is scored stays."""

from dataclasses import replace
from math import gcd

import numpy as np
import pytest
from rich.console import Console

from benchmarks.accuracy.bundles import BundleMethod
from benchmarks.accuracy.cases import (
    at_origins,
    outages,
    rounded,
    thinned,
    with_history,
    with_perfect_weather,
    with_rounded_counter,
    without_covariates,
)
from benchmarks.accuracy.daily_weather import drawn
from benchmarks.accuracy.material import prepare
from benchmarks.accuracy.peer_case import PeerCase, filled, with_error_quantiles
from benchmarks.accuracy.peers import case_arrays
from benchmarks.accuracy.scoring import figures_of, is_sure, origin_losses
from benchmarks.accuracy.store import Store
from benchmarks.accuracy.yardsticks import CHANGE, CLIMATOLOGY, YESTERDAY, Yardstick, error_quantiles
from edge_agent.contract.bundle import shipped_bundle
from edge_agent.contract.localtime import DAY_S
from trainer.scores import score


@pytest.fixture(scope="module")
def home(houston_like, tmp_path_factory):
    return prepare((houston_like,), tmp_path_factory.mktemp("build"), download=False, console=Console(quiet=True))["houston"]


@pytest.fixture(scope="module")
def case(home):
    return home.cases()[0]


def test_origins_lie_in_the_last_fifth_with_their_horizon(case):
    assert len(case.origins) == 60 * 24 // 5 - 24 + 1
    assert case.origins[0] == case.train_end
    assert np.isfinite(case.actual).all()


def test_a_cut_counter_loses_nothing_for_long():
    energy = np.array([3.0, 3.0, 3.0, np.nan, 3.0, 25.0])
    shown = rounded(energy)
    np.testing.assert_array_equal(shown, [0, 0, 0, np.nan, 10, 20])  # 3, 6, 9, 12, 37
    assert np.abs(np.nancumsum(shown) - np.nancumsum(energy)).max() < 10


def test_what_happened_is_never_altered(case):
    changed = with_rounded_counter(case)
    assert (changed.series.values != case.series.values)[np.isfinite(case.series.values)].any()
    np.testing.assert_array_equal(changed.actual, case.actual)
    assert changed.fingerprint != case.fingerprint


def test_outages_take_the_share_they_should():
    dice = np.random.default_rng(1)
    silent = outages(200_000, 0.3, mean_length=12, dice=dice)
    assert silent.mean() == pytest.approx(0.3, abs=0.02)
    starts = np.flatnonzero(np.diff(silent.astype(int)) == 1)
    assert silent.sum() / len(starts) == pytest.approx(12, rel=0.1)
    assert outages(10, 1.0, mean_length=12, dice=dice).all()


def test_the_target_is_not_silenced(case):
    alone = without_covariates(case, 1.0)
    np.testing.assert_array_equal(alone.values, case.values)


def test_thinned_origins_meet_every_hour_of_the_week(case):
    few = thinned(case, 20)
    every = int(few.origins[1] - few.origins[0]) // 3600
    assert gcd(every, 168) == 1
    assert len(few.origins) <= 40


def test_history_that_may_not_be_seen_changes_nothing(case):
    few = replace(with_history(thinned(case, 6), 7))
    values = case.series.values.copy()
    values[case.series.times < few.origins[0] - 7 * DAY_S] = 1e4
    other = replace(few, series=replace(case.series, values=values))
    for method in (Yardstick(CLIMATOLOGY), BundleMethod("ours", shipped_bundle(), ())):
        seen = method.predict(few)
        np.testing.assert_array_equal(seen.quantiles, method.predict(other).quantiles)
        assert (seen.quantiles != method.predict(replace(other, days_seen=None)).quantiles).any()


def test_a_point_forecast_gets_the_quantiles_of_its_past_errors():
    errors = np.array([[0.0, -4.0], [10.0, 4.0], [np.nan, 0.0]])
    np.testing.assert_allclose(error_quantiles(errors, (0.5,)), [[5.0], [0.0]])


def test_naive_forecasts_answer_everywhere_and_cover_what_they_should(case):
    for label in (YESTERDAY, CHANGE):
        found = Yardstick(label).predict(case)
        assert np.isfinite(found.quantiles).all()
        assert (found.quantiles >= 0).all()
        assert 0.6 < score(found).coverage < 0.95


def test_yesterdays_course_begun_at_todays_value(case):
    found = Yardstick(CHANGE).predict(case)
    row = (case.origins[5] - case.series.start) // 3600
    values = case.values
    np.testing.assert_allclose(found.mean[5], values[row - 1] + values[row - 24 : row] - values[row - 25])


def test_skill_is_against_the_yardstick_at_the_same_origins(case):
    yardsticks = {label: Yardstick(label).predict(case) for label in (CLIMATOLOGY, YESTERDAY)}
    few = at_origins(yardsticks[CLIMATOLOGY], case.origins[3:9])
    same = figures_of(few, yardsticks)
    assert same["crps_skill"] == 0
    perfect = replace(few, mean=few.actual, quantiles=np.repeat(few.actual[:, :, None], 9, axis=2))
    assert figures_of(perfect, yardsticks)["crps_skill"] == pytest.approx(1)
    assert figures_of(perfect, yardsticks)["total_skill_yesterday"] == pytest.approx(1)


class Counting:
    label, kind, seed = "counting", "peer", None

    def __init__(self):
        self.asked = 0

    def identity(self, case):
        return {}

    def predict(self, case):
        self.asked += 1
        return Yardstick(CLIMATOLOGY).predict(case)


def test_a_forecast_is_computed_once_for_the_same_data(case, tmp_path):
    store, method = Store(tmp_path), Counting()
    first, again = store.make(method, case), store.make(method, case)
    assert method.asked == 1
    np.testing.assert_array_equal(first.predictions.quantiles, again.predictions.quantiles)
    store.make(method, with_rounded_counter(case))
    assert method.asked == 2


def test_a_peer_reads_the_case_as_it_is(case, tmp_path):
    arrays = case_arrays(case)
    peer = PeerCase(**{k: (int(v) if np.ndim(v) == 0 else v) for k, v in arrays.items()}, homes=())
    np.testing.assert_array_equal(peer.after(peer.origins), case.actual)
    assert peer.wall_s[0] - case.series.start == -6 * 3600
    assert peer.train_rows * 3600 + case.series.start == case.train_end
    assert (peer.past_origins + 24 <= peer.train_rows).all()


def test_gaps_are_filled_from_before():
    np.testing.assert_array_equal(filled(np.array([np.nan, 1.0, np.nan, np.nan, 5.0, np.nan]), 2), [0, 1, 0, 1, 5, 1])


def test_few_past_errors_are_shared_between_lead_times():
    n, horizon = 10, 24
    peer = PeerCase(np.zeros(40 + horizon), np.zeros(1), 3600, horizon, 40, np.array([40]), np.arange(n), np.array([0.1, 0.5, 0.9]), homes=())
    past = np.tile(np.linspace(-1, 1, n)[:, None], (1, horizon))
    quantiles, points = with_error_quantiles(peer, np.full((1, horizon), 7.0), past, np.arange(n))
    np.testing.assert_allclose(quantiles[0, :, 1], 7.0, atol=1e-9)
    assert (quantiles[0, :, 2] > 7.5).all()
    assert (points == 7).all()


def test_losses_of_the_origins_average_to_the_score(case):
    found = Yardstick(CLIMATOLOGY).predict(case)
    assert origin_losses(found).mean() == pytest.approx(score(found).crps)


def test_a_small_gap_is_chance_and_a_steady_one_is_not():
    dice = np.random.default_rng(3)
    other, hourly, sparse = dice.normal(10, 1, 720), np.arange(720) * 3600, np.arange(720) * 71 * 3600
    assert is_sure(other + 0.5, other, hourly)
    assert is_sure(other, other + 0.5, sparse)
    assert not is_sure(other + dice.normal(0, 5, 720), other, hourly)
    assert not is_sure(other + 0.5, other, hourly // 100)  # of one day alone nothing is sure
    assert not is_sure(other + 0.5, np.full(720, np.nan), hourly)


def test_a_temperature_is_drawn_between_each_days_lowest_and_highest():
    day = np.array([10, 11, 13])
    hours = np.arange(9 * 24, 15 * 24)
    curve = drawn(day, np.array([0.0, 4.0, 2.0]), np.array([10.0, 8.0, 6.0]), times=hours * 3600)
    at = dict(zip(hours.tolist(), curve.tolist(), strict=True))
    assert [at[10 * 24 + 6], at[10 * 24 + 15], at[11 * 24 + 6], at[11 * 24 + 15]] == [0, 10, 4, 8]
    assert 4 < at[10 * 24 + 20] < 10
    # nothing before the first lowest, none from the last highest before a day that is missing, none after the last
    assert np.isnan([at[10 * 24 + 5], at[11 * 24 + 16], at[12 * 24 + 12], at[13 * 24 + 5], at[13 * 24 + 16]]).all()
    assert [at[13 * 24 + 6], at[13 * 24 + 15]] == [2, 6]
    assert 2 < at[13 * 24 + 14] < 6


def test_weather_known_by_the_day_is_for_perfect_forecasts_alone(home, case):
    ours = BundleMethod("ours", shipped_bundle(), ())
    told = with_perfect_weather(home.with_all_weather(case))
    assert case.series.names == ("energy_kwh",)
    assert told.series.names == ("energy_kwh", "outdoor_temperature")
    assert told.fingerprint != case.fingerprint
    assert not ours.takes(with_perfect_weather(case))
    assert ours.takes(told)
    few = thinned(told, 20)
    blind = ours.predict(thinned(case, 20))
    assert not np.array_equal(ours.predict(few).mean, blind.mean)
    np.testing.assert_array_equal(few.actual, blind.actual)
