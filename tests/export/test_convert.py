import importlib
import json

import make_tiny_bundle as tiny
import numpy as np
import onnxruntime as ort
import pytest

from edge_agent.contract.errors import ExportError
from export.convert import convert, float32_twin, load_model
from export.graph import lstm_layers, obstacles
from export.graph import operators as graph_operators

OUTPUTS = ("quantiles", "mean")


def run_graph(graph, inputs):
    session = ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run([o.name for o in graph.graph.output], inputs)


def operators(converted):
    return graph_operators(converted.graph.SerializeToString())


def fixed_inputs(n=3):
    values = np.random.default_rng(0).normal(60, 30, (n, 24, 2)).astype(np.float32)
    values[0, :5, 0] = np.nan
    return {"context": values}


def test_graph_has_the_plans_tensors_with_free_batch_and_horizon(converted):
    shapes = {
        t.name: [d.dim_param or d.dim_value for d in t.type.tensor_type.shape.dim]
        for t in (*converted.graph.graph.input, *converted.graph.graph.output)
    }
    assert shapes == {
        "context": ["batch", 24, 5],
        "future": ["batch", "horizon", 5],
        "daily": ["batch", 3],
        "anchor": ["batch", "horizon", 10],
        "scale": ["batch", 1],
        "quantiles": ["batch", "horizon", 9],
        "mean": ["batch", "horizon"],
    }


def test_lstm_is_one_fused_node_of_opset_17(converted):
    assert operators(converted)["LSTM"] == 1
    assert not {"Loop", "Scan", "If"} & set(operators(converted))
    assert {o.domain: o.version for o in converted.graph.opset_import}[""] == 17
    assert converted.graph.ir_version == 8


def test_masked_unknown_values_stay_masked(converted):
    """tf2onnx's own Select multiplies by a mask, and NaN times zero is NaN."""
    assert operators(converted)["Where"] == 3


def test_sequential_model_converts_like_keras():
    plan = tiny.fixed_plan()
    converted = convert(tiny.fixed_model(plan), plan, ("mean",))
    inputs = fixed_inputs()
    np.testing.assert_allclose(run_graph(converted.graph, inputs)[0], converted.reference(inputs)[0], rtol=1e-4)


def test_single_window_equals_the_same_window_in_a_batch():
    plan = tiny.fixed_plan()
    graph = convert(tiny.fixed_model(plan), plan, ("mean",)).graph
    inputs = fixed_inputs()
    alone = run_graph(graph, {"context": inputs["context"][1:2]})[0]
    assert np.array_equal(alone[0], run_graph(graph, inputs)[0][1])


def test_model_built_for_batches_of_one_is_freed():
    import keras

    plan = tiny.fixed_plan()
    context = keras.Input(batch_shape=(1, 24, 2), name="context")
    model = keras.Model(context, keras.layers.Dense(6)(keras.layers.LSTM(4)(context)))
    assert operators(convert(model, plan, ("mean",)))["LSTM"] == 1


def test_nested_bidirectional_and_stacked_lstms_are_each_one_node():
    import keras
    from keras import layers

    plan = tiny.fixed_plan()
    inner = keras.Sequential([keras.Input((24, 2)), layers.Bidirectional(layers.LSTM(3, return_sequences=True)), layers.LSTM(4)], name="inner")
    context = keras.Input((24, 2), name="context")
    model = keras.Model(context, layers.Dense(6)(inner(keras.ops.where(keras.ops.isnan(context), 0.0, context))))
    converted = convert(model, plan, ("mean",))
    assert operators(converted)["LSTM"] == 2
    inputs = fixed_inputs()
    np.testing.assert_allclose(run_graph(converted.graph, inputs)[0], model.predict(inputs["context"], verbose=0), rtol=1e-4, atol=1e-5)


def test_half_precision_model_is_exported_in_float32():
    import keras
    from keras import layers

    plan = tiny.fixed_plan()
    context = keras.Input((24, 2), name="context")
    state = layers.LSTM(4, dtype="mixed_float16")(context)
    model = keras.Model(context, layers.Dense(6, dtype="float32")(state))
    converted = convert(model, plan, ("mean",))
    assert {layer.compute_dtype for layer in converted.twin.layers} == {"float32"}
    inputs = {"context": np.random.default_rng(1).normal(size=(2, 24, 2)).astype(np.float32)}
    np.testing.assert_allclose(converted.reference(inputs)[0], model.predict(inputs["context"], verbose=0), atol=1e-2)


def test_outputs_of_one_layer_are_told_apart():
    import keras

    plan = tiny.tiny_plan()
    model = tiny.tiny_model(plan)
    doubled = keras.Model(model.inputs, [model.outputs[0], keras.ops.mean(model.outputs[0], axis=-1)])
    names = [o.name for o in convert(doubled, plan, OUTPUTS).graph.graph.output]
    assert names == ["quantiles", "mean"]


@pytest.fixture
def gpu_host(monkeypatch):
    """Keras believes that it runs on a machine with a GPU, so that its LSTM would be traced as cuDNN's."""
    monkeypatch.setattr(importlib.import_module("keras.src.backend.tensorflow.rnn"), "_is_gpu_available", lambda: True)


def test_export_on_a_gpu_host_is_fused_too(gpu_host):
    plan = tiny.fixed_plan()
    assert operators(convert(tiny.fixed_model(plan), plan, ("mean",)))["LSTM"] == 1


def test_cudnn_node_is_refused(gpu_host, monkeypatch):
    """What would happen without the twin's use_cudnn=False: tf2onnx logs it and returns a graph that nothing can run."""
    monkeypatch.setattr("export.convert.float32_twin", lambda model, _outputs: _with_named_output(model))
    plan = tiny.fixed_plan()
    with pytest.raises(ExportError, match="CudnnRNNV3"):
        convert(tiny.fixed_model(plan), plan, ("mean",))


def _with_named_output(model):
    import keras

    return keras.Model(model.inputs, [keras.layers.Identity(name="output_mean")(model.outputs[0])])


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"recurrent_activation": "hard_sigmoid"}, "recurrent_activation='hard_sigmoid'"),
        ({"activation": "softsign"}, "activation='softsign'"),
        ({"recurrent_dropout": 0.2}, "recurrent_dropout=0.2"),
        ({"unroll": True}, "unroll=True"),
        ({"layer": "GRU"}, "is GRU, only LSTM is fused"),
    ],
)
def test_model_that_cannot_be_fused_is_refused_with_the_reason(settings, reason):
    plan = tiny.tiny_plan()
    with pytest.raises(ExportError, match=reason):
        convert(tiny.tiny_model(plan, **settings), plan, OUTPUTS)


def test_masking_layer_is_refused():
    import keras
    from keras import layers

    plan = tiny.fixed_plan()
    model = keras.Sequential([keras.Input((24, 2), name="context"), layers.Masking(), layers.LSTM(4), layers.Dense(6)])
    with pytest.raises(ExportError, match="masks steps"):
        convert(model, plan, ("mean",))


def test_model_for_another_plan_is_refused_with_both():
    plan = tiny.fixed_plan()
    with pytest.raises(ExportError, match=r"context float32\[batch,24,2\]; its feature plan says .*float32\[batch,horizon,10\]"):
        convert(tiny.fixed_model(plan), tiny.tiny_plan(), ("mean",))


def test_wrong_number_of_outputs_is_refused():
    plan = tiny.fixed_plan()
    with pytest.raises(ExportError, match="1 outputs"):
        convert(tiny.fixed_model(plan), plan, OUTPUTS)


def test_unbuilt_model_is_refused():
    import keras

    model = keras.Sequential([keras.layers.LSTM(3)])
    with pytest.raises(ExportError, match="cannot be rebuilt"):
        float32_twin(model, ("mean",))


def test_model_of_an_unknown_layer_is_refused(tmp_path):
    import keras

    class Strange(keras.layers.Layer):
        def call(self, inputs):
            return inputs

    keras.Sequential([keras.Input((3,)), Strange()]).save(tmp_path / "model.keras")
    with pytest.raises(ExportError, match="Strange"):
        load_model(tmp_path / "model.keras")


def test_damaged_model_file_is_refused(tmp_path):
    (tmp_path / "model.keras").write_bytes(b"no model")
    with pytest.raises(ExportError, match=r"model\.keras: Keras cannot load it"):
        load_model(tmp_path / "model.keras")


def test_loaded_model_needs_no_code_of_the_trainer(anchored_run):
    assert load_model(anchored_run / "model.keras").name == "tiny"


def test_lstm_layers_are_counted_through_wrappers():
    import keras
    from keras import layers

    model = keras.Sequential([keras.Input((4, 2)), layers.Bidirectional(layers.LSTM(2, return_sequences=True)), layers.LSTM(2)])
    assert lstm_layers(json.loads(model.to_json())) == 2


def test_plain_lstm_has_no_obstacles():
    assert obstacles(json.loads(tiny.tiny_model(tiny.tiny_plan()).to_json())) == []
