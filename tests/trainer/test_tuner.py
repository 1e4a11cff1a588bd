from dataclasses import replace

import numpy as np
import pytest

from edge_agent.contract.errors import TrainingError
from trainer.model import build_base
from trainer.presets import HyperParameters, hyper_parameters, trainings
from trainer.tuner import EPOCH_WINDOWS, StoppedError, Tuner
from trainer.windows import Windows, tuning_spans


@pytest.fixture(scope="module")
def windows(small_builder, small_series):
    builder = small_builder("base")
    before, _ = tuning_spans(small_series, builder.plan, "meter", stride_s=21_600)
    return Windows(builder, before.origins)


@pytest.fixture(scope="module")
def network(windows):
    return build_base(windows.plan, HyperParameters(units=3))


@pytest.fixture
def tuner(network):
    return Tuner(network, hyper_parameters("finetune", {"batch_size": 64}), seed=1, stop_asked=lambda: False)


def train(tuner, windows, rate=1e-2, epochs=2, on_batch=lambda _n: None):
    return tuner.train(windows, np.arange(len(windows)), (rate, epochs), on_batch=on_batch)


def test_every_training_starts_from_the_base(tuner, windows):
    before = [w.copy() for w in tuner.base]
    first, again = train(tuner, windows), train(tuner, windows)
    for ours, theirs, base in zip(first, again, before, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)
        assert np.isfinite(ours).all()
        assert base.shape == ours.shape
    assert any(not np.allclose(ours, base) for ours, base in zip(first, before, strict=True))
    for kept, base in zip(tuner.base, before, strict=True):
        np.testing.assert_array_equal(kept, base)
    tuner.put(tuner.base, 1.0)


def test_mixtures_lie_between(tuner):
    tuned = [w + 1.0 for w in tuner.base]
    for share in (0.0, 0.25, 1.0):
        tuner.put(tuned, share)
        for now, base in zip(tuner.network.model.get_weights(), tuner.base, strict=True):
            np.testing.assert_allclose(now, base + share, rtol=1e-5, atol=1e-6)
    tuner.put(tuner.base, 1.0)


def test_progress_counts_every_window(tuner, windows):
    done = []
    train(tuner, windows, epochs=2, on_batch=done.append)
    assert sum(done) == 2 * (len(windows) // 64) * 64
    assert len(windows) < EPOCH_WINDOWS
    tuner.put(tuner.base, 1.0)


def test_asked_to_stop_it_stops(network, windows):
    tuner = Tuner(network, hyper_parameters("finetune", {}), seed=1, stop_asked=lambda: True)
    with pytest.raises(StoppedError):
        train(tuner, windows)
    tuner.put(tuner.base, 1.0)


def test_a_loss_that_is_not_finite_ends_it(tuner, windows):
    tuner.put([np.full_like(w, np.nan) for w in tuner.base], 1.0)
    base, tuner.base = tuner.base, tuner.network.core.get_weights()
    with pytest.raises(TrainingError, match="lower --learning-rate"):
        train(tuner, windows)
    tuner.put(base, 1.0)
    tuner.base = base
    tuner.put(base, 1.0)


def test_the_window_that_spoils_the_loss_is_named(tuner, small_builder, small_series):
    values = small_series.values.copy()
    values[60 * 24, 0] = 1e30
    builder = small_builder("base", series=replace(small_series, values=values))
    spoilt = Windows(builder, small_series.start + 3600 * np.arange(58 * 24, 60 * 24 + 2, 2), name="small")
    with pytest.raises(TrainingError, match=r"at fault is small from 2026-02-.*largest value 1e\+30 Wh"):
        tuner.train(spoilt, np.arange(len(spoilt)), (1e-3, 1), on_batch=lambda _n: None)
    tuner.put(tuner.base, 1.0)


def test_flags_set_the_firmest_training_and_the_others_follow():
    tried = trainings(hyper_parameters("finetune", {"learning_rate": 1e-3, "epochs": 3}))
    assert tried == [(pytest.approx(1e-4), 1), (pytest.approx(5e-4), 2), (pytest.approx(1e-3), 3)]
