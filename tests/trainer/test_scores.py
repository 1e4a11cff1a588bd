from dataclasses import replace
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.contract.baseline import QUANTILE_LEVELS, Climatology, seasonal_naive
from edge_agent.contract.errors import DataError
from edge_agent.contract.localtime import iso_utc
from trainer.datasets import read_table
from trainer.scores import (
    WEEKDAY,
    WEEKEND,
    Predictions,
    Scores,
    coverage_by_level,
    day_types,
    hours,
    leads,
    losses,
    pinball_by_level,
    pinball_losses,
    point_predictions,
    score,
    score_groups,
    skill,
    where_all_known,
)

NAN = float("nan")
HORIZON = 144


def predictions(quantiles, mean, actual, *, levels=(0.1, 0.5, 0.9), start=0, step_s=600):
    quantiles, mean, actual = (np.asarray(a, float) for a in (quantiles, mean, actual))
    origins = start + step_s * np.arange(len(actual), dtype=np.int64)
    return Predictions(origins, step_s, levels, quantiles, mean, actual)


@pytest.fixture
def one():
    """One origin, two steps: 3 was expected within 1 … 4 and came within, 7 was expected within 0 … 6 and came above."""
    return predictions([[[1, 2, 4], [0, 3, 6]]], [[2, 4]], [[3, 7]])


def test_scores_are_those_worked_out_by_hand(one):
    scores = score(one)
    assert scores.mae == 2.5  # (1 + 4) / 2
    assert scores.rmse == pytest.approx(5**0.5)  # of (1 + 9) / 2
    assert scores.crps == pytest.approx(2 * (0.45 + 1.25 + 0.5) / 3)
    assert scores.coverage == 0.5
    assert scores.total_mae == 4  # 6 against 10
    assert (scores.n_values, scores.n_totals) == (2, 1)


def test_losses_are_what_each_value_adds(one):
    lost = losses(one)
    assert lost["mae"].tolist() == [[1.0, 4.0]]
    assert lost["rmse"].tolist() == [[1.0, 9.0]]
    # 3 beside 1, 2, 4: 0.1 * 2, 0.5 * 1, 0.1 * 1; 7 beside 0, 3, 6: 0.1 * 7, 0.5 * 4, 0.9 * 1
    assert lost["crps"].tolist() == [pytest.approx([2 * 0.8 / 3, 2 * 3.6 / 3])]
    assert lost["coverage"].tolist() == [[1.0, 0.0]]
    gap = losses(replace(one, actual=np.array([[NAN, 7.0]])))
    assert all(np.isnan(values[0, 0]) and np.isfinite(values[0, 1]) for values in gap.values())


@given(st.integers(0, 99))
def test_crps_is_twice_the_mean_pinball_loss(seed):
    rng = np.random.default_rng(seed)
    p = predictions(np.sort(rng.normal(size=(3, 4, 3)), axis=2), rng.normal(size=(3, 4)), rng.normal(size=(3, 4)), levels=(0.2, 0.5, 0.9))
    np.testing.assert_allclose(
        losses(p)["crps"].ravel(), 2 * pinball_losses(p.quantiles.reshape(12, 3), p.actual.ravel(), (0.2, 0.5, 0.9)).mean(axis=1)
    )
    point = point_predictions(p.origins, p.mean, p.actual, step_s=600, quantile_levels=(0.2, 0.5, 0.9))
    assert point.is_point
    np.testing.assert_allclose(losses(point)["crps"], losses(replace(point, quantiles=point.quantiles.copy()))["crps"])


def test_pinball_by_level_weighs_both_sides(one):
    # level 0.1: 0.1 * 2, 0.1 * 7; level 0.5: 0.5 * 1, 0.5 * 4; level 0.9: 0.1 * 1 (too high), 0.9 * 1
    assert pinball_by_level(one).tolist() == pytest.approx([0.45, 1.25, 0.5])


def test_coverage_by_level_counts_values_at_or_below(one):
    assert coverage_by_level(one).tolist() == [0.0, 0.0, 0.5]
    assert coverage_by_level(replace(one, actual=np.array([[2.0, 0.0]]))).tolist() == [0.5, 1.0, 1.0]


def test_unknown_actual_counts_nowhere(one):
    scores = score(replace(one, actual=np.array([[3.0, NAN]])))
    assert (scores.mae, scores.coverage, scores.n_values) == (1.0, 1.0, 1)
    assert np.isnan(scores.total_mae)
    assert scores.n_totals == 0


def test_total_is_scored_over_whole_origins_only():
    scores = score(predictions(np.zeros((2, 2, 3)), [[1, 1], [5, 5]], [[2, 2], [NAN, 0]]))
    assert (scores.total_mae, scores.n_totals, scores.n_values) == (2.0, 1, 3)


def test_missing_forecast_is_refused_and_not_forgiven(one):
    with pytest.raises(DataError, match="1 forecasts are NaN where the actual value is known"):
        score(replace(one, mean=np.array([[NAN, 4.0]])))


def test_nothing_known_is_refused(one):
    with pytest.raises(DataError, match="no actual value is known"):
        score(replace(one, actual=np.full((1, 2), NAN)))


def test_methods_are_compared_where_all_of_them_answer(one):
    other = replace(one, quantiles=np.array([[[1, 2, 4], [NAN, 3, 6]]]))
    common = where_all_known({"a": one, "b": other})
    assert [score(p).n_values for p in common.values()] == [1, 1]
    assert score(common["a"]).mae == 1.0


def test_shapes_that_do_not_fit_are_refused(one):
    with pytest.raises(DataError, match=r"mean has shape \(2, 1\), \(1, 2\) is expected"):
        replace(one, mean=one.mean.T)
    with pytest.raises(DataError, match="median"):
        replace(one, quantile_levels=(0.1, 0.4, 0.9))


def test_scores_by_lead_time():
    p = predictions(np.zeros((2, 3, 3)), np.zeros((2, 3)), [[1, 2, NAN], [3, 4, NAN]])
    by_lead = score_groups(p, leads(p))
    assert sorted(by_lead) == [0, 1]  # of the third step nothing is known
    assert (by_lead[0].mae, by_lead[1].mae, by_lead[0].n_values) == (2.0, 3.0, 2)
    assert np.isnan(by_lead[0].total_mae)


def test_hours_and_day_types_are_local():
    # Sunday 2026-03-29 00:30 UTC, half an hour a step; Berlin goes from 01:30 to 03:00
    p = predictions(np.zeros((1, 2, 3)), np.zeros((1, 2)), np.zeros((1, 2)), start=1774744200, step_s=1800)
    assert hours(p, ZoneInfo("Europe/Berlin")).tolist() == [[1, 3]]
    assert day_types(p, ZoneInfo("Europe/Berlin")).tolist() == [[WEEKEND, WEEKEND]]
    monday = replace(p, origins=p.origins + 22 * 3600)  # Sunday 22:30 UTC is Monday 00:30 in Berlin
    assert day_types(monday, ZoneInfo("Europe/Berlin")).tolist() == [[WEEKDAY, WEEKDAY]]
    assert day_types(monday, ZoneInfo("UTC")).tolist() == [[WEEKEND, WEEKEND]]


def test_skill_is_the_share_of_error_saved():
    base = Scores(mae=10.0, rmse=20.0, crps=8.0, coverage=0.8, total_mae=0.0, n_values=1, n_totals=1)
    gained = skill(replace(base, mae=9.0, rmse=25.0, crps=8.0), base)
    assert gained["mae"] == pytest.approx(0.1)
    assert gained["rmse"] == pytest.approx(-0.25)
    assert gained["crps"] == 0.0
    assert np.isnan(gained["total_mae"])


@given(st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), min_size=1, max_size=20))
def test_crps_of_a_point_forecast_is_its_absolute_error(pairs):
    values, actual = np.array(pairs).T[:, :, None]
    scores = score(point_predictions(np.arange(len(pairs)), values, actual, step_s=600))
    assert scores.crps == pytest.approx(scores.mae, abs=1e-9)


@given(st.integers(0, 2**32 - 1))
def test_groups_add_up_to_the_whole(seed):
    rng = np.random.default_rng(seed)
    p = predictions(np.sort(rng.normal(size=(5, 4, 3)), axis=2), rng.normal(size=(5, 4)), rng.normal(size=(5, 4)))
    whole, parts = score(p), score_groups(p, rng.integers(0, 3, (5, 4)))
    total = sum(part.n_values for part in parts.values())
    assert total == whole.n_values
    assert sum(part.crps * part.n_values for part in parts.values()) / total == pytest.approx(whole.crps)
    assert sum(part.rmse**2 * part.n_values for part in parts.values()) / total == pytest.approx(whole.rmse**2)


@pytest.fixture(scope="module")
def span(reference_csv, reference_house):
    """The yardstick's protocol: last 20 % of the table, an origin at every full hour, the file's clock taken as the calendar."""
    series = read_table(replace(reference_house, time_zone="UTC", table_clock="utc"), [reference_csv]).series
    values = series.column("Appliances")
    times = series.times
    origins = np.arange(int(0.8 * len(series)), len(series) - HORIZON + 1)
    origins = origins[times[origins] % 3600 == 0]
    return series, values, origins, times[origins], np.stack([values[o : o + HORIZON] for o in origins])


def test_origins_are_those_of_the_protocol(span):
    _, _, origins, times, _ = span
    assert len(origins) == 634
    assert [iso_utc(t) for t in (times[0], times[-1])] == ["2016-04-30T09:00:00Z", "2016-05-26T18:00:00Z"]


def test_rolling_climatology_is_the_yardstick(span):
    series, values, origins, times, actual = span
    climatology = Climatology(values, start=series.start, step_s=600, zone=ZoneInfo("UTC"), horizon=HORIZON)
    quantiles, mean = (np.stack(parts) for parts in zip(*(climatology.at(int(o)) for o in origins), strict=True))
    scores = score(Predictions(times, 600, QUANTILE_LEVELS, quantiles, mean, actual))
    assert round(scores.mae, 1) == 33.8
    assert round(scores.rmse, 1) == 78.8
    assert round(scores.crps, 1) == 28.9
    assert round(scores.coverage, 2) == 0.88
    assert round(scores.total_mae) == 2823


@pytest.mark.parametrize(
    ("name", "mae", "rmse", "total"), [("yesterday", 50.5, 106.2, 3484), ("last_week", 49.2, 105.3, 3217), ("mean_28d", 41.1, 79.8, 2905)]
)
def test_seasonal_naive_family_scores_as_published(span, name, mae, rmse, total):
    _, values, origins, times, actual = span
    naive = np.stack([seasonal_naive(values, origin=int(o), horizon=HORIZON, step_s=600)[name] for o in origins])
    scores = score(point_predictions(times, naive, actual, step_s=600))
    assert scores.mae == pytest.approx(mae, abs=0.055)  # 41.05 rounds either way
    assert (round(scores.rmse, 1), round(scores.total_mae)) == (rmse, total)
    assert scores.crps == pytest.approx(scores.mae)
