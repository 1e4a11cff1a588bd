"""Series: energy is conserved, states are averaged by time, and unknown stays unknown."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_agent.contract.errors import DataError
from edge_agent.contract.schema import Feature
from edge_agent.contract.series import Cumulative, Series, time_weighted_means

NAN = float("nan")
ENERGY, STATE = Feature("meter", "energy"), Feature("room", "indoor_temperature")
STEPS = st.sampled_from((300, 600, 900, 1800, 3600))
VALUES = hnp.arrays(np.float64, st.integers(1, 60), elements=st.floats(0, 1e5) | st.just(NAN))


def series(*columns, start=0, step_s=600, features=(ENERGY, STATE)):
    return Series(start, step_s, features[: len(columns)], np.array(columns, float).T)


def fine(values, step_s):
    """The values on steps of 100 s, by hand."""
    return np.repeat(values, step_s // 100)


@given(VALUES, STEPS, STEPS, st.integers(0, 11))
def test_energy_is_conserved(values, step_s, other_s, offset):
    before = series(values, start=offset * step_s, step_s=step_s)
    after = before.resample(other_s)
    joules = np.concatenate([np.full((before.start - after.start) // 100, NAN), fine(values / step_s, step_s)]) * 100
    joules = np.concatenate([joules, np.full((after.end - before.end) // 100, NAN)])
    expected = joules.reshape(len(after), -1).sum(axis=1)  # NaN where any part is unknown
    np.testing.assert_allclose(after.column("meter"), expected, rtol=1e-9, atol=1e-6)


@given(VALUES, STEPS, STEPS)
def test_states_are_averaged_by_time_and_need_half_of_it(values, step_s, other_s):
    before = series(np.zeros(len(values)), values, step_s=step_s)
    after = before.resample(other_s)
    parts = np.append(fine(values, step_s), np.full((after.end - before.end) // 100, NAN)).reshape(len(after), -1)
    known = np.isfinite(parts)
    total = np.where(known, parts, 0).sum(axis=1)
    expected = np.where(known.mean(axis=1) >= 0.5, total / np.maximum(known.sum(axis=1), 1), NAN)
    np.testing.assert_allclose(after.column("room"), expected, rtol=1e-9, atol=1e-6)


def test_quarter_hours_become_ten_minutes_by_hand():
    after = series([15.0, 30.0], [20.0, 23.0], step_s=900).resample(600)
    np.testing.assert_allclose(after.column("meter"), [10.0, 15.0, 20.0])
    np.testing.assert_allclose(after.column("room"), [20.0, 21.5, 23.0])


def test_ten_minutes_become_quarter_hours_by_hand():
    after = series([10.0, 20.0, 40.0], [20.0, 21.0, 22.0], start=1800).resample(900)
    assert after.start == 1800
    np.testing.assert_allclose(after.column("meter"), [20.0, 50.0])
    np.testing.assert_allclose(after.column("room"), [(20.0 * 600 + 21.0 * 300) / 900, (21.0 * 300 + 22.0 * 600) / 900])


def test_a_partial_hour_of_energy_is_unknown_and_half_an_hour_of_a_state_is_enough():
    after = series([1.0] * 3, [5.0] * 3, start=1800, step_s=600).resample(3600)
    assert (after.start, len(after)) == (0, 1)
    assert np.isnan(after.column("meter")[0])
    assert after.column("room")[0] == 5.0


def test_exactly_half_is_enough_where_the_grids_do_not_nest():
    assert series([0.0, 0.0], [NAN, 7.0], step_s=900).resample(600).column("room")[1] == pytest.approx(7.0)


def test_the_same_step_is_the_same_series():
    before = series([1.0, NAN])
    assert before.resample(600) is before


@given(st.integers(-5, 15), st.integers(0, 15))
def test_between_pads_with_unknown(first, length):
    whole = series(np.arange(8.0))
    part = whole.between(first * 600, (first + length) * 600)
    expected = [float(row) if 0 <= row < 8 else NAN for row in range(first, first + length)]
    np.testing.assert_array_equal(part.column("meter"), expected)
    assert (part.start, part.end, len(part)) == (first * 600, (first + length) * 600, length)


def test_between_an_empty_span_is_empty():
    assert len(series([1.0, 2.0]).between(1200, 600)) == 0


def test_times_rows_and_columns_agree():
    part = series([1.0, 2.0], [3.0, 4.0], start=1200)
    assert part.times.tolist() == [1200, 1800]
    assert (part.end, part.index(1800), part.index(600), part.position("room")) == (2400, 1, -1, 1)
    assert part.select(("room",)).values.tolist() == [[3.0], [4.0]]
    assert part.select(("room", "meter")).names == ("room", "meter")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: series([1.0], start=100), "not on its grid of 600 s"),
        (lambda: Series(0, 600, (ENERGY,), np.zeros((2, 2))), r"shape \(2, 2\).*\(n_steps, 1\)"),
        (lambda: Series(0, 600, (ENERGY,), np.zeros(2)), "shape"),
        (lambda: series([1.0]).index(601), "not on the grid"),
        (lambda: series([1.0]).column("metre"), "no feature 'metre': did you mean 'meter'"),
    ],
)
def test_what_does_not_fit_is_refused(wrong, message):
    with pytest.raises(DataError, match=message):
        wrong()


@given(VALUES, st.integers(0, 30), st.integers(0, 30))
def test_means_between_edges_are_means_of_what_is_known(values, first, length):
    last = min(first + length, len(values))
    means, known = Cumulative(series(values)).means(np.array([first, max(last, first)]) * 600)
    part = values[first:last]
    inside = part[np.isfinite(part)]
    np.testing.assert_allclose(means[0, 0], inside.mean() if inside.size else NAN, rtol=1e-9, atol=1e-6)
    if length and last > first:
        assert known[0, 0] == pytest.approx(inside.size / (last - first))


def test_edges_inside_a_step_take_their_share_of_it():
    means, known = Cumulative(series([10.0, 40.0, NAN])).means(np.array([300, 900, 1500]))
    np.testing.assert_allclose(means[:, 0], [25.0, 40.0])
    np.testing.assert_allclose(known[:, 0], [1.0, 0.5])


@given(VALUES, st.integers(1, 59), st.floats(0, 1e9))
def test_later_values_do_not_touch_earlier_means(values, row, other):
    row = min(row, len(values) - 1)
    changed = values.copy()
    changed[row:] = other
    edges = 600 * np.arange(row + 1)
    for before, after in zip(Cumulative(series(values)).means(edges), Cumulative(series(changed)).means(edges), strict=True):
        np.testing.assert_array_equal(before, after)


def test_readings_hold_until_the_next_one():
    # 20 from 0 s, 26 from 150 s on: a quarter of the first step, then all of the second
    means = time_weighted_means(np.array([0.0, 150.0]), np.array([20.0, 26.0]), start=0, step_s=600, n_steps=2, hold_s=7200)
    np.testing.assert_allclose(means, [20 * 0.25 + 26 * 0.75, 26.0])


def test_readings_hold_no_longer_than_allowed():
    # 20 holds from 0 to 900 s: the first step wholly, the second for exactly half, the third not at all; 30 comes 100 s before the end of the third
    means = time_weighted_means(np.array([0.0, 1700.0]), np.array([20.0, 30.0]), start=0, step_s=600, n_steps=4, hold_s=900)
    np.testing.assert_allclose(means, [20.0, 20.0, NAN, 30.0])


def test_a_reading_before_the_first_step_still_holds():
    means = time_weighted_means(np.array([-400.0, 1e6]), np.array([7.0, 1.0]), start=0, step_s=600, n_steps=2, hold_s=800)
    np.testing.assert_allclose(means, [7.0, NAN])


def test_without_readings_nothing_is_known():
    assert np.isnan(time_weighted_means(np.array([]), np.array([]), start=0, step_s=600, n_steps=3, hold_s=60)).all()
    assert time_weighted_means(np.array([1.0]), np.array([1.0]), start=0, step_s=600, n_steps=0, hold_s=60).shape == (0,)


@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(-50, 50)), min_size=1, max_size=20), st.integers(1, 2000))
def test_time_weighted_means_are_those_of_every_second(readings, hold_s):
    start = 1_700_000_000 // 600 * 600
    readings = sorted(readings, key=lambda r: r[0])
    times, values = np.array([r[0] for r in readings], float), np.array([r[1] for r in readings], float)
    second = np.full(3600, NAN)
    for i, time in enumerate(times.astype(int)):
        end = int(times[i + 1]) if i + 1 < len(times) else 10**6
        second[time : min(end, time + hold_s)] = values[i]
    blocks = second.reshape(6, 600)
    known = np.isfinite(blocks).sum(axis=1)
    expected = np.where(known >= 300, np.where(np.isfinite(blocks), blocks, 0).sum(axis=1) / np.maximum(known, 1), NAN)
    means = time_weighted_means(start + times, values, start=start, step_s=600, n_steps=6, hold_s=hold_s)
    np.testing.assert_allclose(means, expected, rtol=1e-6, atol=1e-6)
