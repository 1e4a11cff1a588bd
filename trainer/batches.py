"""Batches: windows on their way into Keras, as tf.data under TensorFlow and as a PyDataset under any other backend."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from trainer.windows import Float32s, Ints, Windows

Relative = Callable[[Any, Any], Any]
"""(inputs by name, actual) -> actual in the units that the network is trained in; plain arithmetic, so that arrays and tensors both do."""


def batches(windows: Windows, *, batch_size: int, relative: Relative, order: Ints | None = None) -> Any:
    """What `keras.Model.fit` and `evaluate` take: (inputs by name, actual in relative units `(n, horizon, 1)`), batch by batch.

    Args:
        windows: where batches are gathered from.
        batch_size: windows in a batch; the last may be smaller.
        relative: units of the outcome.
        order: numbers of the windows in the order wanted; all, in time order, when None.
    """
    order = np.arange(len(windows)) if order is None else order
    if keras.backend.backend() == "tensorflow":
        return _tf_batches(windows, order, batch_size=batch_size, relative=relative)
    return WindowBatches(windows, order, batch_size=batch_size, relative=relative)


def shuffled(n: int, *, seed: int, epoch: int) -> Ints:
    """The order of `n` windows in one epoch: depends on nothing but seed and epoch, so that resumed training sees the same."""
    return np.random.default_rng((seed, epoch)).permutation(n)


class WindowBatches(keras.utils.PyDataset):
    """Batches by number, gathered with numpy."""

    def __init__(self, windows: Windows, order: Ints, *, batch_size: int, relative: Relative) -> None:
        super().__init__()
        self.windows, self.order, self.batch_size, self.relative = windows, order, batch_size, relative

    def __len__(self) -> int:
        return math.ceil(len(self.order) / self.batch_size)

    def __getitem__(self, number: int) -> tuple[dict[str, Float32s], Float32s]:
        return gather(self.windows, self.order[number * self.batch_size : (number + 1) * self.batch_size], self.relative)


def gather(windows: Windows, picked: Ints, relative: Relative) -> tuple[dict[str, Float32s], Float32s]:
    """One batch."""
    inputs = windows.inputs(picked).arrays
    return inputs, relative(inputs, windows.actual(picked))[:, :, None].astype(np.float32)


def _tf_batches(windows: Windows, order: Ints, *, batch_size: int, relative: Relative) -> Any:
    """The same as a tf.data pipeline that gathers while the step before trains: 2 to 3 times a PyDataset's rate through Keras's adapter."""
    import tensorflow as tf

    numbers = tf.data.Dataset.from_tensor_slices(order).batch(batch_size)
    columns = windows.raw_columns
    if columns is None:
        return numbers.map(_numpy_gather(windows, relative)).prefetch(2)
    return numbers.map(_raw_gather(windows, columns, relative), num_parallel_calls=2).prefetch(2)


def _raw_gather(windows: Windows, columns: list[int], relative: Relative) -> Callable[[Any], Any]:
    """Copies windows straight out of the series with one gather: no Python in the loop."""
    import tensorflow as tf

    values = tf.constant(windows.builder.series.values[:, columns].astype(np.float32))
    target, rows = tf.constant(windows.target), tf.constant(windows.rows)
    before, after = np.arange(-windows.plan.context_length, 0), np.arange(windows.plan.horizon)

    def gather_rows(picked: Any) -> Any:
        row = tf.gather(rows, picked)[:, None]
        inputs = {"context": tf.gather(values, row + before)}
        return inputs, relative(inputs, tf.gather(target, row + after))[:, :, None]

    return gather_rows


def _numpy_gather(windows: Windows, relative: Relative) -> Callable[[Any], Any]:
    import tensorflow as tf

    shapes = windows.plan.input_shapes()

    def arrays(picked: npt.NDArray[np.int64]) -> list[Float32s]:
        inputs, actual = gather(windows, picked, relative)
        return [*(inputs[name] for name in shapes), actual]

    def gather_arrays(picked: Any) -> Any:
        *inputs, actual = tf.numpy_function(arrays, [picked], [tf.float32] * (len(shapes) + 1))
        for tensor, shape in zip((*inputs, actual), (*shapes.values(), (windows.plan.horizon, 1)), strict=True):
            tensor.set_shape((None, *shape))
        return dict(zip(shapes, inputs, strict=True)), actual

    return gather_arrays
