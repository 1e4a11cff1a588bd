"""The training loop: one epoch after another, early stopping, a checkpoint after each, and a clean way out at any moment."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np

from edge_agent.contract.errors import TrainingError
from trainer.batches import Source, batches, n_batches, shuffled
from trainer.blame import Inquest
from trainer.devices import Device, OneDevice
from trainer.model import Network
from trainer.presets import HyperParameters
from trainer.windows import Ints

PLATEAU_PATIENCE = 5
"""Epochs without a better validation loss before the plateau schedule halves the learning rate."""


@dataclass(frozen=True)
class Epoch:
    """One row of the history. Epoch 0 is the untrained network, where that is a candidate."""

    epoch: int
    loss: float
    """Training loss, NaN in epoch 0."""
    validation_loss: float
    """On the stopping span."""
    learning_rate: float
    samples_per_s: float
    """Training only, without validation."""
    seconds: float


class Display(Protocol):
    """What the loop tells while it runs."""

    def batch(self, epoch: int, done: int, loss: float) -> None:
        """`done` windows of this epoch are through; `loss` is their mean."""

    def epoch(self, row: Epoch, best: int) -> None:
        """An epoch is complete; `best` is the best one so far."""


@dataclass
class Progress:
    """How far training has come; saved with the weights after each epoch."""

    history: list[Epoch] = field(default_factory=list)
    best_epoch: int = -1
    best_loss: float = math.inf
    wait: int = 0
    """Epochs since the best."""
    since_drop: int = 0
    """Epochs since the best or the last cut of the learning rate (plateau schedule)."""
    best_weights: list[np.ndarray[Any, Any]] | None = None
    interrupted: bool = False

    @property
    def next_epoch(self) -> int:
        """Number of the epoch to train next, from 1."""
        return self.history[-1].epoch + 1 if self.history else 1

    def add(self, row: Epoch, weights: list[np.ndarray[Any, Any]], *, min_delta: float) -> None:
        """Take a complete epoch into account."""
        self.history.append(row)
        self.wait, self.since_drop = self.wait + 1, self.since_drop + 1
        if row.validation_loss < self.best_loss - min_delta:
            self.best_epoch, self.best_loss, self.best_weights = row.epoch, row.validation_loss, weights
            self.wait = self.since_drop = 0


@dataclass(frozen=True, eq=False)
class Task:
    """What is trained on what."""

    network: Network
    windows: Source
    """Of the training span."""
    stopping: Source
    """Of the span that chooses the epoch."""
    hyper: HyperParameters
    seed: int
    keep_untrained: bool
    """Whether the untrained network is a candidate (it is the climatology, and should stay when nothing beats it)."""
    device: Device = field(default_factory=OneDevice)


def train(task: Task, *, checkpoint: Path, display: Display, stop_asked: Callable[[], bool], resume: bool = False) -> Progress:
    """Train until the last epoch, until validation stalls, or until asked to stop; the network then holds the best epoch's weights.

    The members of an ensemble are trained one after another, each with a seed and a checkpoint of its own; its epochs are counted on from those of
    the members before.

    Args:
        task: what to train.
        checkpoint: file that holds the state after each epoch.
        display: told about progress.
        stop_asked: whether to stop now; a half-done epoch is dropped.
        resume: go on from `checkpoint`, if an epoch was complete.

    Raises:
        TrainingError: the loss is not finite, the checkpoint is of another network, or stopped before anything was learnt.
    """
    members = task.network.members
    if not members:
        return _train_one(task, checkpoint, display, stop_asked, resume=resume)
    joined = Progress()
    for number, member in enumerate(members):
        part = replace(task, network=member, seed=task.seed + 1000 * number)
        before = joined.history[-1].epoch if joined.history else 0
        place = checkpoint.with_stem(f"{checkpoint.stem}_{number}")
        progress = _train_one(part, place, _CountedOn(display, before), stop_asked, resume=resume)
        joined.history += [_counted_on(row, before) for row in progress.history if row.epoch or not number]
        joined.interrupted = progress.interrupted
        if progress.interrupted:  # an average with untrained members would be worse than the first alone
            untrained = members[number:] if number and progress.best_epoch == 0 else members[number + 1 :]
            for other in untrained:
                other.core.set_weights(members[0].core.get_weights())
            break
    with task.device.scope():
        task.network.core.compile(loss=task.network.loss)
    best = min(joined.history, key=lambda row: row.validation_loss)
    weights = task.network.core.get_weights()
    joined.best_epoch, joined.best_loss, joined.best_weights = best.epoch, _validate(task, weights, best.epoch), weights
    return joined


def _counted_on(row: Epoch, before: int) -> Epoch:
    return replace(row, epoch=row.epoch + before)


class _CountedOn:
    """A display that sees one member's epochs as the continuation of those before."""

    def __init__(self, display: Display, before: int) -> None:
        self.display, self.before = display, before

    def batch(self, epoch: int, done: int, loss: float) -> None:
        self.display.batch(epoch + self.before, done, loss)

    def epoch(self, row: Epoch, best: int) -> None:
        if row.epoch or not self.before:
            self.display.epoch(_counted_on(row, self.before), best + self.before)


def _train_one(task: Task, checkpoint: Path, display: Display, stop_asked: Callable[[], bool], *, resume: bool) -> Progress:
    """As `train`, of one network."""
    core = task.network.core
    # "auto" is off for TensorFlow on a CPU, and on for JAX, which crawls without
    with task.device.scope():
        core.compile(optimizer=_optimizer(task), loss=task.network.loss, jit_compile=True if task.hyper.jit else "auto")
        core.optimizer.build(core.trainable_variables)
    progress = _restore(core, checkpoint) if resume and checkpoint.exists() else Progress()
    if task.keep_untrained and not progress.history:
        untrained = Epoch(0, math.nan, _validate(task, core.get_weights(), 0), float(core.optimizer.learning_rate), 0.0, 0.0)
        progress.add(untrained, core.get_weights(), min_delta=task.hyper.min_delta)
        display.epoch(untrained, progress.best_epoch)
    while progress.next_epoch <= task.hyper.epochs and progress.wait < task.hyper.patience:
        trained = _train_epoch(task, progress.next_epoch, display, stop_asked)
        if trained is None:
            progress.interrupted = True
            break
        progress.add(trained, core.get_weights(), min_delta=task.hyper.min_delta)
        _drop_learning_rate(task, progress)
        _save(core, progress, checkpoint)
        display.epoch(trained, progress.best_epoch)
    if progress.best_weights is None:
        raise TrainingError("training stopped before its first epoch was complete: there is nothing to keep; start it again")
    core.set_weights(progress.best_weights)
    return progress


def _train_epoch(task: Task, epoch: int, display: Display, stop_asked: Callable[[], bool]) -> Epoch | None:
    """One epoch; None when stopped in the middle."""
    started = time.perf_counter()
    core, total, done = task.network.core, 0.0, 0
    order, before = shuffled(len(task.windows), seed=task.seed, epoch=epoch), core.get_weights()
    every = batches(task.windows, batch_size=task.hyper.batch_size, relative=task.network.relative, order=order)
    for number, (inputs, actual) in enumerate(every):
        if stop_asked():
            return None
        weight = task.network.weight and task.network.weight(inputs)
        loss = task.device.train(core, inputs, actual, weight)
        if not math.isfinite(loss):
            core.set_weights(before)
            raise _no_number(loss, task, task.windows, order, number=number, when=f"epoch {epoch}")
        total, done = total + len(actual) * loss, done + len(actual)
        display.batch(epoch, done, total / done)
    trained = time.perf_counter()
    return Epoch(
        epoch,
        loss=total / done,
        validation_loss=_validate(task, before, epoch),
        learning_rate=float(core.optimizer.learning_rate),
        samples_per_s=done / (trained - started),
        seconds=time.perf_counter() - started,
    )


def _validate(task: Task, before: list[np.ndarray[Any, Any]], epoch: int) -> float:
    """Mean loss over the stopping span; `before` are weights with which the loss was a number."""
    data = batches(task.stopping, batch_size=task.hyper.batch_size, relative=task.network.relative)
    total, n = 0.0, 0
    for number, (inputs, actual) in enumerate(data):
        loss = task.device.test(task.network.core, inputs, actual)
        if not math.isfinite(loss):
            task.network.core.set_weights(before)
            raise _no_number(loss, task, task.stopping, np.arange(len(task.stopping)), number=number, when=f"the validation of epoch {epoch}")
        total, n = total + len(actual) * loss, n + len(actual)
    return total / n


def _no_number(loss: float, task: Task, windows: Source, order: Ints, *, number: int, when: str) -> TrainingError:
    """Says which house and span made the loss of batch `number` what it is; the network has weights from before."""
    cut = windows.cut(order, task.hyper.batch_size)
    less = ", train without --mixed-precision" if task.hyper.mixed_precision else ""
    previous = cut[number - 1] if number else order[:0]
    found = Inquest(task.network.core, windows, task.network.relative).verdict(cut[number], previous)
    return TrainingError(
        f"the loss became {loss} in {when}, batch {number + 1} of {len(cut)}: {found}; "
        f"otherwise lower --learning-rate (it is {task.hyper.learning_rate:g}){less}"
    )


def _optimizer(task: Task) -> keras.optimizers.Optimizer:
    hyper = task.hyper
    steps = hyper.epochs * n_batches(task.windows, hyper.batch_size)
    rate: Any = hyper.learning_rate
    if hyper.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, steps)
    elif hyper.schedule == "exponential":
        rate = keras.optimizers.schedules.ExponentialDecay(rate, steps, 0.1)
    kind: Any = partial(keras.optimizers.AdamW, weight_decay=hyper.weight_decay) if hyper.weight_decay else keras.optimizers.Adam
    optimizer = kind(rate, clipnorm=hyper.clip_norm or None)
    # Keras wraps the optimizer by itself only under a global policy, and ours is set layer by layer
    return keras.optimizers.LossScaleOptimizer(optimizer) if hyper.mixed_precision else optimizer


def _drop_learning_rate(task: Task, progress: Progress) -> None:
    if task.hyper.schedule == "plateau" and progress.since_drop >= PLATEAU_PATIENCE:
        optimizer = task.network.core.optimizer
        optimizer.learning_rate = float(optimizer.learning_rate) / 2
        progress.since_drop = 0


def _save(core: keras.Model, progress: Progress, path: Path) -> None:
    """Weights, optimizer, random state and progress in one file, replaced whole."""
    arrays = {f"state_{i}": keras.ops.convert_to_numpy(v) for i, v in enumerate(_state(core))}
    arrays |= {f"best_{i}": w for i, w in enumerate(progress.best_weights or [])}
    facts = {f.name: getattr(progress, f.name) for f in fields(Progress) if f.name not in ("history", "best_weights")}
    facts["history"] = [asdict(row) for row in progress.history]
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        np.savez(file, progress=np.array(json.dumps(facts)), **arrays)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _restore(core: keras.Model, path: Path) -> Progress:
    """The inverse of `_save`."""
    with np.load(path) as saved:
        state = _state(core)
        if sum(name.startswith("state_") for name in saved.files) != len(state):
            raise TrainingError(f"{path} holds the state of another network or optimizer: resume with the flags that the run was started with")
        for i, variable in enumerate(state):
            variable.assign(saved[f"state_{i}"])
        facts = json.loads(str(saved["progress"]))
        best = [saved[f"best_{i}"] for i in range(sum(name.startswith("best_") for name in saved.files))]
    facts["history"] = [Epoch(**row) for row in facts["history"]]
    return Progress(**facts, best_weights=best or None)


def _state(core: keras.Model) -> list[Any]:
    """Every variable that training changes: weights, the dropouts' random state, the optimizer's."""
    return [*core.variables, *core.optimizer.variables]
