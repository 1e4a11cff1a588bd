"""Training: windows a second of both presets, beside the same network fed from arrays, XLA, and the arithmetic floor; peak memory of a whole fit."""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np

from benchmarks import material
from benchmarks.forecasting import keras_flops
from benchmarks.section import Claim, Section, run_group
from benchmarks.timing import flop_rate, interleaved, sgemm
from edge_agent.contract.localtime import DAY_S

WANTED_MEMORY_MB = 1200.0
N_WINDOWS = {"seed": 512, "base": 4096}
FORWARD_AND_BACK = 3
"""A training step multiplies about three times as much as a forecast: forward, gradients by input, gradients by weight."""


def measure(quick: bool) -> list[Section]:
    """Train on a part of the made-up house."""
    rows: list[list[str]] = []
    for preset in material.PRESETS:
        rows += rates(preset, 1 if quick else 3)
    text = (
        "Windows a second in the training loop, after a first epoch for tracing. The floor is three times a forecast's matrix products "
        f"at sgemm's rate on all {os.cpu_count()} cores; at batch sizes of 32 and 64 the recurrence cannot reach it."
    )
    record = json.loads((material.run("seed") / "run.json").read_text(encoding="utf-8"))
    peak = float(record["peak_memory_mb"])
    claim = Claim(
        "peak memory of `fit --preset seed`, reference-size house", f"< {WANTED_MEMORY_MB:.0f} MB", f"{peak:.0f} MB", peak < WANTED_MEMORY_MB
    )
    return [Section("Training", text, ["", "windows/s", "ratio"], rows, [claim])]


def rates(preset: str, rounds: int) -> list[list[str]]:
    """Rows of one preset."""
    from trainer.batches import batches
    from trainer.presets import hyper_parameters
    from trainer.windows import Windows

    batch = hyper_parameters(preset, {}).batch_size
    builder = material.builder(preset)
    count = N_WINDOWS[preset]
    first = builder.series.start + 57 * DAY_S
    windows = Windows(builder, first + builder.series.step_s * np.arange(count, dtype=np.int64))
    plain, compiled = (_compiled(preset, builder, windows, jit=jit) for jit in (False, True))
    stored = list(batches(windows, batch_size=batch, relative=plain.relative))

    def epoch(network: Any, data: Iterable[Any]) -> None:
        """As the trainer's loop."""
        for inputs, actual in data:
            network.core.train_on_batch(inputs, actual)

    calls = {
        f"`{preset}`, batch {batch}": lambda: epoch(plain, batches(windows, batch_size=batch, relative=plain.relative)),
        "- fed from batches in memory instead of the pipeline": lambda: epoch(plain, stored),
        "- with XLA (--jit)": lambda: epoch(compiled, batches(windows, batch_size=batch, relative=compiled.relative)),
        "sgemm": sgemm(),
    }
    times = {name: statistics.median(t) for name, t in interleaved(calls, rounds=rounds, repeats={"sgemm": 20}).items()}
    flops = FORWARD_AND_BACK * keras_flops(plain.model, builder.plan.horizon) * count
    times["- floor: its FLOPs at sgemm's rate"] = flops / flop_rate([times.pop("sgemm")])
    ours = next(iter(times.values()))
    return [[name, f"{count / seconds:,.0f}", f"{ours / seconds:.2f}"] for name, seconds in times.items()]


def _compiled(preset: str, builder: Any, windows: Any, *, jit: bool) -> Any:
    import keras

    from trainer.model import build_base, build_seed, scaling_of
    from trainer.presets import hyper_parameters
    from trainer.windows import Span

    hyper = hyper_parameters(preset, {})
    span = Span(int(windows.origins[0]), int(windows.origins[-1]), windows.origins)
    network = build_seed(builder.plan, hyper, scaling_of(builder, span)) if preset == "seed" else build_base(builder.plan, hyper)
    network.core.compile(optimizer=keras.optimizers.Adam(hyper.learning_rate), loss=network.loss, jit_compile=jit)
    return network


if __name__ == "__main__":
    sys.exit(run_group(measure))
