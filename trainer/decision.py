"""What becomes of a base model in a house: it stays, or is tuned, or both are mixed; decided on held-out days, guarded by the gate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
from rich.console import Console

from edge_agent.contract.calibration import Calibration
from edge_agent.contract.localtime import DAY_S, iso_utc
from trainer.display import counting
from trainer.findings import count
from trainer.folds import HELD_OUT_SHARE, LEAST_DAYS, forward_folds
from trainer.gate import Comparison
from trainer.loop import Epoch
from trainer.trials import Choice, Trials
from trainer.tuner import EPOCH_WINDOWS, Tuner
from trainer.windows import TEST_SHARE, Windows

BASE: Final = "base"
"""What is kept when tuning does not help; also what the model that tuning started from is called among the scores."""
NAMES: Final = {0.0: "base, calibrated on the house", 1.0: "tuned"}
"""What is kept, by the share of the tuned weights; the others are mixtures."""


@dataclass(frozen=True, eq=False)
class Decision:
    """What is kept, and why. The tuner's network holds its weights."""

    kept: str
    """`base`, `base, calibrated on the house`, `mixture` or `tuned`."""
    reason: str
    calibration: Calibration
    choice: Choice | None = None
    """How the model was made; None: it is the base as it was."""
    gate: Mapping[str, Comparison] = field(default_factory=dict)
    """CRPS (`crps`) and error of the day's total (`total`) beside the base on the held-out days; empty where there was too little data for any."""
    trials: Trials | None = None
    history: tuple[Epoch, ...] = ()
    """Of the last training, on everything before the test span."""

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        chosen = {} if self.choice is None else {**asdict(self.choice.recipe), "levels": self.choice.levels, "totals": self.choice.totals}
        folds = [] if self.trials is None else [fold_facts(self.trials, number) for number in range(len(self.trials.folds))]
        gate = {name: comparison.to_dict() for name, comparison in self.gate.items()}
        return {"kept": self.kept, "reason": self.reason, "choice": chosen, "gate": gate, "folds": folds}


def decide(
    tuner: Tuner,
    windows: Windows,
    calibration: Calibration,
    *,
    trainings: list[tuple[float, int]],
    console: Console,
    on_epoch: Callable[[Epoch], None],
) -> Decision:
    """Try all trainings and mixtures on forward-chaining folds, choose, pass the gate, and train on all windows.

    Args:
        tuner: the base.
        windows: all that may decide anything.
        calibration: the base's.
        trainings: learning rates and numbers of epochs to try, the gentlest first.
        console: where to say how it goes.
        on_epoch: called after each epoch of the last training.

    Raises:
        StoppedError: asked to stop.
        TrainingError: a loss is not finite.
    """
    folds = forward_folds(windows.origins, horizon_s=windows.plan.horizon * windows.plan.step_s)
    if not folds:
        return Decision(BASE, too_little(windows), calibration)
    trials = Trials(tuner, windows, folds, calibration, trainings)
    _run(trials, console)
    gate, choice = trials.gate(), trials.choose(len(folds))
    refused = refusal(gate)
    if refused or choice.is_base:
        tuner.put(tuner.base, 1.0)
        return Decision(BASE, refused or f"no tuning was better on the days held out: {gate_text(gate)}", calibration, gate=gate, trials=trials)
    history = _train_last(tuner, windows, choice, console, on_epoch)
    kept = NAMES.get(choice.recipe.share, "mixture")
    return Decision(kept, gate_text(gate), trials.calibrated(choice, len(folds)), choice, gate, trials, tuple(history))


def _run(trials: Trials, console: Console) -> None:
    total = sum(_passes(len(fold.train), epochs) for fold in trials.folds for _, epochs in trials.trainings)
    with counting(console, f"trials on {len(trials.folds)} folds", total) as advance:
        for number in range(len(trials.folds)):
            trials.run(number, on_batch=advance)
            facts = fold_facts(trials, number)
            how = recipe_text(facts["best"]) if facts["best"]["share"] else "the base itself"
            span = f"{facts['start'][:10]} to {facts['end'][:10]}"
            console.print(f"fold {number + 1}, held out {span}: best by {facts['gain']:+.1%} CRPS was {how}", soft_wrap=True)


def fold_facts(trials: Trials, number: int) -> dict[str, Any]:
    """One fold's span and what was best on it, JSON values. The gain is over the base, and too good: it is the best of many."""
    gains = {recipe: trials.gain(number, recipe) for recipe in trials.recipes}
    best = max(gains, key=lambda recipe: gains[recipe])
    held_out = trials.windows.origins[trials.folds[number].held_out]
    facts = {"trained_on": len(trials.folds[number].train), "held_out": len(held_out), "best": asdict(best), "gain": gains[best]}
    return {"start": iso_utc(int(held_out[0])), "end": iso_utc(int(held_out[-1])), **facts}


def _passes(n_windows: int, epochs: int) -> int:
    return epochs * min(n_windows, EPOCH_WINDOWS)


def _train_last(tuner: Tuner, windows: Windows, choice: Choice, console: Console, on_epoch: Callable[[Epoch], None]) -> list[Epoch]:
    """Train on all windows as chosen; the network then is what is kept."""
    history: list[Epoch] = []

    def keep(row: Epoch) -> None:
        history.append(row)
        on_epoch(row)

    weights = tuner.base
    if choice.recipe.share:
        with counting(console, "training on all days before the test span", _passes(len(windows), choice.recipe.epochs)) as advance:
            weights = tuner.train(windows, np.arange(len(windows)), choice.recipe.training, on_batch=advance, on_epoch=keep)
    tuner.put(weights, choice.recipe.share)
    return history


def recipe_text(recipe: Mapping[str, Any]) -> str:
    """A recipe in words."""
    return f"{recipe['share']:.0%} of the tuned weights after {count(recipe['epochs'], 'epoch')} at learning rate {recipe['learning_rate']:g}"


def too_little(windows: Windows) -> str:
    """Why nothing was tried."""
    needed = (2 * LEAST_DAYS / HELD_OUT_SHARE + windows.plan.context_s / DAY_S + 1) / (1 - TEST_SHARE)
    found = len(np.unique(windows.origins // DAY_S))
    return f"too little data: {found} days with known context and outcome before the test span; a table of about {needed:.0f} days is expected"


def refusal(gate: Mapping[str, Comparison]) -> str:
    """Why the gate keeps the base; empty when it lets the challenger through."""
    if not gate["crps"].is_won:
        return f"the gate kept the base: {gate_text(gate)}"
    if gate["total"].is_lost:
        return f"the gate kept the base, whose day totals were better: {gate_text(gate)}"
    return ""


def gate_text(gate: Mapping[str, Comparison]) -> str:
    """By how much the challenger differs from the base."""
    crps, total = gate["crps"], gate["total"]
    said = f"CRPS {crps.gain:+.1%} ± {crps.error:.1%} and day total {total.gain:+.1%} ± {total.error:.1%}"
    return f"beside the base on {crps.days} days held out, what was chosen without them gains {said}"
