"""Proof that a bundle forecasts what Keras forecasts, through the very code that runs on the gateway."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from edge_agent.contract.errors import ExportError
from edge_agent.contract.features import ModelInputs
from edge_agent.contract.plan import CALENDAR, FeaturePlan
from edge_agent.forecaster import Model
from export.graph import first_line
from export.run_folder import Run

TOLERANCE: Final = 1e-4
"""Largest difference allowed, relative to the largest value of the same window."""
N_WINDOWS: Final = 32
GAP_SHARE: Final = 0.2
SEED: Final = 1964

Float32s = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Arrays = dict[str, Float32s]
Reference = Callable[[Arrays], list[Float32s]]


@dataclass(frozen=True)
class Parity:
    """How far graph and Keras lie apart on one kind of window."""

    windows: str
    count: int
    worst: float
    """Largest difference, relative to the largest value of the same window."""


def parity(model: Model, reference: Reference, run: Run) -> list[Parity]:
    """The graph, run by the agent's code, beside Keras on real, gappy and random windows.

    Raises:
        ExportError: they differ by more than `TOLERANCE`, a forecast is not finite or of another shape, or quantiles cross.
    """
    results = []
    for windows, inputs in trials(run):
        graph, keras = _graph_outputs(model, inputs, windows), dict(zip(run.outputs, reference(inputs.arrays), strict=True))
        worst = max(_difference(graph[name], keras[name], f"{name} on {windows} windows") for name in run.outputs)
        results.append(Parity(windows, len(inputs.origins), worst))
        if not worst <= TOLERANCE:
            problem = f"on {windows} windows ONNX differs from Keras by {worst:.2g} of the largest value"
            raise ExportError(f"{problem}, at most {TOLERANCE:g} is expected: the model cannot be exported faithfully; report it with its run folder")
    return results


def _graph_outputs(model: Model, inputs: ModelInputs, windows: str) -> dict[str, Floats]:
    try:
        quantiles, mean = model.run(inputs)
    except Exception as err:  # onnxruntime raises a dozen unrelated types
        raise ExportError(f"on {windows} windows the graph cannot run ({first_line(err)}): build the model for its feature plan") from err
    plan = model.bundle.manifest.plan
    horizon = inputs.arrays["anchor"].shape[1] if plan.anchored else plan.horizon
    if mean.shape != (len(inputs.origins), horizon):
        raise ExportError(f"on {windows} windows the model's mean has shape {mean.shape}: ({len(inputs.origins)}, {horizon}) is expected by its plan")
    if quantiles is None:
        return {"mean": mean}
    if quantiles.shape[-1] != len(plan.quantile_levels) or (np.diff(quantiles, axis=-1) < 0).any():
        raise ExportError(f"on {windows} windows the model's quantiles cross: sort them inside the model, one for each level of its plan")
    return {"quantiles": quantiles, "mean": mean}


def _difference(graph: Floats, keras: Float32s, what: str) -> float:
    """Largest difference relative to the largest value of the same window; windows that are all but zero count against the largest of all."""
    if graph.shape != keras.shape:
        raise ExportError(f"{what}: ONNX gives {graph.shape}, Keras {keras.shape}: report this with the run folder")
    if not (np.isfinite(graph).all() and np.isfinite(keras).all()):
        raise ExportError(f"{what}: the forecast is not finite: mask unknown values inside the model")
    axes = tuple(range(1, graph.ndim))
    size = np.abs(keras).max(axis=axes).astype(np.float64)
    return float((np.abs(graph - keras).max(axis=axes) / np.maximum(size, max(1e-3 * float(size.max()), 1e-9))).max())


def trials(run: Run) -> Iterator[tuple[str, ModelInputs]]:
    """Windows to compare on, by kind: real, the same with gaps, all unknown, random; and another horizon where the model takes any."""
    dice = np.random.default_rng(SEED)
    for i, sample in enumerate(run.samples):
        picked = sample.origins[np.linspace(0, len(sample.origins) - 1, min(len(sample.origins), N_WINDOWS)).astype(int)]
        real = sample.inputs(run.plan, picked)
        yield "real" if len(run.samples) == 1 else f"real ({i + 1})", real
        if i == 0:
            yield "gappy", _forgotten(real, run.plan, lambda shape: _gaps(shape, dice))
            yield "unknown", _forgotten(real, run.plan, lambda shape: np.ones(shape, np.bool_))
            random = _random(real, dice)
            yield "random", random
            if run.plan.anchored:
                yield "half-horizon", _with_horizon(random, run.plan.at_step(sample.series.step_s).horizon // 2)


def _gaps(shape: tuple[int, ...], dice: np.random.Generator) -> Bools:
    """A stretch of every window in each channel at random times, and some channels altogether; `shape` is (n, length, channels)."""
    n, length, channels = shape
    start = dice.uniform(-GAP_SHARE, 1.0, (n, 1, channels)) * length
    position = np.arange(length)[None, :, None]
    dead = dice.random((n, 1, channels)) < GAP_SHARE
    gaps: Bools = dead | ((position >= start) & (position < start + GAP_SHARE * length))
    return gaps


def _forgotten(inputs: ModelInputs, plan: FeaturePlan, unknown: Callable[[tuple[int, ...]], Bools]) -> ModelInputs:
    """NaN where `unknown` says so, in the channels that can be unknown: all but calendar and lead; anchor and scale always have a value."""
    arrays = dict(inputs.arrays)
    for name, channels in (("context", plan.context), ("future", plan.future), ("daily", ("target",)), ("weather", plan.weather)):
        if name in arrays:
            measured = np.array([channel not in (*CALENDAR, "lead") for channel in channels])
            by_channel = arrays[name].reshape(len(inputs.origins), -1, len(channels))
            changed = np.where(unknown(by_channel.shape) & measured, np.float32(np.nan), by_channel)
            arrays[name] = changed.reshape(arrays[name].shape)
    return replace(inputs, arrays=arrays)


def _random(inputs: ModelInputs, dice: np.random.Generator) -> ModelInputs:
    """Noise with three times the spread of each channel of the real windows; anchors and scales of houses e times smaller and larger."""
    arrays = dict(inputs.arrays)
    for name in sorted({"context", "daily", "future", "weather"} & set(arrays)):
        filled = np.nan_to_num(arrays[name])
        over = tuple(range(filled.ndim - 1))
        mean, spread = filled.mean(axis=over), filled.std(axis=over)
        arrays[name] = (mean + 3.0 * (spread + 1e-3) * dice.standard_normal(filled.shape)).astype(np.float32)
    for name in sorted({"anchor", "scale"} & set(arrays)):
        factor = np.exp(dice.standard_normal((len(inputs.origins),) + (1,) * (arrays[name].ndim - 1)))
        arrays[name] = (arrays[name] * factor).astype(np.float32)
    return replace(inputs, arrays=arrays)


def _with_horizon(inputs: ModelInputs, horizon: int) -> ModelInputs:
    return replace(inputs, arrays={n: a[:, :horizon] if n in ("future", "anchor", "weather") else a for n, a in inputs.arrays.items()})
