import math
from dataclasses import replace

import keras
import numpy as np
import pytest

from edge_agent.contract.errors import TrainingError
from trainer.loop import Epoch, Progress, Task, train
from trainer.model import Network, forecast_loss
from trainer.presets import HyperParameters
from trainer.windows import Windows

HOUR = 3600
HYPER = HyperParameters(epochs=4, batch_size=8, units=3, stride_s=0, patience=9)


class Silent:
    def __init__(self):
        self.rows, self.batches = [], []

    def batch(self, epoch, done, loss):
        self.batches.append((epoch, done))

    def epoch(self, row, best):
        self.rows.append(row)


def tiny_network(plan):
    """The anchor plus a linear correction that starts at zero, with dropout: compiled in no time, and trained as any other."""
    inputs = {name: keras.Input(shape, name=name) for name, shape in plan.input_shapes().items()}
    anchor = inputs["anchor"] / keras.ops.expand_dims(inputs["scale"], 1)
    features = keras.layers.Dropout(0.3)(keras.ops.concatenate([inputs["future"][:, :, :6], anchor], axis=-1))
    core = keras.Model(inputs, anchor + keras.layers.Dense(10, kernel_initializer="zeros")(features))
    return Network(core, core, lambda inputs, actual: actual / inputs["scale"], forecast_loss(plan.quantile_levels, mean_weight=0.05))


@pytest.fixture(scope="module")
def spans(small_builder):
    builder = small_builder("base")
    at = [builder.series.start + HOUR * np.arange(first, first + 20) for first in (700, 900)]
    return [Windows(builder, origins) for origins in at]


@pytest.fixture
def task(spans):
    def make(hyper=HYPER, keep_untrained=True, **changes):
        keras.utils.set_random_seed(3)
        network = replace(tiny_network(spans[0].plan), **changes)
        return Task(network, *spans, hyper=hyper, seed=5, keep_untrained=keep_untrained)

    return make


def run(task, tmp_path, *, stop_asked=lambda: False, resume=False):
    display = Silent()
    progress = train(task, checkpoint=tmp_path / "checkpoint" / "state.npz", display=display, stop_asked=stop_asked, resume=resume)
    return progress, display


def losses(progress):
    return [(row.epoch, row.loss, row.validation_loss, row.learning_rate) for row in progress.history[1:]]


def test_every_epoch_is_told_and_kept(task, tmp_path):
    progress, display = run(task(), tmp_path)
    assert [row.epoch for row in progress.history] == [0, 1, 2, 3, 4]
    assert display.batches[:4] == [(1, 8), (1, 16), (1, 20), (2, 8)]
    assert display.rows == progress.history


def test_a_stopped_and_resumed_run_has_the_history_of_one_that_went_through(task, tmp_path):
    whole, _ = run(task(), tmp_path / "whole")
    asked = iter([False] * 7 + [True])  # 3 batches an epoch: stops in the middle of the third
    stopped, _ = run(task(), tmp_path / "cut", stop_asked=lambda: next(asked))
    assert stopped.interrupted
    assert [row.epoch for row in stopped.history] == [0, 1, 2]
    resumed, _ = run(task(), tmp_path / "cut", resume=True)
    assert not resumed.interrupted
    np.testing.assert_allclose(losses(resumed), losses(whole), rtol=1e-5)
    for ours, theirs in zip(resumed.best_weights, whole.best_weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_the_untrained_network_stays_when_no_epoch_is_better(task, tmp_path):
    wild = task(replace(HYPER, learning_rate=1.0, schedule="constant"))
    before = [w.copy() for w in wild.network.core.get_weights()]
    progress, _ = run(wild, tmp_path)
    assert progress.best_epoch == 0
    for ours, theirs in zip(wild.network.core.get_weights(), before, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_network_ends_with_the_best_epochs_weights(task, tmp_path):
    ours = task(keep_untrained=False)
    progress, _ = run(ours, tmp_path)
    assert progress.best_epoch > 0
    assert progress.best_loss == min(row.validation_loss for row in progress.history)
    for now, best in zip(ours.network.core.get_weights(), progress.best_weights, strict=True):
        np.testing.assert_array_equal(now, best)


def test_training_stops_when_patience_ends(task, tmp_path):
    progress, _ = run(task(replace(HYPER, learning_rate=1.0, schedule="constant", patience=2)), tmp_path)
    assert [row.epoch for row in progress.history] == [0, 1, 2]


def test_a_loss_that_is_not_a_number_stops_training_and_says_what_to_do(task, tmp_path):
    broken = task(loss=lambda _actual, predicted: predicted[:, 0, 0] * math.nan, keep_untrained=False)
    with pytest.raises(TrainingError, match=r"became nan in epoch 1, batch 1 of 3: .* lower --learning-rate \(it is 0.002\)"):
        run(broken, tmp_path)


@pytest.fixture
def poisoned(small_builder, small_series):
    """`poisoned(row)`: twenty windows of a house whose meter said something in that hour that no float can square."""

    def make(row, first=700):
        values = small_series.values.copy()
        values[row, 0] = 1e30
        builder = small_builder("base", series=replace(small_series, values=values))
        return Windows(builder, builder.series.start + HOUR * np.arange(first, first + 20), name="small:energy")

    return make


def test_a_poisoned_window_is_named_with_its_house_and_span(task, poisoned, tmp_path):
    broken = replace(task(), windows=poisoned(742))  # the last hour of the horizon of the last window but one
    with pytest.raises(TrainingError) as error:
        run(broken, tmp_path)
    # windows begin at hours 700 to 719 and forecast 24: those of 719 alone reach hour 742
    assert "became inf in epoch 1" in str(error.value)
    assert "at fault is small:energy from 2026-01-23T23:00:00Z to 2026-01-31T23:00:00Z (forecast from 2026-01-30T23:00:00Z" in str(error.value)
    assert "largest value 1e+30 Wh" in str(error.value)


def test_a_poisoned_window_of_the_stopping_span_is_named_before_training(task, poisoned, tmp_path):
    broken = replace(task(), stopping=poisoned(742))
    with pytest.raises(TrainingError, match=r"in the validation of epoch 0, batch 3 of 3: at fault is small:energy from 2026-01-23T23"):
        run(broken, tmp_path)


def test_training_that_runs_away_blames_no_house(task, tmp_path):
    with pytest.raises(TrainingError, match=r"no window of the batch does that by itself, .* lower --learning-rate \(it is 1e\+25\)"):
        run(task(replace(HYPER, learning_rate=1e25, schedule="constant")), tmp_path)


def test_stopped_before_the_first_epoch_there_is_nothing_to_keep(task, tmp_path):
    with pytest.raises(TrainingError, match="nothing to keep"):
        run(task(keep_untrained=False), tmp_path, stop_asked=lambda: True)


def test_stopped_before_the_first_epoch_the_climatology_is_kept(task, tmp_path):
    progress, _ = run(task(), tmp_path, stop_asked=lambda: True)
    assert (progress.interrupted, progress.best_epoch) == (True, 0)


def test_a_checkpoint_of_another_optimizer_is_refused(task, tmp_path):
    run(task(replace(HYPER, epochs=1)), tmp_path)
    with pytest.raises(TrainingError, match="another network or optimizer"):
        run(task(replace(HYPER, mixed_precision=True)), tmp_path, resume=True)


@pytest.mark.parametrize(("schedule", "last"), [("constant", 1.0), ("cosine", 0.0), ("exponential", 0.1)])
def test_the_learning_rate_follows_its_schedule(task, tmp_path, schedule, last):
    progress, _ = run(task(replace(HYPER, epochs=2, schedule=schedule)), tmp_path)
    assert progress.history[-1].learning_rate == pytest.approx(last * HYPER.learning_rate, abs=1e-9)


def test_the_plateau_schedule_halves_the_rate_after_five_epochs_without_gain(task, tmp_path):
    hyper = replace(HYPER, epochs=7, learning_rate=1.0, schedule="plateau", patience=99)
    progress, _ = run(task(hyper), tmp_path)
    assert [row.learning_rate for row in progress.history] == [1.0] * 6 + [0.5] * 2


def test_a_gain_smaller_than_min_delta_does_not_count():
    progress = Progress()
    for number, value in enumerate([1.0, 0.995, 0.9]):
        progress.add(Epoch(number, 0.0, value, 0.0, 0.0, 0.0), [np.array(number)], min_delta=0.01)
        assert progress.best_epoch == (0, 0, 2)[number]
    assert (progress.wait, progress.best_loss) == (0, 0.9)


def ensemble(task):
    """The task with two members of one average, judged by what they are trained on, so that training helps."""
    parts = [tiny_network(task.windows.plan) for _ in range(2)]
    inputs = parts[0].core.input
    core = keras.Model(inputs, keras.layers.Average()([part.core(inputs) for part in parts]))
    return replace(task, stopping=task.windows, network=replace(task.network, model=core, core=core, members=tuple(parts)))


def test_members_are_trained_one_after_another_and_their_epochs_counted_on(task, tmp_path):
    progress, display = run(ensemble(task()), tmp_path)
    assert [row.epoch for row in display.rows] == list(range(9))
    assert [row.epoch for row in progress.history] == list(range(9))
    assert progress.best_loss < progress.history[0].validation_loss


def test_an_ensemble_stopped_early_is_as_good_as_its_first_member(task, tmp_path):
    asked = ensemble(task())
    calls = iter(range(10**6))
    progress, _ = run(asked, tmp_path, stop_asked=lambda: next(calls) >= 4 * 3 + 1)
    assert progress.interrupted
    first, second = (member.core.get_weights() for member in asked.network.members)
    for ours, theirs in zip(first, second, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert any(weights.any() for weights in first)


def test_an_ensemble_goes_on_where_it_was_stopped(task, tmp_path):
    whole = run(ensemble(task()), tmp_path / "whole")[0]
    calls = iter(range(10**6))
    run(ensemble(task()), tmp_path / "parts", stop_asked=lambda: next(calls) >= 4 * 3 + 4)
    resumed = run(ensemble(task()), tmp_path / "parts", resume=True)[0]
    assert resumed.best_loss == pytest.approx(whole.best_loss, rel=1e-5)
