"""Where a training step runs: on one device, or shared out over several devices or machines by tf.distribute.

Each replica gets a part of every batch, and the gradients are added up, so the result is that of one device but for rounding and the dropouts' dice.
Keras 3.15's own loop will not do: it cannot read a loss back from several machines, and it shortens each replica's gradient by itself.
"""

from __future__ import annotations

import json
import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final, Protocol

import keras
import numpy as np

from edge_agent.contract.errors import ConfigError
from trainer.windows import Float32s

CLUSTER: Final = "TF_CONFIG"
"""TensorFlow's variable that names all machines, and which of them this one is."""
EXAMPLE: Final = '{"cluster": {"worker": ["10.0.0.1:2222", "10.0.0.2:2222"]}, "task": {"type": "worker", "index": 0}}'

Inputs = dict[str, Float32s]


class Device(Protocol):
    """What trains a network batch by batch."""

    is_shared: bool
    """Whether the network's variables have copies: a plain network has to be made of it when it is trained."""

    def scope(self) -> AbstractContextManager[Any]:
        """Where the network and its optimizer are to be made."""

    def train(self, core: keras.Model, inputs: Inputs, actual: Float32s, weight: Float32s | None = None) -> float:
        """One step on one batch, whose windows count by `weight` (all alike when None); returns its loss."""

    def test(self, core: keras.Model, inputs: Inputs, actual: Float32s) -> float:
        """The loss of one batch."""


class OneDevice:
    """Keras's own steps, whatever the backend."""

    is_shared = False

    def scope(self) -> AbstractContextManager[Any]:
        """Nowhere in particular."""
        return nullcontext()

    def train(self, core: keras.Model, inputs: Inputs, actual: Float32s, weight: Float32s | None = None) -> float:
        """One step on one batch; returns its loss."""
        return float(core.train_on_batch(inputs, actual, sample_weight=weight, return_dict=True)["loss"])

    def test(self, core: keras.Model, inputs: Inputs, actual: Float32s) -> float:
        """The loss of one batch."""
        return float(core.test_on_batch(inputs, actual, return_dict=True)["loss"])


class SharedOut:
    """A batch's windows shared out over the replicas of a tf.distribute strategy."""

    is_shared = True

    def __init__(self, strategy: Any, *, clip_norm: float) -> None:
        """Share out by `strategy`; gradients longer than `clip_norm` are shortened once they are added up (0: never)."""
        self.strategy, self.clip_norm = strategy, clip_norm
        self._steps: dict[tuple[int, bool], Any] = {}

    def scope(self) -> AbstractContextManager[Any]:
        """The strategy's."""
        return self.strategy.scope()

    def train(self, core: keras.Model, inputs: Inputs, actual: Float32s, weight: Float32s | None = None) -> float:
        """One step on one batch; returns its loss."""
        return self._run(core, inputs, actual, weight, training=True)

    def test(self, core: keras.Model, inputs: Inputs, actual: Float32s) -> float:
        """The loss of one batch."""
        return self._run(core, inputs, actual, None, training=False)

    def _run(self, core: keras.Model, inputs: Inputs, actual: Float32s, weight: Float32s | None, *, training: bool) -> float:
        key = (id(core), training)
        if key not in self._steps:
            self._steps[key] = self._make(core, training=training)
        return float(self._steps[key](*self._shares(inputs, actual, weight)))

    def _make(self, core: keras.Model, *, training: bool) -> Any:
        import tensorflow as tf

        def replica(inputs: Any, actual: Any, weights: Any) -> Any:
            with tf.GradientTape() as tape:
                # Keras divides it by the number of replicas
                loss = core.compute_loss(inputs, actual, core(inputs, training=training), weights, training=training)
            if training:
                self._apply(core, tape.gradient(loss, core.trainable_variables))
            return loss

        @tf.function(reduce_retracing=True)
        def step(inputs: Any, actual: Any, weights: Any) -> Any:
            return self.strategy.reduce("SUM", self.strategy.run(replica, args=(inputs, actual, weights)), axis=None)

        return step

    def _apply(self, core: keras.Model, gradients: list[Any]) -> None:
        import tensorflow as tf

        whole = tf.distribute.get_replica_context().all_reduce("SUM", gradients)
        if self.clip_norm:
            whole = [tf.clip_by_norm(gradient, self.clip_norm) for gradient in whole]
        # the optimizer adds up what the replicas give it, and here each has it all
        core.optimizer.apply([gradient / self.strategy.num_replicas_in_sync for gradient in whole], core.trainable_variables)

    def _shares(self, inputs: Inputs, actual: Float32s, weight: Float32s | None) -> tuple[Any, Any, Any]:
        """Each replica's windows, and weights that make the mean over the replicas the mean over the windows."""
        n_replicas = self.strategy.num_replicas_in_sync
        rows = np.array_split(np.arange(len(actual)), n_replicas) if len(actual) >= n_replicas else [np.arange(len(actual))] * n_replicas
        whole = sum(map(len, rows))
        own = np.ones(len(actual), np.float32) if weight is None else weight
        weights = [own[share] * np.float32(len(share) * n_replicas / whole) for share in rows]
        return (
            {name: self._shared([values[share] for share in rows]) for name, values in inputs.items()},
            self._shared([actual[share] for share in rows]),
            self._shared(weights),
        )

    def _shared(self, values: list[Any]) -> Any:
        import tensorflow as tf

        return self.strategy.experimental_distribute_values_from_function(lambda context: tf.constant(values[context.replica_id_in_sync_group]))


def device_for(kind: str | None, *, clip_norm: float, mixed_precision: bool) -> Device:
    """One device, or all of this machine's (`mirrored`), or those of all machines that TF_CONFIG names (`multi-worker`).

    To be called before anything else is done with TensorFlow.

    Raises:
        ConfigError: another backend than TensorFlow, mixed precision, or no TF_CONFIG.
    """
    if kind is None:
        return OneDevice()
    if keras.backend.backend() != "tensorflow":
        raise ConfigError(f"--distribute is TensorFlow's: the backend is {keras.backend.backend()}; set KERAS_BACKEND=tensorflow, or leave it out")
    if mixed_precision:
        raise ConfigError("--distribute and --mixed-precision do not work together: leave one of them out")
    import tensorflow as tf

    if kind == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        return SharedOut(tf.distribute.MirroredStrategy([device.name for device in devices]), clip_norm=clip_norm)
    _task()
    return SharedOut(tf.distribute.MultiWorkerMirroredStrategy(), clip_norm=clip_norm)


def is_chief(kind: str | None) -> bool:
    """Whether this process keeps what is trained: of several machines the first.

    Raises:
        ConfigError: there is no usable TF_CONFIG.
    """
    return kind != "multi-worker" or _task() == 0


def _task() -> int:
    """Which of the machines this one is, by TF_CONFIG."""
    try:
        facts = json.loads(os.environ.get(CLUSTER, ""))
        machines, index = list(facts["cluster"]["worker"]), int(facts["task"]["index"])
        return index if machines[index] else 0
    except (ValueError, LookupError, TypeError):
        raise ConfigError(f"--distribute multi-worker needs the variable {CLUSTER} on each machine, such as {EXAMPLE}") from None
