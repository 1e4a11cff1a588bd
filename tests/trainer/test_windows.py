import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.contract.errors import DataError
from edge_agent.contract.features import FeatureBuilder
from edge_agent.contract.plan import FeaturePlan
from edge_agent.contract.schema import Feature
from edge_agent.contract.series import Series
from trainer.windows import Windows, split_origins

HOUR = 3600
PLAN = FeaturePlan("energy", "energy", HOUR, 24, HOUR, 144, ("sensor:meter",))


def hourly(n_hours, start=0, unknown=slice(0)):
    values = np.arange(n_hours, dtype=float)
    values[unknown] = np.nan
    return Series(start, HOUR, (Feature("meter", "energy"),), values[:, None])


def hours(span):
    return [int(origin) // HOUR for origin in (span.origins[0], span.origins[-1])]


def test_the_split_of_100_days_worked_out_by_hand():
    # 2400 h: test from 1920 on; a fifth of the rest, 384 h, is held out in two halves; the last day of each span but the test is embargo
    split = split_origins(hourly(2400), PLAN, "meter", stride_s=HOUR)
    assert hours(split.train) == [144, 1536 - 24 - 24]
    assert hours(split.stopping) == [1536, 1728 - 24 - 24]
    assert hours(split.calibration) == [1728, 1920 - 24 - 24]
    assert hours(split.test) == [1920, 2400 - 24]


def test_the_reference_protocol_has_634_test_origins():
    # 19,735 steps of 10 minutes from 17:00; test span from step 15,788 on, origins every full hour with 144 known steps
    series = Series(17 * HOUR, 600, (Feature("meter", "energy"),), np.ones((19_735, 1)))
    plan = FeaturePlan("energy", "energy", 600, 144, 600, 864, ("sensor:meter",))
    split = split_origins(series, plan, "meter", stride_s=600)
    assert len(split.test.origins) == 634
    assert split.test.start == series.start + 15_788 * 600


@settings(max_examples=50, deadline=None)
@given(st.integers(30 * 24, 200 * 24), st.integers(-50, 50), st.floats(0.1, 0.5), st.sampled_from([HOUR, 3 * HOUR, 6 * HOUR]))
def test_no_step_is_forecast_in_two_spans_and_a_horizon_lies_between(n_hours, offset, share, stride_s):
    try:
        split = split_origins(hourly(n_hours, offset * HOUR), PLAN, "meter", stride_s=stride_s, validation_share=share)
    except DataError:
        return
    spans = [split.train, split.stopping, split.calibration, split.test]
    for span, after in itertools.pairwise(spans):
        assert span.origins[-1] + 24 * HOUR + 24 * HOUR <= after.origins[0]
    assert split.train.origins[0] >= offset * HOUR + PLAN.context_s
    assert split.test.origins[-1] + 24 * HOUR <= (offset + n_hours) * HOUR


def test_origins_lie_on_the_stride_in_unix_time():
    split = split_origins(hourly(2400, start=5 * HOUR), PLAN, "meter", stride_s=3 * HOUR)
    assert not (split.train.origins % (3 * HOUR)).any()
    assert (np.diff(split.train.origins) == 3 * HOUR).all()


def test_an_origin_with_most_of_its_horizon_unknown_is_left_out():
    series = hourly(2400)
    series.values[500:540] = np.nan
    origins = split_origins(series, PLAN, "meter", stride_s=HOUR).train.origins // HOUR
    assert {488, 528} <= set(origins)  # 12 of 24 hours known, before and after the gap
    assert not set(range(489, 528)) & set(origins)


def test_an_origin_with_most_of_its_context_unknown_is_left_out():
    series = hourly(2400)
    series.values[500:800] = np.nan
    origins = split_origins(series, PLAN, "meter", stride_s=HOUR).train.origins // HOUR
    assert 800 + 72 in origins  # 72 of the 144 hours of context known
    assert not set(range(800, 800 + 72)) & set(origins)


def test_too_short_a_table_says_how_many_days_are_needed():
    with pytest.raises(DataError, match=r"covers 20\.0 days, and at least 29 days"):
        split_origins(hourly(20 * 24), PLAN, "meter", stride_s=HOUR)


def test_the_days_said_to_be_needed_are_enough():
    assert len(split_origins(hourly(29 * 24), PLAN, "meter", stride_s=HOUR).stopping.origins)


@pytest.mark.parametrize("preset", ["seed", "base"])
def test_windows_are_what_the_feature_builder_makes(small_builder, preset):
    builder = small_builder(preset)
    origins = builder.series.start + HOUR * np.arange(20 * 24, 20 * 24 + 90, 7)
    windows, picked = Windows(builder, origins), np.array([5, 0, 11])
    expected = builder.inputs(origins[picked]).arrays
    for name, values in windows.inputs(picked).arrays.items():
        np.testing.assert_array_equal(values, expected[name])


@pytest.mark.parametrize("preset", ["seed", "base"])
def test_no_value_at_or_after_the_origin_changes_an_input(small_builder, small_series, preset):
    origin, row = np.array([small_series.start + 30 * 24 * HOUR]), 30 * 24
    future = small_series.values.copy()
    future[row:] = np.nan
    before = Windows(small_builder(preset), origin).inputs(np.array([0])).arrays
    after = Windows(small_builder(preset, series=replace(small_series, values=future)), origin).inputs(np.array([0])).arrays
    for name, values in before.items():
        np.testing.assert_array_equal(values, after[name])


def test_actual_is_what_happened_from_the_origin_on():
    series = hourly(100)
    windows = Windows(FeatureBuilder(replace(PLAN, context_length=5), series, target="meter", zone=None), np.array([10, 90]) * HOUR)
    actual = windows.actual(np.array([0, 1]))
    assert actual[0].tolist() == list(range(10, 34))
    assert actual[1, :10].tolist() == list(range(90, 100))
    assert np.isnan(actual[1, 10:]).all()


def test_anchors_are_counted_while_they_are_made(small_builder):
    builder, counted = small_builder("base"), []
    Windows(builder, builder.series.start + HOUR * np.arange(200, 300), on_progress=counted.append)
    assert counted == [64, 36]
