from dataclasses import replace

import numpy as np
import onnx
import pytest

from edge_agent.contract.errors import ExportError
from edge_agent.forecaster import Model
from export.assemble import bundle_in_memory, manifest_of
from export.run_folder import read_run
from export.verify import TOLERANCE, parity, trials


@pytest.fixture
def run(anchored_run):
    return read_run(anchored_run)


def model_of(graph, converted, run):
    return Model(bundle_in_memory(manifest_of(run, converted, "tiny"), graph.SerializeToString(), run))


def test_faithful_graph_agrees_on_every_kind_of_window(converted, run):
    results = parity(model_of(converted.graph, converted, run), converted.reference, run)
    assert [r.windows for r in results] == ["real", "gappy", "unknown", "random", "half-horizon"]
    assert max(r.worst for r in results) < TOLERANCE / 10


def test_tampered_weight_is_caught(converted, run):
    graph = onnx.ModelProto()
    graph.CopyFrom(converted.graph)
    weights = max((i for i in graph.graph.initializer if i.data_type == onnx.TensorProto.FLOAT), key=lambda i: np.prod(i.dims))
    values = onnx.numpy_helper.to_array(weights).copy()
    values.flat[0] += 0.5
    weights.CopyFrom(onnx.numpy_helper.from_array(values, weights.name))
    with pytest.raises(ExportError, match="differs from Keras"):
        parity(model_of(graph, converted, run), converted.reference, run)


def test_reference_slightly_off_is_caught(converted, run):
    model = model_of(converted.graph, converted, run)
    with pytest.raises(ExportError, match=r"differs from Keras by 0\.0002"):
        parity(model, lambda inputs: [output * 1.0002 for output in converted.reference(inputs)], run)


def test_crossing_quantiles_are_refused(converted, run):
    model = model_of(converted.graph, converted, run)
    straight = model.run
    model.run = lambda inputs: (straight(inputs)[0][..., ::-1], straight(inputs)[1])
    with pytest.raises(ExportError, match="quantiles cross"):
        parity(model, converted.reference, run)


def test_forecast_that_is_not_finite_is_refused(converted, run):
    model = model_of(converted.graph, converted, run)
    straight = model.run
    model.run = lambda inputs: (straight(inputs)[0], straight(inputs)[1] + np.nan)
    with pytest.raises(ExportError, match="mean on real windows: the forecast is not finite"):
        parity(model, converted.reference, run)


def test_wrong_horizon_is_refused(converted, run):
    model = model_of(converted.graph, converted, run)
    straight = model.run
    model.run = lambda inputs: (straight(inputs)[0][:, :-1], straight(inputs)[1][:, :-1])
    with pytest.raises(ExportError, match=r"shape \(30, 23\): \(30, 24\) is expected"):
        parity(model, converted.reference, run)


def test_gaps_never_touch_calendar_anchor_or_scale(run):
    trial = dict(trials(run))
    unknown = trial["unknown"].arrays
    assert np.isnan(unknown["context"][:, :, :2]).all()
    assert np.isnan(unknown["daily"]).all()
    assert np.isfinite(unknown["context"][:, :, 2:]).all()
    assert np.isfinite(unknown["anchor"]).all()
    assert np.isnan(trial["gappy"].arrays["context"]).any()


def test_trials_are_the_same_every_time(run):
    first, second = ({name: inputs.arrays["context"] for name, inputs in trials(run)} for _ in range(2))
    assert all(np.array_equal(first[name], second[name], equal_nan=True) for name in first)


def test_further_samples_are_all_compared(run):
    two = replace(run, samples=run.samples * 2)
    assert [name for name, _ in trials(two)].count("real (2)") == 1


def test_model_of_one_step_is_not_tried_at_another_horizon(fixed_run):
    assert [name for name, _ in trials(read_run(fixed_run))] == ["real", "gappy", "unknown", "random"]
