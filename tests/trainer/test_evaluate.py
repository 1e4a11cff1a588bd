import keras
import numpy as np
import pytest

from edge_agent.contract.calibration import identity
from trainer.baselines import CLIMATOLOGY, baseline_predictions
from trainer.evaluate import calibrate, model_predictions, raw_outputs, score_table
from trainer.model import build_base
from trainer.presets import HyperParameters
from trainer.windows import Windows

HOUR = 3600


@pytest.fixture(scope="module")
def windows(small_builder):
    builder = small_builder("base")
    return Windows(builder, builder.series.start + HOUR * np.arange(1000, 1075))


@pytest.fixture(scope="module")
def model(windows):
    """The untrained network: the climatology."""
    return build_base(windows.plan, HyperParameters(units=3)).model


def only_mean(windows):
    """A model that forecasts the anchor's mean and no quantiles."""
    inputs = {name: keras.Input(shape, name=name) for name, shape in windows.plan.input_shapes().items()}
    return keras.Model(inputs, keras.layers.Activation("linear", name="mean")(inputs["anchor"][:, :, -1]))


def test_outputs_do_not_depend_on_the_batches(model, windows):
    for ours, theirs in zip(raw_outputs(model, windows, batch_size=7), raw_outputs(model, windows, batch_size=75), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_the_untrained_model_scores_as_the_climatology(model, windows):
    own = model_predictions(model, windows, identity(windows.plan.quantile_levels), batch_size=64)
    table = score_table({"model": own, **baseline_predictions(windows.builder, windows.origins, anchors=windows.anchors)})
    assert table["model"]["crps"] == pytest.approx(table[CLIMATOLOGY]["crps"], rel=1e-5)
    assert table["model"]["skill"]["mae"] == pytest.approx(0, abs=1e-5)
    assert table["persistence"]["skill"]["crps"] < 0


def test_a_model_without_quantiles_gets_them_from_its_residuals(windows):
    model = only_mean(windows)
    calibration = calibrate(model, windows, batch_size=64)
    own = model_predictions(model, windows, calibration, batch_size=64)
    assert (np.diff(own.quantiles, axis=-1) >= 0).all()
    share = (own.actual <= own.quantiles[:, :, 4]).mean()  # on the very origins it was learnt on, half lie below the median
    assert share == pytest.approx(0.5, abs=0.02)


def test_calibration_knows_how_many_origins_it_saw(model, windows):
    assert calibrate(model, windows, batch_size=64).n_origins == 75
