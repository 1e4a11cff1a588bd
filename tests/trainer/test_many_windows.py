import numpy as np
import pytest

from edge_agent.contract.errors import DataError
from trainer.batches import batches, n_batches, shuffled
from trainer.homes import TARGET, Home
from trainer.many_windows import ManyWindows, windows_of
from trainer.presets import plan_for


def relative(inputs, actual):
    return actual / inputs["scale"]


def home_of(house, series):
    return Home("small:energy", house, series.select(("meter",)), "meter", None, is_whole=True)


@pytest.fixture(scope="module")
def plan(small_house):
    return plan_for("base", small_house, TARGET)


@pytest.fixture(scope="module")
def parts(small_house, small_series, plan):
    """Two homes by the hour and one by the half hour."""
    home = home_of(small_house, small_series)
    series = [home.series, home.series, home.series.resample(1800)]
    return [
        windows_of(home, s, plan, per_day=share, rng=np.random.default_rng(i))
        for i, (s, share) in enumerate(zip(series, (0.9, 0.5, 0.8), strict=True))
    ]


def test_origins_are_full_hours_none_twice_and_as_many_as_were_wanted(parts):
    origins = parts[0].origins
    assert 55 < len(origins) <= 0.9 * 80
    assert (origins % 3600 == 0).all()
    assert (np.diff(origins) > 0).all()


def test_windows_lie_inside_what_may_be_looked_at(parts, small_series):
    for part in parts:
        assert part.origins[0] >= small_series.start + 7 * 86400
        assert part.origins[-1] + 86400 <= small_series.end
        assert np.isfinite(part.actual(np.arange(len(part)))).all()


def test_a_batch_holds_windows_of_one_step_and_an_epoch_holds_each(parts):
    many = ManyWindows(parts)
    cut = many.cut(shuffled(len(many), seed=1, epoch=1), 16)
    assert {len(picked) for picked in cut} == {16}
    assert all(np.ptp(many._step[picked]) == 0 for picked in cut)
    assert set(np.concatenate(cut).tolist()) == set(range(len(many)))
    assert len(cut) == n_batches(many, 16)


def test_a_batch_is_what_each_home_gives_for_itself(parts):
    many = ManyWindows(parts)
    picked = np.array([3, len(parts[0]) + 2, 0, len(parts[0])])
    ((inputs, actual),) = many.gather([picked])
    alone = [parts[0].inputs(np.array([3])), parts[1].inputs(np.array([2])), parts[0].inputs(np.array([0])), parts[1].inputs(np.array([0]))]
    for name, values in inputs.items():
        np.testing.assert_array_equal(values, np.concatenate([one.arrays[name] for one in alone]))
    np.testing.assert_array_equal(actual[1], parts[1].actual(np.array([2]))[0])


def test_batches_of_several_steps_come_in_one_stream(parts):
    many = ManyWindows(parts)
    horizons = [actual.shape[1] for _, actual in batches(many, batch_size=16, relative=relative, order=shuffled(len(many), seed=0, epoch=1))]
    assert set(horizons) == {24, 48}
    assert horizons != sorted(horizons)


def test_a_time_when_nothing_was_used_gives_no_window(small_house, small_series, plan):
    values = small_series.values.copy()
    values[: 24 * 50, 0] = 0.0
    series = type(small_series)(small_series.start, 3600, small_series.features, values)
    home = home_of(small_house, series)
    windows = windows_of(home, home.series, plan, per_day=1.0, rng=np.random.default_rng(0))
    assert windows.origins[0] > series.start + 49 * 86400


def test_homes_without_any_window_are_refused(small_house, small_series, plan):
    home = home_of(small_house, small_series)
    short = windows_of(home, home.series.between(small_series.start, small_series.start + 7 * 86400), plan, per_day=1.0, rng=np.random.default_rng(0))
    with pytest.raises(DataError, match="no usable window"):
        ManyWindows([short])
