"""The input pipeline alone: windows a second and peak memory at 864 x 28, beside what Keras offers and beside windows stored as arrays."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import material
from benchmarks.section import Claim, Section, run_group
from benchmarks.timing import vm_hwm_mb

WANTED_RATE = 50_000
BATCH = 256
VARIANTS = {
    "ours": "trainer.batches: indices, gathered batch by batch",
    "tf": "- the same gather in tf.data: indices, batch, tf.gather, prefetch",
    "keras": "keras.utils.timeseries_dataset_from_array (x and y zipped)",
    "stored": "windows stored as arrays, tf.data from_tensor_slices",
    "copy": "floor: writing as many bytes, one core",
}
STORED_NEEDS_GB = 8


def measure(quick: bool) -> list[Section]:
    """Run every variant in a process of its own, in turns."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in VARIANTS if name != "stored" or _available_gb() >= STORED_NEEDS_GB}
    for _ in range(1 if quick else 2):
        for name, results in found.items():
            output = subprocess.run(
                [sys.executable, "-m", "benchmarks.pipeline", "--variant", name], check=True, capture_output=True, text=True
            ).stdout
            results.append(json.loads(output.splitlines()[-1]))
    rates = {name: statistics.median(r["windows_per_s"] for r in results) for name, results in found.items()}
    rows = []
    for name, results in found.items():
        above = statistics.median(r["peak_mb"] - r["before_mb"] for r in results)
        setup = statistics.median(r["setup_s"] for r in results)
        rows.append([VARIANTS[name], f"{rates[name]:,.0f}", f"{rates[name] / rates['ours']:.2f}", f"{setup:.1f}", f"{above:,.0f}"])
    n = len(_windows())
    text = (
        f"{n:,} windows of 864 x 28 and 144 outcomes, shuffled, batches of {BATCH}, read once without training; stored they would take 1.8 GB. "
        "Medians of separate processes, started in turns."
    )
    claim = Claim("pipeline alone, 864 x 28", f">= {WANTED_RATE:,} windows/s", f"{rates['ours']:,.0f}", rates["ours"] >= WANTED_RATE)
    return [Section("Input pipeline", text, ["", "windows/s", "ratio", "set-up s", "peak MB above imports"], rows, [claim])]


def _windows() -> Any:
    from trainer.windows import Windows

    builder = material.builder("seed")
    first, last = builder.series.start + builder.plan.context_s, builder.series.end - builder.plan.horizon * builder.plan.step_s
    return Windows(builder, np.arange(first, last + 1, builder.series.step_s, dtype=np.int64))


def _relative(_inputs: Any, actual: Any) -> Any:
    """Outcomes as they are."""
    return actual


def ours(windows: Any) -> Iterable[Any]:
    """The trainer's pipeline."""
    from trainer.batches import batches, shuffled

    return batches(windows, batch_size=BATCH, relative=_relative, order=shuffled(len(windows), seed=0, epoch=0))


def gathered_by_tf(windows: Any) -> Iterable[Any]:
    """The same idea in tf.data."""
    import tensorflow as tf

    values, target = tf.constant(windows.builder.series.values.astype(np.float32)), tf.constant(windows.target)
    before, after = np.arange(-windows.plan.context_length, 0), np.arange(windows.plan.horizon)
    rows = np.random.default_rng(0).permutation(windows.rows)
    batches = tf.data.Dataset.from_tensor_slices(rows).batch(BATCH)
    gather = lambda row: (tf.gather(values, row[:, None] + before), tf.gather(target, row[:, None] + after))  # noqa: E731
    return batches.map(gather, num_parallel_calls=2).prefetch(2)


def keras_timeseries(windows: Any) -> Iterable[Any]:
    """What Keras offers: two datasets, zipped, with the same seed."""
    import tensorflow as tf
    from keras.utils import timeseries_dataset_from_array

    values = windows.builder.series.values.astype(np.float32)
    length, horizon = windows.plan.context_length, windows.plan.horizon
    settings = {"sequence_stride": 1, "shuffle": True, "seed": 1, "batch_size": BATCH, "targets": None}
    x = timeseries_dataset_from_array(values[:-horizon], sequence_length=length, **settings)
    y = timeseries_dataset_from_array(windows.target[length:], sequence_length=horizon, **settings)
    return tf.data.Dataset.zip((x, y))


def stored(windows: Any) -> Iterable[Any]:
    """Every window as its own array."""
    import tensorflow as tf

    order = np.random.default_rng(0).permutation(len(windows))
    x = np.stack([windows.inputs(order[i : i + 1]).arrays["context"][0] for i in range(len(order))])
    return tf.data.Dataset.from_tensor_slices((x, windows.actual(order))).batch(BATCH).prefetch(2)


def copies(windows: Any) -> Iterable[Any]:
    """As many bytes, written from a window that stays in the cache."""
    window = np.random.default_rng(0).random((windows.plan.context_length, 28), dtype=np.float32)
    target = np.empty((BATCH, *window.shape), np.float32)
    for _ in range(-(-len(windows) // BATCH)):
        np.copyto(target, window)
        yield (target,)


MAKERS: dict[str, Callable[[Any], Iterable[Any]]] = {
    "ours": ours,
    "tf": gathered_by_tf,
    "keras": keras_timeseries,
    "stored": stored,
    "copy": copies,
}


def run_variant(name: str) -> dict[str, float]:
    """Read all windows once."""
    import tensorflow as tf

    tf.constant(0.0) + 1.0  # TensorFlow's own start-up is not the pipeline's
    windows = _windows()
    before, start = vm_hwm_mb(), time.perf_counter()
    data = iter(MAKERS[name](windows))
    seen = _size(next(data))
    begun = time.perf_counter()
    counted = sum(_size(batch) for batch in data)
    seconds = time.perf_counter() - begun
    if abs(seen + counted - len(windows)) > BATCH:
        raise RuntimeError(f"{name} delivered {seen + counted} windows of {len(windows)}")
    return {"windows_per_s": counted / seconds, "setup_s": begun - start, "before_mb": before, "peak_mb": vm_hwm_mb()}


def _size(batch: Any) -> int:
    first = batch[0]
    return len(next(iter(first.values())) if isinstance(first, dict) else first)


def _available_gb() -> float:
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) / 1e6


if __name__ == "__main__":
    if "--variant" in sys.argv:
        print(json.dumps(run_variant(sys.argv[-1])))
    else:
        sys.exit(run_group(measure))
