"""One network trained again and again from the same weights, and mixtures of what it was and what it became.

A mixture is an interpolation in the space of weights, base + share * (tuned - base), and so one network like any other (WiSE-FT, Wortsman et al.
2022).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import keras
import numpy as np

from edge_agent.contract.errors import TrainingError
from trainer.batches import batches
from trainer.blame import Inquest
from trainer.loop import Epoch
from trainer.model import Network
from trainer.presets import HyperParameters
from trainer.windows import Ints, Windows

Weights = Sequence[np.ndarray[Any, Any]]

EPOCH_WINDOWS: Final = 8192
"""Most windows in an epoch, drawn anew for each: a house with years has four times as many, which differ little from hour to hour."""


class StoppedError(Exception):
    """Asked to stop in the middle of training."""


@dataclass(frozen=True)
class Recipe:
    """How a network is tuned, and how much of that is kept."""

    learning_rate: float
    """At the start; falls to zero along a cosine."""
    epochs: int
    share: float
    """Of the tuned weights in the mixture; 0: the base as it is."""

    @property
    def training(self) -> tuple[float, int]:
        """What decides the training; recipes that differ in their share have one in common."""
        return self.learning_rate, self.epochs


class Tuner:
    """Trains a network from its first weights; compiled once, because each compilation takes seconds."""

    def __init__(self, network: Network, hyper: HyperParameters, *, seed: int, stop_asked: Callable[[], bool]) -> None:
        self.network, self.hyper, self.seed, self.stop_asked = network, hyper, seed, stop_asked
        self.base: Weights = network.core.get_weights()
        decay: Any = {"weight_decay": hyper.weight_decay} if hyper.weight_decay else {}
        self._optimizer = (keras.optimizers.AdamW if decay else keras.optimizers.Adam)(hyper.learning_rate, clipnorm=hyper.clip_norm or None, **decay)
        network.core.compile(optimizer=self._optimizer, loss=network.loss, jit_compile=True if hyper.jit else "auto")
        self._optimizer.build(network.core.trainable_variables)
        weights = {id(variable) for variable in network.core.weights}
        others = [variable for variable in network.core.variables if id(variable) not in weights]  # the dropouts' random state
        self._fresh = [(variable, keras.ops.convert_to_numpy(variable)) for variable in (*others, *self._optimizer.variables)]

    def train(
        self,
        windows: Windows,
        numbers: Ints,
        training: tuple[float, int],
        *,
        on_batch: Callable[[int], None],
        on_epoch: Callable[[Epoch], None] = lambda _row: None,
    ) -> Weights:
        """The weights after training on the windows numbered `numbers`.

        Args:
            windows: windows of the house.
            numbers: which of them.
            training: learning rate and number of epochs.
            on_batch: called with the number of windows just trained on.
            on_epoch: called after each epoch.

        Raises:
            StoppedError: asked to stop.
            TrainingError: the loss is not finite. It names the windows that cause it.
        """
        self.put(self.base, 1.0)
        for variable, fresh in self._fresh:
            variable.assign(fresh)
        rate, epochs = training
        size = min(self.hyper.batch_size, len(numbers))
        n_batches = min(len(numbers), EPOCH_WINDOWS) // size
        for epoch in range(epochs):
            order = np.random.default_rng((self.seed, epoch)).permutation(numbers)[: n_batches * size]
            total, before = 0.0, self.network.core.get_weights()
            for i, (inputs, actual) in enumerate(batches(windows, batch_size=size, relative=self.network.relative, order=order)):
                if self.stop_asked():
                    raise StoppedError
                done = (epoch + i / n_batches) / epochs
                self._optimizer.learning_rate = 0.5 * rate * (1.0 + math.cos(math.pi * done))
                loss = float(self.network.core.train_on_batch(inputs, actual, return_dict=True)["loss"])
                if not math.isfinite(loss):
                    self.network.core.set_weights(before)
                    found = Inquest(self.network.core, windows, self.network.relative).verdict(*_batch_and_before(order, size, i))
                    raise TrainingError(
                        f"the loss became {loss} in epoch {epoch + 1}, batch {i + 1} of {n_batches}: {found}; "
                        f"otherwise lower --learning-rate (it is {self.hyper.learning_rate:g}, here {rate:g})"
                    )
                total += loss
                on_batch(size)
            on_epoch(Epoch(epoch + 1, total / n_batches, math.nan, float(self._optimizer.learning_rate), math.nan, math.nan))
        return list(self.network.core.get_weights())

    def put(self, tuned: Weights, share: float) -> None:
        """Make the network the mixture of its first weights and `tuned`."""
        self.network.core.set_weights([base + share * (own - base) for base, own in zip(self.base, tuned, strict=True)])


def _batch_and_before(order: Ints, size: int, number: int) -> tuple[Ints, Ints]:
    """The windows of a batch, and those of the batch before, if there is one."""
    return order[number * size : (number + 1) * size], order[max(number - 1, 0) * size : number * size]
