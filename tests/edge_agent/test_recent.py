"""The window of closed steps in memory."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.contract.errors import DataError
from edge_agent.contract.schema import Feature
from edge_agent.contract.series import Series
from edge_agent.recent import RecentSteps

FEATURES = (Feature("meter", "energy"), Feature("room", "indoor_temperature"))


def window(n_steps=4):
    return RecentSteps(FEATURES, step_s=600, keep_s=600 * n_steps)


def test_a_gap_is_unknown():
    recent = window()
    recent.append(600, {"meter": 1.0, "room": 20.0})
    recent.append(1800, {"meter": 3.0})
    series = recent.series()
    assert (series.start, series.end) == (600, 2400)
    np.testing.assert_array_equal(series.values, [[1.0, 20.0], [np.nan, np.nan], [3.0, np.nan]])


def test_a_step_that_is_not_new_is_refused():
    recent = window()
    recent.append(600, {})
    with pytest.raises(DataError, match="closed in order"):
        recent.append(600, {})


def test_loading_keeps_the_end_of_a_longer_series():
    recent = window(2)
    recent.load(Series(0, 600, FEATURES[::-1], np.arange(8.0).reshape(4, 2)))
    series = recent.series()
    assert series.start == 1200
    np.testing.assert_array_equal(series.values, [[5.0, 4.0], [7.0, 6.0]])


@given(st.lists(st.integers(1, 12), min_size=1, max_size=60))
def test_the_last_steps_are_always_those_appended(gaps):
    recent, expected = window(5), {}
    for row in np.cumsum(gaps):
        expected[int(row)] = float(row)
        recent.append(600 * int(row), {"meter": float(row)})
    series = recent.series()
    newest = sum(gaps)
    assert series.end == 600 * (newest + 1)
    for row in range(newest - 4, newest + 1):
        if row >= gaps[0]:
            value = series.column("meter")[series.index(600 * row)]
            np.testing.assert_equal(value, expected.get(row, np.nan))


def test_columns_may_be_loaded_one_by_one():
    whole = Series(0, 600, FEATURES, np.arange(8.0).reshape(4, 2))
    recent = window(3)
    for feature in FEATURES:
        recent.load(whole.select((feature.name,)))
    np.testing.assert_array_equal(recent.series().values, whole.values[1:])


def test_sensors_that_nobody_reads_are_not_kept():
    recent = window()
    recent.append(600, {"meter": 1.0, "attic": 30.0})
    np.testing.assert_array_equal(recent.series().values, [[1.0, np.nan]])


def test_a_step_may_be_revised_while_it_is_kept():
    recent = window(3)
    for row in range(5):
        recent.append(600 * row, {"meter": float(row)})
    for row in (0, 1, 2, 4, 5):
        recent.revise(600 * row, "meter", 10.0 * row)
    recent.revise(1800, "attic", 30.0)
    np.testing.assert_array_equal(recent.series().column("meter"), [20.0, 3.0, 40.0])


def test_steps_may_be_taken_back():
    recent = window(3)
    for row in range(5):
        recent.append(600 * row, {"meter": float(row)})
    recent.cut(600 * 3)
    assert recent.end == 1800
    recent.append(600 * 4, {"meter": 40.0})
    np.testing.assert_array_equal(recent.series().column("meter"), [2.0, np.nan, 40.0])
    recent.cut(-600)
    assert recent.end is None
