"""One forecast: the agent's graph beside its arithmetic floor, Keras and a plain numpy LSTM; and the whole of Forecaster.forecast."""

from __future__ import annotations

import statistics
import sys
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks import material
from benchmarks.section import Claim, Section, run_group
from benchmarks.timing import flop_rate, interleaved, percentile, sgemm
from edge_agent.contract.bundle import Bundle
from edge_agent.contract.features import ModelInputs
from edge_agent.forecaster import Forecaster, Model

WANTED_RATIO = 2.5
"""The seed graph's time over its arithmetic floor."""
AGENT, FLOOR = "agent: ONNX Runtime", "floor: the FLOPs at sgemm's rate"
RECURRENCE = "the recurrence alone: one BLAS matrix-vector product a step"

Float32s = npt.NDArray[np.float32]


def measure(quick: bool) -> list[Section]:
    """Time one forecast by every way to make it, in turns, on one thread."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    rounds = 3 if quick else 40
    return [*(graph_section(preset, rounds) for preset in material.PRESETS), whole_section(rounds)]


def graph_section(preset: str, rounds: int) -> Section:
    """The graph alone: one window in, one forecast out."""
    import keras
    import tensorflow as tf

    bundle = material.bundle(preset)
    model = Model(bundle)
    keras_model = keras.models.load_model(material.run(preset) / "model.keras", compile=False)
    inputs = last_window(preset)
    tensors = {name: tf.constant(array) for name, array in inputs.arrays.items()}
    function, compiled = tf.function(keras_model), tf.function(keras_model, jit_compile=True)
    lstm, window = numpy_lstm(keras_model.get_layer("lstm"))
    recurrent = keras_model.get_layer("lstm").get_weights()[1]
    calls = {
        AGENT: lambda: model.run(inputs),
        "tf.function, compiled by XLA": lambda: compiled(tensors),
        RECURRENCE: lambda: recurrence(recurrent, len(window)),
        "plain numpy, the LSTM layer alone": lambda: lstm(window),
        "tf.function": lambda: function(tensors),
        "Keras predict": lambda: keras_model.predict(inputs.arrays, verbose=0),
        "sgemm": sgemm(),
    }
    times = interleaved(calls, rounds=rounds, repeats={AGENT: 10})
    flops = keras_flops(keras_model, bundle.manifest.plan.horizon)
    floor = flops / flop_rate(times.pop("sgemm"))
    ours = statistics.median(times[AGENT])
    rows = [
        [name, f"{1e3 * statistics.median(t):.2f}", f"{1e3 * percentile(t, 99):.2f}", f"{statistics.median(t) / ours:.2f}"]
        for name, t in times.items()
    ]
    rows.sort(key=lambda row: row[0] != RECURRENCE)
    rows.insert(0, [FLOOR, f"{1e3 * floor:.2f}", "-", f"{floor / ours:.2f}"])
    text = (
        f"{_size(bundle)}; {flops / 1e6:.1f} MFLOP of matrix products, which sgemm does at {flops / floor / 1e9:.0f} GFLOP/s on one core here. "
        "One window, one thread, all ways in turns."
    )
    claims = [Claim(f"`{preset}` graph, one forecast", f"<= {WANTED_RATIO} x floor", f"{ours / floor:.2f} x", ours / floor <= WANTED_RATIO)]
    return Section(f"One forecast, graph of `{preset}`", text, ["", "median ms", "p99 ms", "ratio"], rows, claims if preset == "seed" else [])


def _size(bundle: Bundle) -> str:
    plan = bundle.manifest.plan
    return f"Context {plan.context_length} x {len(plan.context)}, horizon {plan.horizon}"


def last_window(preset: str) -> ModelInputs:
    """The made-up house's last window."""
    builder = material.builder(preset)
    return builder.inputs(np.array([builder.series.end - 86_400], np.int64))


def keras_flops(model: Any, horizon: int) -> int:
    """Multiplications and additions of the matrix products in one forecast."""
    total = 0
    for layer in model.layers:
        kind = type(layer).__name__
        if kind == "LSTM":
            kernel, recurrent = (w.shape for w in layer.get_weights()[:2])
            total += 2 * layer.input.shape[1] * (kernel[0] + recurrent[0]) * kernel[1]
        elif kind == "Dense":
            rows = horizon if len(layer.input.shape) == 3 else 1
            total += 2 * rows * int(np.prod(layer.get_weights()[0].shape))
    return total


def numpy_lstm(layer: Any) -> tuple[Any, Float32s]:
    """The LSTM layer as a few lines of numpy, and a window for it: all inputs in one product, then one product and one tanh a step."""
    kernel, recurrent, bias = layer.get_weights()
    units = recurrent.shape[0]
    half = np.full(4 * units, 0.5, np.float32)  # sigmoid(x) = 0.5 + 0.5 tanh(x / 2): one tanh call for all gates
    half[2 * units : 3 * units] = 1.0
    kernel, recurrent, bias = kernel * half, recurrent * half, bias * half

    def run(window: Float32s) -> Float32s:
        projected = window @ kernel + bias
        state, cell = np.zeros(units, np.float32), np.zeros(units, np.float32)
        for row in projected:
            gates = np.tanh(row + state @ recurrent)
            entry, forget, out = (0.5 + 0.5 * gates[i * units : (i + 1) * units] for i in (0, 1, 3))
            cell = forget * cell + entry * gates[2 * units : 3 * units]
            state = out * np.tanh(cell)
        return state

    return run, np.random.default_rng(1).standard_normal((layer.input.shape[1], kernel.shape[0])).astype(np.float32)


def recurrence(recurrent: Float32s, n_steps: int) -> Float32s:
    """The products that have to wait for each other."""
    state, gates = recurrent[:, 0].copy(), np.empty(recurrent.shape[1], np.float32)
    for _ in range(n_steps):
        np.dot(state, recurrent, out=gates)
    return gates


def whole_section(rounds: int) -> Section:
    """From 60 days of history to a forecast with totals, as the agent does it at each step."""
    house, series = material.house(), material.series()
    origin = series.end - 86_400
    models = {preset: Model(material.bundle(preset)) for preset in material.PRESETS}
    forecasters = {preset: Forecaster(house, model) for preset, model in models.items()}
    forecasters["climatology (no model)"] = Forecaster(house, None)
    windows = {preset: last_window(preset) for preset in models}
    history = series.between(origin - 60 * 86_400, origin)
    calls: dict[str, Any] = {name: lambda f=f: f.forecast(history, origin, issued_at=origin) for name, f in forecasters.items()}
    calls |= {f"{name}: its graph alone": lambda m=m, w=windows[name]: m.run(w) for name, m in models.items()}
    times = interleaved(calls, rounds=5 * rounds)
    rows = [[name, f"{1e3 * statistics.median(t):.2f}", f"{1e3 * percentile(t, 99):.2f}"] for name, t in times.items()]
    text = "Forecaster.forecast: features, anchor, graph, calibration and day total, from 60 days of history of 28 sensors; the floor is the graph."
    return Section("One forecast, whole", text, ["", "median ms", "p99 ms"], rows)


if __name__ == "__main__":
    sys.exit(run_group(measure, one_thread=True))
