"""The pictures of one run, by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

import numpy as np

from edge_agent.contract.plan import FeaturePlan
from trainer import pictures
from trainer.baselines import yardstick
from trainer.loop import Epoch
from trainer.run_folder import RunFolder
from trainer.scores import Predictions, where_all_known
from trainer.tracking import TrackedRun
from trainer.trials import SHARES, Choice, Trials
from trainer.tuner import Recipe
from trainer.untracked import UntrackedRun

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FOLDER: Final = "pictures"


def loss_picture(history: list[Epoch], best_epoch: int, *, loss: str) -> dict[str, Figure]:
    """Loss by epoch; nothing when no epoch was complete."""
    if len(history) < 2:
        return {}
    training, validation = [row.loss for row in history], [row.validation_loss for row in history]
    return {"loss": pictures.loss_curves(training, validation, best_epoch=best_epoch, loss=loss, first_epoch=history[0].epoch)}


def forecast_pictures(predictions: Mapping[str, Predictions], model: str, *, plan: FeaturePlan, zone: ZoneInfo) -> dict[str, Figure]:
    """Forecast against actual, error by lead time, coverage by level and residuals by hour of the method called `model`, beside the others."""
    common = where_all_known(dict(predictions))
    own, label = common[model], pictures.quantity(plan.target, plan.unit, plan.step_s)
    usual = yardstick(common)
    return {
        "forecasts": pictures.forecasts_against_actual(own, pictures.typical_rows(own), zone=zone, label=label, baseline=common[usual]),
        "error_by_lead_time": pictures.error_by_lead_time({model: own, **{n: p for n, p in common.items() if n != model}}, label=label),
        "coverage_by_level": pictures.reliability({model: own, usual: common[usual]}),
        "residuals_by_hour": pictures.residuals_by_hour(own, zone=zone, label=label),
    }


def tuning_picture(trials: Trials, choice: Choice | None) -> dict[str, Figure]:
    """What each training and each mixture gained over the base on each fold."""
    gains = {
        f"learning rate {rate:g}, {epochs} epochs": np.array(
            [[trials.gain(number, Recipe(rate, epochs, share) if share else trials.base) for share in SHARES] for number in range(len(trials.folds))]
        )
        for rate, epochs in trials.trainings
    }
    return {"tuning": pictures.gains_by_share(gains, SHARES, kept=0.0 if choice is None else choice.recipe.share)}


def publish(figures: Mapping[str, Figure], folder: RunFolder, tracked: TrackedRun | UntrackedRun) -> None:
    """Put the pictures into the finished run folder, and all of that into MLflow."""
    save_pictures(figures, folder.path)
    for name, figure in figures.items():
        tracked.log_picture(name, figure)
    tracked.log_folder(folder.path)
    tracked.log_forecaster(folder.path)


def save_pictures(figures: Mapping[str, Figure], folder: Path) -> None:
    """Write each as `pictures/NAME.png` in the run folder."""
    (folder / FOLDER).mkdir(exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(folder / FOLDER / f"{name}.png")
