"""Keras model -> ONNX graph. The only importer of tf2onnx.

tf2onnx turns a Keras LSTM into one fused LSTM node, but only a float32 one of the plain kind, and it merely logs what it cannot convert. So the model
is first rebuilt as its float32 twin, and nothing that tf2onnx returns is believed: `graph.check` refuses what is not exactly the graph expected.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from edge_agent.contract.errors import ExportError
from edge_agent.contract.plan import FeaturePlan
from export.graph import check, first_line, name_axes, name_outputs, reasons

OPSET: Final = 17
"""Runs in ONNX Runtime 1.16 and later; tf2onnx ends at 18."""
Arrays = dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Converted:
    """An ONNX graph and the Keras model that it must agree with."""

    graph: Any
    """`onnx.ModelProto`."""
    twin: Any
    """`keras.Model`, float32."""

    def reference(self, inputs: Arrays) -> list[npt.NDArray[np.float32]]:
        """What Keras computes on this machine's processor."""
        import tensorflow as tf

        with tf.device("/CPU:0"):  # a GPU's TF32 products differ by 1e-3
            outputs = self.twin.predict(inputs, batch_size=32, verbose=0)
        return outputs if isinstance(outputs, list) else [outputs]


def load_model(path: Path) -> Any:
    """The Keras model saved at `path`, without code of the trainer.

    Raises:
        ExportError: it cannot be loaded, because it is damaged or made of layers that Keras does not have.
    """
    import keras

    if keras.backend.backend() != "tensorflow":
        raise ExportError(f"Keras runs on {keras.backend.backend()}: export needs KERAS_BACKEND=tensorflow (training may use another)")
    try:
        return keras.models.load_model(path, compile=False)
    except Exception as err:  # Keras raises anything from OSError to TypeError, the cause at the end of a long message
        cause = str(err).rpartition("Exception encountered: ")[2].splitlines()[:1] or [first_line(err)]
        raise ExportError(f"{path}: Keras cannot load it ({cause[0]}): a model of Keras's own layers and keras.ops is expected") from err


def convert(model: Any, plan: FeaturePlan, outputs: tuple[str, ...]) -> Converted:
    """The ONNX graph of `model`, with inputs and outputs as `plan` and `outputs` name them.

    Raises:
        ExportError: tf2onnx cannot convert it faithfully, or to one fused LSTM node for each LSTM layer.
    """
    import tensorflow as tf
    import tf2onnx

    twin = float32_twin(model, outputs)
    signature = [tf.TensorSpec((None, *i.shape[1:]), i.dtype, name=i.name) for i in twin.inputs]  # a batch of 1 would become a Loop
    with _log_of(tf2onnx) as complaints:
        try:
            graph, _ = tf2onnx.convert.from_keras(twin, input_signature=signature, opset=OPSET, custom_op_handlers={"SelectV2": (_where, [])})
        except Exception as err:  # tf2onnx raises anything from KeyError to AssertionError
            raise ExportError(f"tf2onnx cannot convert the model ({first_line(err)}){reasons(twin, complaints)}") from err
    name_outputs(graph, outputs)
    name_axes(graph)
    check(graph, twin, plan, complaints)
    return Converted(graph, twin)


def float32_twin(model: Any, outputs: tuple[str, ...]) -> Any:
    """A functional float32 model with the weights of `model`, whatever precision or device trained it; its outputs come from layers `output_NAME`.

    Raises:
        ExportError: it cannot be rebuilt from its configuration, or has another number of outputs.
    """
    import keras

    try:
        config = json.loads(model.to_json())
        _make_float32(config)
        twin = keras.models.model_from_json(json.dumps(config))
        for layer in twin._flatten_layers():  # noqa: SLF001  no public call reaches nested models and both halves of Bidirectional
            if hasattr(layer, "use_cudnn"):
                layer.use_cudnn = False  # not part of a layer's configuration, so never inherited
        twin.set_weights(model.get_weights())
        results = list(twin.outputs)
    except Exception as err:
        problem = f"the model cannot be rebuilt in float32 ({first_line(err)})"
        raise ExportError(f"{problem}: a functional or Sequential model with fixed inputs is expected") from err
    if len(results) != len(outputs):
        raise ExportError(f"the model has {len(results)} outputs, its run names {outputs}: train again with this version")
    # a Sequential model, and outputs that share a layer, upset tf2onnx
    named = [keras.layers.Identity(name=f"output_{name}", dtype="float32")(result) for name, result in zip(outputs, results, strict=True)]
    return keras.Model(twin.inputs, named, name=model.name)


def _where(_context: Any, node: Any, _name: str, _args: list[str]) -> None:
    """TensorFlow's SelectV2 as ONNX Where: tf2onnx's own choice, a * mask + b * (1 - mask), lets the NaN of an unknown value through the mask."""
    node.type = "Where"


def _make_float32(node: Any) -> None:
    """Set every precision policy in a model's configuration to float32, and free every fixed batch size."""
    if isinstance(node, list):
        for item in node:
            _make_float32(item)
    elif isinstance(node, dict):
        if node.get("class_name") == "DTypePolicy":
            node["config"]["name"] = "float32"
        if isinstance(node.get("batch_shape"), list):
            node["batch_shape"][0] = None
        for item in node.values():
            _make_float32(item)


@contextmanager
def _log_of(tf2onnx: Any) -> Iterator[list[str]]:
    """What tf2onnx logs as an error while it converts; it never raises for an operator that it cannot convert, and warns of much that is harmless."""
    complaints: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            complaints.append(record.getMessage().splitlines()[0])

    logger, keep = logging.getLogger(tf2onnx.__name__), Keep(logging.ERROR)
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(keep)
    try:
        yield complaints
    finally:
        logger.removeHandler(keep)
        logger.propagate = propagate
