"""Whether a search's best model becomes the champion: it must beat the champion on origins that neither has seen.

Not seen means: neither trained on, nor used to choose the epoch or the hyper-parameters, nor to calibrate. Where there is no such time, nothing is
compared, and the champion stays.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import keras
import numpy as np
import numpy.typing as npt
from rich.console import Console

from edge_agent.contract.calibration import Calibration
from edge_agent.contract.errors import DataError, HearthcastError
from edge_agent.contract.features import FeatureBuilder
from edge_agent.contract.localtime import DAY_S, iso_utc
from edge_agent.contract.plan import FeaturePlan
from edge_agent.contract.series import Series
from trainer.baselines import baseline_predictions, yardstick_of
from trainer.display import counting
from trainer.evaluate import model_predictions
from trainer.fit import BATCH
from trainer.homes import read_homes
from trainer.registry import Registry, Version
from trainer.run_folder import MODEL, RECORD, write_json
from trainer.scores import Predictions, score, where_all_known
from trainer.seen import looked_at_until, seen_until
from trainer.tune import Tuned, TuneRequest
from trainer.untracked import OFF
from trainer.weather_errors import training_weather
from trainer.windows import Windows, full_hours

Ints = npt.NDArray[np.int64]

COMPARISON: Final = "comparison.json"
MIN_DAYS: Final = 7
"""Fewer days with an origin are not compared on: a week has one weekend."""
MAX_ORIGINS: Final = 1000
"""Of one home; more are thinned out evenly."""


@dataclass(frozen=True, eq=False)
class Ground:
    """A home that models are compared on."""

    name: str
    """Site and target."""
    series: Series
    """All of its time."""
    sensor: str
    """The target's."""
    zone: ZoneInfo


@dataclass(frozen=True, eq=False)
class Contender:
    """A model that is compared."""

    label: str
    record: Mapping[str, Any]
    """What its `run.json` holds."""
    model: keras.Model

    def seen_until(self, home: str) -> int:
        """Unix s after the last step of the home's site that it has looked at; 0 when it never has.

        Raises:
            DataError: the record does not say.
        """
        if self.record["training"].get("looked_at_until") is None:
            raise DataError(f"the {self.label} does not say what it was trained on: train it again")
        return seen_until(looked_at_until(self.record["training"]), home.partition(":")[0])

    def windows(self, ground: Ground, origins: Ints) -> Windows:
        """Its inputs at the origins."""
        plan = FeaturePlan.from_dict(self.record["plan"]).at_step(ground.series.step_s)
        # the same errors of the weather forecast for all
        weather = training_weather(plan, ground.series, seed=0)
        return Windows(FeatureBuilder(plan, ground.series, target=ground.sensor, zone=ground.zone, weather=weather), origins)

    def forecasts(self, windows: Windows) -> Predictions:
        """Its calibrated forecasts."""
        return model_predictions(self.model, windows, Calibration.from_dict(self.record["calibration"]), batch_size=BATCH)


@dataclass(frozen=True)
class Comparison:
    """CRPS of each contender in shares of the yardstick's, the mean over the homes."""

    ratios: Mapping[str, float]
    """By label."""
    yardstick: str
    n_origins: int
    n_homes: int
    first: int
    """Unix s of the first origin."""
    last: int

    @property
    def said(self) -> str:
        """For a person."""
        skills = ", ".join(f"{label} {1 - ratio:+.2%}" for label, ratio in self.ratios.items())
        homes = "" if self.n_homes == 1 else f" of {self.n_homes} homes"
        return f"CRPS skill over the {self.yardstick} on {self.n_origins} origins{homes} from {iso_utc(self.first)} to {iso_utc(self.last)}: {skills}"


def promote(request: TuneRequest, tuned: Tuned, console: Console) -> list[str]:
    """Register the search's best model as the challenger, and make it the champion if it beats the one there is; returns what to say.

    Where there is no champion yet, what forecasts without a model has to be beaten.

    Raises:
        TrainingError: the registry cannot be used.
    """
    if request.fit.tracking_uri == OFF:
        return ["not tracked by MLflow, so there is no champion to compare with"]
    registry = Registry(tuned.tracking_uri, f"{tuned.site}-{tuned.record['plan']['target']}")
    version, champion = registry.challenge(tuned.record["mlflow_run_id"]), registry.champion()
    name = f"{registry.name} version {version.number}"
    if champion is not None and champion.run_id == version.run_id:
        return [f"{name} is the champion already"]
    challenger = _contender(f"challenger (version {version.number})", request.fit.out)
    try:
        comparison = _compared(registry, challenger, champion, grounds(request, tuned), console)
    except HearthcastError as err:
        return [f"{name} is the challenger; not compared: {err}", "the champion stays" if champion else "there is no champion yet"]
    write_json(request.folder / COMPARISON, {"version": version.number, "ratios": dict(comparison.ratios), "origins": comparison.n_origins})
    registry.note(version, {"crps_skill": f"{1 - comparison.ratios[challenger.label]:.4f}", "compared": comparison.said})
    if is_won(comparison, challenger.label):
        registry.crown(version)
        return [comparison.said, f"{name} is the champion now"]
    return [comparison.said, f"{name} stays the challenger" + ("" if champion else ": there is no champion, and it does not beat the climatology")]


def is_won(comparison: Comparison, label: str) -> bool:
    """Whether the contender beats every other, and where there is none the climatology."""
    others = [ratio for name, ratio in comparison.ratios.items() if name != label] or [1.0]
    return comparison.ratios[label] < min(others)


def grounds(request: TuneRequest, tuned: Tuned) -> list[Ground]:
    """The homes of the search, with all of their time."""
    if request.homes is None:
        material = tuned.material
        name = f"{material.house.site}:{material.plan.target}"
        return [Ground(name, material.table.series, material.sensor, material.house.zone)]
    whole = replace(request.homes.sources, train_shares=())
    return [Ground(home.name, home.series, home.sensor, home.house.zone) for home in read_homes(whole, Console(quiet=True))]


def _contender(label: str, folder: Path) -> Contender:
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    return Contender(label, record, keras.models.load_model(folder / MODEL, compile=False))


def _compared(registry: Registry, challenger: Contender, champion: Version | None, homes: Sequence[Ground], console: Console) -> Comparison:
    if champion is None:
        return compare([challenger], homes, console)
    with tempfile.TemporaryDirectory() as folder:
        other = _contender(f"champion (version {champion.number})", registry.fetch(champion, Path(folder)))
        return compare([challenger, other], homes, console)


def compare(contenders: Sequence[Contender], homes: Sequence[Ground], console: Console) -> Comparison:
    """Score the contenders at the same origins, which none of them has seen.

    Raises:
        DataError: there are too few such origins.
        HearthcastError: a contender cannot be run on a home.
    """
    clean = {home.name: unseen_origins(contenders, home) for home in homes}
    n_days = len({day for origins in clean.values() for day in (origins // DAY_S).tolist()})
    if n_days < MIN_DAYS:
        raise DataError(
            f"only {n_days} days have an origin that neither has trained on, chosen by or calibrated on, and at least {MIN_DAYS} are expected: "
            f"give newer --data, or, with many homes, keep the end of some out with --train-share"
        )
    chosen = [home for home in homes if len(clean[home.name])]
    with counting(console, "comparing", len(chosen)) as advance:
        ratios = []
        for home in chosen:
            ratios.append(_ratios(contenders, home, clean[home.name]))
            advance(1)
    every = np.concatenate([clean[home.name] for home in chosen])
    means = {label: float(np.mean([ratio[label] for ratio in ratios])) for label in ratios[0]}
    usual = yardstick_of(FeaturePlan.from_dict(contenders[0].record["plan"]))
    return Comparison(means, usual, len(every), len(chosen), int(every.min()), int(every.max()))


def unseen_origins(contenders: Sequence[Contender], home: Ground) -> Ints:
    """Full hours of the home a horizon after the last step that any contender has looked at, at most MAX_ORIGINS."""
    seen_until = max(contender.seen_until(home.name) for contender in contenders)
    plan = FeaturePlan.from_dict(contenders[0].record["plan"]).at_step(home.series.step_s)
    origins = full_hours(home.series, plan, home.sensor, start=seen_until + plan.horizon * plan.step_s)
    return origins[:: -(-len(origins) // MAX_ORIGINS)] if len(origins) else origins


def _ratios(contenders: Sequence[Contender], home: Ground, origins: Ints) -> dict[str, float]:
    windows = [contender.windows(home, origins) for contender in contenders]
    table = {contender.label: contender.forecasts(made) for contender, made in zip(contenders, windows, strict=True)}
    usual = yardstick_of(windows[0].plan)
    table[usual] = baseline_predictions(windows[0].builder, origins, anchors=windows[0].anchors)[usual]
    scores = {label: score(predictions).crps for label, predictions in where_all_known(table).items()}
    own = scores.pop(usual)
    return {label: crps / own for label, crps in scores.items()}
