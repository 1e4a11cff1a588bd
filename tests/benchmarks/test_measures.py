"""What the benchmarks compare with must compute the same thing, and what they count must be right."""

import numpy as np
import pytest

from benchmarks.forecasting import keras_flops, numpy_lstm
from benchmarks.section import Claim, Section, from_json, to_json
from benchmarks.timing import interleaved, peak_mb


@pytest.fixture(scope="module")
def model():
    import keras
    from keras import layers

    keras.utils.set_random_seed(1)
    context = keras.Input((5, 3))
    return keras.Model(context, layers.Dense(7)(layers.LSTM(4, name="lstm", bias_initializer="random_normal")(context)))


def test_numpy_lstm_is_the_keras_layer(model):
    lstm, window = numpy_lstm(model.get_layer("lstm"))
    np.testing.assert_allclose(lstm(window), model.get_layer("lstm")(window[None])[0], atol=1e-6)


def test_flops_are_two_for_each_weight_and_use(model):
    assert keras_flops(model, horizon=7) == 2 * 5 * (3 + 4) * 16 + 2 * 4 * 7


def test_results_survive_json():
    section = Section("t", "how", ["", "ms"], [["a", "1"]], [Claim("a", "< 2", "1", True)])
    assert from_json(to_json([section])) == [section]


def test_candidates_take_turns():
    calls = []
    times = interleaved({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=2, repeats={"b": 2})
    assert calls == ["a", "b", "a", "b", "b", "a", "b", "b"]
    assert {name: len(t) for name, t in times.items()} == {"a": 2, "b": 4}


def test_peak_memory_is_read_in_millions_of_bytes():
    assert peak_mb("VmPeak:\t  9 kB\nVmHWM:\t   78125 kB\nVmRSS:\t 1 kB\n") == pytest.approx(80.0)
