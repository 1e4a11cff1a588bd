"""The int8 graph: half the time and a third of the size, kept only where measurements on real windows say so."""

from __future__ import annotations

import logging
import statistics
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from edge_agent.contract.calibration import publish
from edge_agent.contract.features import ModelInputs
from edge_agent.contract.plan import FeaturePlan
from edge_agent.forecaster import Model
from export.run_folder import Run

MAX_LOSS_CHANGE: Final = 1e-3
MAX_TIME_RATIO: Final = 0.95
"""Less than this share of the float32 graph's time, or the difference may be chance."""
MIN_ORIGINS: Final = 24
"""Fewer real windows with a known outcome judge nothing."""
TIMED_RUNS: Final = 31


@dataclass(frozen=True)
class Verdict:
    """Whether the int8 graph is worth shipping."""

    kept: bool
    text: str


def int8_graph(graph: Any) -> bytes:
    """`graph` (an `onnx.ModelProto`) with int8 weights, activations scaled at run time.

    Seven bits of the eight are used: with all eight, processors without VNNI saturate and give another forecast than those with it.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    root = logging.getLogger()
    level = root.level
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root.setLevel(logging.ERROR)  # it advises a preparation that changes nothing here
        try:
            quantize_dynamic(graph, Path(folder) / "int8.onnx", weight_type=QuantType.QInt8, reduce_range=True)
        finally:
            root.setLevel(level)
        return (Path(folder) / "int8.onnx").read_bytes()


def judge(full: Model, small: Model, run: Run) -> Verdict:
    """Measured loss and speed of the int8 graph `small` beside the float32 graph `full` on the run's real windows."""
    before, after = _losses(full, run), _losses(small, run)
    if len(before) < MIN_ORIGINS:
        return Verdict(False, f"refused: the run holds {len(before)} windows with a known outcome, {MIN_ORIGINS} are needed to judge it")
    change = float(np.sum(after) / max(float(np.sum(before)), 1e-9) - 1.0)
    sample = run.samples[0]
    ratio = speed_ratio(full, small, sample.inputs(run.plan, sample.origins[-1:]))
    facts = f"loss {change:+.3%}, time x {ratio:.2f} on {len(before)} real windows"
    if change >= MAX_LOSS_CHANGE:
        return Verdict(False, f"refused: {facts}; less than {MAX_LOSS_CHANGE:+.1%} loss is allowed")
    if ratio > MAX_TIME_RATIO:
        return Verdict(False, f"refused: {facts}; it is hardly faster on this machine")
    return Verdict(True, f"kept: {facts}")


def _losses(model: Model, run: Run) -> list[float]:
    """Pinball loss of each real window with a known outcome; run one at a time as on the gateway, because int8 results depend on the batch."""
    losses = []
    for sample in run.samples:
        plan = run.plan.at_step(sample.series.step_s)
        inputs, actual = sample.inputs(run.plan, sample.origins), sample.actual(run.plan, sample.origins)
        for i in np.flatnonzero(np.isfinite(actual).any(axis=1)):
            one = ModelInputs(inputs.origins[i : i + 1], {name: array[i : i + 1] for name, array in inputs.arrays.items()})
            losses.append(pinball(publish(*model.run(one), run.calibration, plan)[0], actual[i : i + 1], plan))
    return losses


def pinball(quantiles: Any, actual: Any, plan: FeaturePlan) -> float:
    """Mean pinball loss of `quantiles` `(n, horizon, n_levels)` over the known steps of `actual` `(n, horizon)`."""
    error = actual[..., None] - quantiles
    level = np.asarray(plan.quantile_levels)
    return float(np.nanmean(np.maximum(level * error, (level - 1.0) * error)))


def speed_ratio(full: Model, small: Model, inputs: ModelInputs) -> float:
    """Median time of a forecast by `small` over that by `full`, measured in turns."""
    times: dict[str, list[float]] = {"full": [], "small": []}
    for _ in range(TIMED_RUNS):
        for name, model in (("full", full), ("small", small)):
            start = time.perf_counter()
            model.run(inputs)
            times[name].append(time.perf_counter() - start)
    return statistics.median(times["small"]) / statistics.median(times["full"])
