"""Hearthcast's rows: bundles as the gateway runs them, and the commands that make them where they are not there yet."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.accuracy.cases import PERFECT_WEATHER, TITLES, Case
from benchmarks.accuracy.houses import ROOT
from benchmarks.accuracy.store import hash_of
from benchmarks.accuracy.yardsticks import joined, seen_at
from edge_agent.contract.bundle import read_bundle
from edge_agent.contract.errors import ConfigError, TrainingError
from edge_agent.contract.weather import PerfectWeather
from edge_agent.forecaster import Forecaster, Model
from trainer.backtest import backtest
from trainer.rolling import Weather
from trainer.scores import Predictions

CODE = tuple(
    ROOT / "edge_agent" / name
    for name in ("forecaster.py", *(f"contract/{n}.py" for n in ("features", "plan", "baseline", "calibration", "series", "weather")))
)
"""What decides a bundle's forecasts beside the bundle."""


@dataclass(frozen=True)
class BundleMethod:
    """A bundle, run by the gateway's own forecaster."""

    label: str
    bundle: Path
    homes: tuple[str, ...]
    """Cases that it is scored on, `home` or `home/target`; empty: all of its role."""
    seed: int | None = None
    kind: str = "hearthcast"

    def takes(self, case: Case) -> bool:
        """Whether the case is among its homes, its target's role is the model's, and there is something to take away from the model."""
        listed = not self.homes or case.home in self.homes or f"{case.home}/{case.target}" in self.homes
        if not listed or (case.variant != "full" and self.kind != "hearthcast"):
            return False
        if self._model().bundle.manifest.plan.role != case.spec.sensor(case.sensor).role:
            return False
        forecaster = self._forecaster(case)
        if case.variant == PERFECT_WEATHER:
            return any(feature.role in forecaster.plan.weather for feature in case.series.features)
        return not case.variant.startswith("missing") or len(forecaster.sensors) > 1

    def identity(self, case: Case) -> dict[str, Any]:  # noqa: ARG002
        """The bundle's content and the code that runs it."""
        return {"bundle": hash_of(self.bundle), "code": hash_of(*CODE)}

    def predict(self, case: Case) -> Predictions:
        """What the gateway would have published; the climatology's forecast where the inputs do not allow the model."""
        if case.days_seen is not None:
            return joined([self.predict(seen_at(case, i)) for i in range(len(case.origins))])
        forecaster = self._forecaster(case)
        return backtest(forecaster, case.series, case.origins, weather=_weather(case, forecaster)).of_model

    def _forecaster(self, case: Case) -> Forecaster:
        return Forecaster(case.spec, self._model(), target=case.target)

    def _model(self) -> Model:
        known = _MODELS.get(self.bundle)
        if known is None:
            known = _MODELS[self.bundle] = Model(read_bundle(self.bundle, allow_unsigned=True))
        return known


def _weather(case: Case, forecaster: Forecaster) -> Weather | None:
    """The weather forecast that the case grants: none, or what was measured later."""
    if case.variant != PERFECT_WEATHER:
        return None
    measured = tuple(f.name for f in case.series.features if f.role in forecaster.plan.weather)
    return Weather(PerfectWeather(case.series.select(measured)), TITLES[PERFECT_WEATHER])


_MODELS: dict[Path, Model] = {}


@dataclass(frozen=True)
class Recipe:
    """A command line that trains one run for each seed and home, and where the runs are kept."""

    label: str
    command: str
    """With `{houses}`, `{home}`, `{seed}`, `{out}` and `{init}` to be filled in; `hearthcast-train …`."""
    seeds: tuple[int, ...]
    homes: tuple[str, ...]
    for_each_home: bool = False
    """One run for each home, as in fine-tuning; else one run serves all."""
    init: str | None = None
    """Label of the recipe whose bundle of the same seed is filled in as `{init}`."""
    kind: str = "hearthcast"

    def bundle(self, seed: int, home: str, *, houses: Path, runs: Path, init: Path | None, train: bool) -> Path | None:
        """The bundle of one seed, and home where each has its own; trained when it is not there and `train` says so, else None.

        Raises:
            TrainingError: the command failed.
        """
        filled = {"houses": str(houses), "home": str(houses / home), "seed": str(seed), "init": str(init)}
        line = self.command.format(**filled, out="{out}")
        material = [line, hash_of(init) if init else ""] + [hash_of(houses / name) for name in _homes_in(line, houses)]
        key = hashlib.sha256("\n".join(material).encode()).hexdigest()[:16]
        folder = runs / f"{_slug(self.label)}-{home if self.for_each_home else 'all'}-{seed}-{key}"
        bundle = folder / "bundle"
        if not bundle.is_dir():
            if not train:
                return None
            _run(line.format(out=folder / "run"), folder)
            export(folder / "run", bundle)
        return bundle


def export(run: Path, bundle: Path) -> None:
    """A bundle of a trained run.

    Raises:
        TrainingError: it cannot be exported.
    """
    _run(shlex.join(["hearthcast-export", str(run), "--out", str(bundle), "--unsigned", "--even-if-worse"]), bundle.parent)


def bundle_of(path: Path, folder: Path) -> Path:
    """`path` itself when it is a bundle; the bundle exported into `folder` when it is a run.

    Raises:
        ConfigError: it is neither.
    """
    if (path / "manifest.json").is_file():
        return path
    if not (path / "run.json").is_file():
        raise ConfigError(f"{path}: neither a bundle (manifest.json) nor a run (run.json): give a folder that hearthcast-export or -train wrote")
    bundle = folder / hash_of(path / "run.json", path / "model.keras")[:16]
    if not bundle.is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        export(path, bundle)
    return bundle


def _homes_in(line: str, houses: Path) -> list[str]:
    return sorted({folder.name for folder in houses.iterdir() if str(folder) in line}) if houses.is_dir() else []


def _run(line: str, folder: Path) -> None:
    """Run one of our own commands by this very Python; its output goes to a log beside what it makes."""
    program, *arguments = shlex.split(line)
    modules = {"hearthcast-train": "trainer", "hearthcast-export": "export"}
    if program not in modules:
        raise ConfigError(f"{program!r} is no command that this can run: {' or '.join(modules)} is expected in {line!r}")
    shutil.rmtree(folder / "run", ignore_errors=True) if program == "hearthcast-train" else None
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{modules[program]}.log"
    with log.open("w") as output:
        done = subprocess.run([sys.executable, "-m", modules[program], *arguments], cwd=ROOT, stdout=output, stderr=output, env=os.environ | QUIET)
    if done.returncode:
        raise TrainingError(f"{line} failed: {log.read_text()[-1500:]}")


QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3"}


def _slug(label: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in label.lower()).split())
