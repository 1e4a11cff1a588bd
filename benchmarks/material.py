"""What is measured: a house of the reference house's size with made-up values, and bundles of both presets made by the trainer and the exporter.

Times do not depend on the values. Weights are shaken after a short training, so that every part of a graph matters in the comparison with Keras.
"""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from edge_agent.contract import signing
from edge_agent.contract.bundle import Bundle, read_bundle
from edge_agent.contract.features import FeatureBuilder
from edge_agent.contract.schema import ROLES, HouseSpec, read_house
from edge_agent.contract.series import Series
from edge_agent.contract.units import from_canonical

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "benchmarks"
CONFIG = BUILD / "config"
HOUSE = ROOT / "deploy" / "houses" / "uci_appliances.toml"
PRESETS = ("seed", "base")
START = 1_452_528_000
"""2016-01-11T16:00:00Z, as the reference house's table."""
N_STEPS = 19_735
MIDDLE = {"pressure": 1010.0, "visibility": 40.0, "other": 25.0, "indoor_humidity": 40.0, "outdoor_humidity": 80.0, "wind_speed": 4.0}


def house() -> HouseSpec:
    """The reference house's description: 28 sensors, 10 minutes."""
    return read_house(HOUSE)


def series() -> Series:
    """137 days of made-up values for its sensors: energy in tens of Wh with a daily shape, states that swing by the day."""
    dice = np.random.default_rng(28)
    spec = house()
    day = 2 * np.pi * np.arange(N_STEPS) / 144
    columns = []
    for feature in spec.features:
        if feature.kind == "energy":
            columns.append(np.minimum(np.round(dice.gamma(1.5, 30.0, N_STEPS) * (1.2 + np.sin(day)) / 10) * 10, 300.0))
        else:
            low, high = max(ROLES[feature.role].low, -50.0), ROLES[feature.role].high
            swing = 3.0 * np.sin(day + dice.uniform(0, 6)) + 0.3 * dice.standard_normal(N_STEPS)
            columns.append(np.clip(MIDDLE.get(feature.role, 15.0) + swing, low, high))
    return Series(START, spec.step_s, spec.features, np.stack(columns, axis=1))


def builder(plan_name: str) -> FeatureBuilder:
    """Features of the made-up house for a preset's plan."""
    from trainer.presets import plan_for

    spec = house()
    target = spec.targets[0]
    return FeatureBuilder(plan_for(plan_name, spec, target.name), series(), target=target.sensor, zone=spec.zone)


def write_csv(path: Path, *, days: int | None = None) -> None:
    """The series, or its last days, as a table that the trainer reads, with the columns and units of the house's description."""
    spec, values = house(), series()
    if days is not None:
        values = values.between(values.end - days * 86_400, values.end)
    columns = [from_canonical(values.values[:, i], s.unit) for i, s in enumerate(spec.sensors)]
    clock = np.array([datetime.fromtimestamp(t, UTC).astimezone(spec.zone).utcoffset() for t in values.times[:1]])[0]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["date", *(s.column for s in spec.sensors)])
        for time, *row in zip(values.times.tolist(), *columns, strict=True):
            writer.writerow([(datetime.fromtimestamp(time, UTC) + clock).strftime("%Y-%m-%d %H:%M:%S"), *(f"{v:.4f}" for v in row)])


def run(preset: str) -> Path:
    """The preset's run, trained for one epoch by the trainer's own command line; made when missing."""
    folder = BUILD / preset / "run"
    if not (folder / "run.json").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        table = BUILD / "house.csv"
        write_csv(table)
        stride = {"seed": "14400", "base": "7200"}[preset]
        flags = ["--preset", preset, "--epochs", "1", "--stride-s", stride, "--tracking-uri", "off"]
        command = [sys.executable, "-m", "trainer", "fit", "--house", str(HOUSE), "--data", str(table), "--out", str(folder), *flags]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        _shake(folder / "model.keras")
    return folder


def _shake(path: Path) -> None:
    import keras

    model = keras.models.load_model(path, compile=False)
    dice = np.random.default_rng(5)
    model.set_weights([w + 0.05 * dice.standard_normal(w.shape).astype(w.dtype) if w.dtype == np.float32 else w for w in model.get_weights()])
    model.save(path)


def bundle_folder(preset: str) -> Path:
    """Where the preset's bundle lies; group `exporting` makes it."""
    return BUILD / preset / "bundle"


def signing_key() -> Path:
    """Key that the bundles are signed with; agents trust it whose configuration folder is CONFIG."""
    path = CONFIG / "hearthcast" / "signing.key"
    if not path.exists():
        signing.trust(signing.create_key(path), folder=CONFIG / "hearthcast" / "trusted", name="benchmarks")
    return path


def bundle(preset: str) -> Bundle:
    """The preset's bundle, made when missing."""
    if not bundle_folder(preset).is_dir():
        from export.assemble import export_run

        export_run(run(preset), bundle_folder(preset), sign_key=signing_key(), even_if_worse=True)
    return read_bundle(bundle_folder(preset), trusted=signing.trusted_keys((CONFIG / "hearthcast" / "trusted",)))


def clear() -> None:
    """Forget what earlier runs made."""
    shutil.rmtree(BUILD, ignore_errors=True)
    BUILD.mkdir(parents=True)
