"""What an exported graph must look like, and why one does not."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, Final

from edge_agent.contract.errors import ExportError
from edge_agent.contract.plan import FeaturePlan

LOOPS: Final = frozenset({"Loop", "Scan", "If"})
FUSIBLE: Final[dict[str, tuple[Any, ...]]] = {
    "activation": ("tanh", "relu", "sigmoid"),
    "recurrent_activation": ("sigmoid",),
    "recurrent_dropout": (0, 0.0),
    "unroll": (False,),
    "stateful": (False,),
}
"""Settings of an LSTM layer that tf2onnx fuses; the usual one first."""


def check(graph: Any, twin: Any, plan: FeaturePlan, complaints: list[str]) -> None:
    """Refuse a graph that is not what was asked for; `complaints` are what tf2onnx logged.

    Raises:
        ExportError: unknown operators, loops, fewer LSTM nodes than LSTM layers, other inputs than the plan's, a fixed batch or horizon.
    """
    import onnx

    counts = Counter(node.op_type for node in graph.graph.node)
    unknown = sorted({n.op_type for n in graph.graph.node if n.domain not in ("", "ai.onnx") or not onnx.defs.has(n.op_type)})
    if unknown:
        raise ExportError(f"the graph has operators that ONNX does not know: {', '.join(unknown)}{reasons(twin, complaints)}")
    config = json.loads(twin.to_json())
    n_lstm, loops = lstm_layers(config), sorted(LOOPS & set(counts))
    if loops or counts["LSTM"] < n_lstm or obstacles(config):
        found = f"{counts['LSTM']} fused LSTM nodes for {n_lstm} LSTM layers" + (f", and {', '.join(loops)}" if loops else "")
        raise ExportError(f"the graph would be several times slower than a fused one: {found}{reasons(twin, complaints)}")
    found_inputs, expected = {i.name: _described(i) for i in graph.graph.input}, _expected_inputs(plan)
    if found_inputs != expected:
        problem = f"the graph has inputs {_listed(found_inputs)}; its feature plan says {_listed(expected)}"
        raise ExportError(f"{problem}: build the model for this plan, with nothing captured from outside")
    try:
        onnx.checker.check_model(graph, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as err:
        raise ExportError(f"the graph is not valid ONNX ({first_line(err)}){reasons(twin, complaints)}") from err


def _expected_inputs(plan: FeaturePlan) -> dict[str, str]:
    shapes = {name: ["batch", *map(str, shape)] for name, shape in plan.input_shapes().items()}
    if plan.anchored:  # bound to a house's step, such a model forecasts any number of steps
        for name in {"future", "anchor", "weather"} & set(shapes):
            shapes[name][1] = "horizon"
    return {name: f"float32[{','.join(shape)}]" for name, shape in shapes.items()}


def _described(value: Any) -> str:
    import onnx

    tensor = value.type.tensor_type
    shape = [str(d.dim_value) if d.HasField("dim_value") else d.dim_param for d in tensor.shape.dim]
    return f"{onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)}[{','.join(shape)}]"


def _listed(tensors: dict[str, str]) -> str:
    return ", ".join(f"{name} {text}" for name, text in sorted(tensors.items()))


def lstm_layers(config: Any) -> int:
    """LSTM layers in a model's configuration, nested ones too; both directions of a Bidirectional are one ONNX node."""
    if isinstance(config, list):
        return sum(lstm_layers(item) for item in config)
    if not isinstance(config, dict):
        return 0
    if config.get("class_name") == "LSTM":
        return 1
    found = lstm_layers(list(config.values()))
    return min(found, 1) if config.get("class_name") == "Bidirectional" else found


def obstacles(config: Any) -> list[str]:
    """What in a model's configuration is known to stop tf2onnx from fusing an LSTM."""
    if isinstance(config, list):
        return [text for item in config for text in obstacles(item)]
    if not isinstance(config, dict):
        return []
    kind, own = config.get("class_name"), config.get("config")
    found = obstacles(list(config.values()))
    if not isinstance(own, dict):
        return found
    name = own.get("name")
    if kind in ("GRU", "SimpleRNN", "RNN", "ConvLSTM1D"):
        found.append(f"layer {name!r} is {kind}, only LSTM is fused")
    if kind == "Masking":
        found.append(f"layer {name!r} masks steps, mask values inside the model instead")
    if kind == "LSTM":
        wrong = [(key, good[0]) for key, good in FUSIBLE.items() if own.get(key, good[0]) not in good]
        found += [f"layer {name!r} has {key}={own[key]!r}, {good!r} is expected" for key, good in wrong]
    return found


def operators(model: bytes) -> dict[str, int]:
    """How often each operator occurs in model.onnx, most frequent first."""
    import onnx

    return dict(Counter(node.op_type for node in onnx.load_from_string(model).graph.node).most_common())


def reasons(twin: Any, complaints: list[str]) -> str:
    """The likely causes, for the end of an error message."""
    causes = [*obstacles(json.loads(twin.to_json())), *dict.fromkeys(complaints[:3])]
    return f" ({'; '.join(causes)}): change the model and train again" if causes else ": change the model and train again"


def name_outputs(graph: Any, outputs: tuple[str, ...]) -> None:
    """Call the graph's outputs by the plan's names instead of their layers'."""
    for name in outputs:
        _rename(graph, name, f"inner_{name}")
    for name in outputs:
        _rename(graph, f"output_{name}", name)
    found = {o.name for o in graph.graph.output}
    if found != set(outputs):
        raise ExportError(f"the graph has outputs {sorted(found)}, {list(outputs)} are expected: train again with this version")


def _rename(graph: Any, old: str, new: str) -> None:
    for node in graph.graph.node:
        for names in (node.input, node.output):
            names[:] = [new if name == old else name for name in names]
    for value in (*graph.graph.output, *graph.graph.value_info, *graph.graph.initializer):
        if value.name == old:
            value.name = new


def name_axes(graph: Any) -> None:
    """Name the free axes; tf2onnx numbers them, differently at each run."""
    for value in (*graph.graph.input, *graph.graph.output):
        for axis, dim in zip(("batch", "horizon"), value.type.tensor_type.shape.dim, strict=False):
            if not dim.HasField("dim_value"):
                dim.dim_param = axis


def first_line(err: Exception) -> str:
    """Kind and first line of an error of somebody else's."""
    lines = str(err).strip().splitlines()
    return f"{type(err).__name__}: {lines[0]}" if lines else type(err).__name__
