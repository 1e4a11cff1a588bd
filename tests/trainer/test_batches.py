import threading

import numpy as np
import pytest

from trainer.batches import batches, shuffled
from trainer.windows import Windows

HOUR = 3600


def relative(_inputs, actual):
    return (actual - 100.0) / 50.0


@pytest.fixture
def windows(small_builder):
    def make(preset, **options):
        builder = small_builder(preset, **options)
        return Windows(builder, builder.series.start + HOUR * np.arange(200, 230))

    return make


@pytest.mark.parametrize("preset", ["seed", "base"])
def test_batches_are_the_feature_builders_inputs_and_what_happened(windows, preset):
    some = windows(preset)
    order = np.array([7, 3, 29, 0, 11])
    expected = some.builder.inputs(some.origins[order]).arrays
    got = list(batches(some, batch_size=2, relative=relative, order=order))
    assert [len(actual) for _, actual in got] == [2, 2, 1]
    for name, values in expected.items():
        np.testing.assert_array_equal(np.concatenate([inputs[name] for inputs, _ in got]), values)
    actual = np.concatenate([actual for _, actual in got])[:, :, 0]
    np.testing.assert_allclose(actual, (some.actual(order) - 100) / 50, rtol=1e-5)


def test_without_an_order_the_windows_come_in_time_order(windows):
    some = windows("seed")
    actual = np.concatenate([actual for _, actual in batches(some, batch_size=7, relative=relative)])[:, :, 0]
    np.testing.assert_allclose(actual, (some.actual(np.arange(30)) - 100) / 50, rtol=1e-5)


def test_unknown_values_stay_unknown(small_builder, small_series):
    values = small_series.values.copy()
    values[210] = np.nan
    builder = small_builder("seed", series=type(small_series)(small_series.start, HOUR, small_series.features, values))
    some = Windows(builder, builder.series.start + HOUR * np.arange(205, 215))
    ((inputs, actual),) = batches(some, batch_size=10, relative=relative)
    assert np.isnan(inputs["context"]).any(axis=(1, 2)).tolist() == [False] * 6 + [True] * 4
    assert np.isnan(actual[:, :, 0]).any(axis=1).tolist() == [True] * 6 + [False] * 4


def test_batches_left_early_leave_no_thread_behind(windows):
    coming = batches(windows("seed"), batch_size=2, relative=relative)
    next(coming)
    coming.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


def test_an_epochs_order_depends_on_seed_and_epoch_only():
    assert shuffled(50, seed=1, epoch=2).tolist() == shuffled(50, seed=1, epoch=2).tolist()
    assert shuffled(50, seed=1, epoch=2).tolist() != shuffled(50, seed=1, epoch=3).tolist()
    assert sorted(shuffled(50, seed=1, epoch=2)) == list(range(50))


def test_windows_are_gathered_and_never_stored(small_builder):
    builder = small_builder("seed")
    some = Windows(builder, builder.series.start + HOUR * np.arange(200, 1700))
    stored = sum(value.nbytes for value in vars(some).values() if isinstance(value, np.ndarray))
    assert stored < some.inputs(np.arange(len(some))).arrays["context"].nbytes / 50
