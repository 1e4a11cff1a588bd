"""One run: table -> windows -> network -> training -> calibration -> scores -> run folder."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
from rich.console import Console

from edge_agent.contract.calibration import Calibration
from edge_agent.contract.errors import ConfigError
from edge_agent.contract.features import FeatureBuilder, FeaturePlan
from edge_agent.contract.localtime import iso_utc
from edge_agent.contract.schema import parse_house
from trainer.baselines import CLIMATOLOGY, baseline_predictions
from trainer.datasets import Table, read_table
from trainer.display import TrainingDisplay, counting
from trainer.evaluate import calibrate, model_predictions, score_table
from trainer.loop import Progress, Task, train
from trainer.machine import git_commit, library_versions, machine, peak_memory_mb
from trainer.model import Network, build_base, build_seed, scaling_of
from trainer.presets import HyperParameters, plan_for
from trainer.run_folder import RunFolder
from trainer.scores import Predictions
from trainer.windows import Span, Split, Windows, split_origins

BATCH: Final = 64
"""Windows in a batch of predictions: larger ones only cost memory."""


@dataclass(frozen=True)
class FitRequest:
    """What to fit, on what, and where to leave it."""

    house: Path
    data: tuple[Path, ...]
    out: Path
    preset: str
    hyper: HyperParameters
    target: str | None = None
    """The house's first target when None."""
    covariates: tuple[str, ...] = ()
    seed: int = 0
    repair: bool = False
    resume: bool = False


@dataclass(frozen=True, eq=False)
class Material:
    """The house's history, ready to train on."""

    house_text: str
    house: Any
    table: Table
    target: str
    sensor: str
    plan: FeaturePlan
    builder: FeatureBuilder
    split: Split


def fit(request: FitRequest, *, console: Console, stop_asked: Callable[[], bool] = lambda: False) -> dict[str, Any]:
    """Fit a model and leave it in the run folder; returns what `run.json` holds.

    Raises:
        HearthcastError: configuration, data or training failed; the folder then holds no run that looks finished.
    """
    started = time.perf_counter()
    material = _read(request, console)
    folder = RunFolder(request.out)
    folder.start(_started(request, material), resume=request.resume)
    keras.utils.set_random_seed(request.seed)
    network = _network(request, material)
    progress, samples_per_s = _train(request, material, network, folder, console, stop_asked)
    model = _float32(request, material, network)
    calibration_windows = _windows(material, material.split.calibration, "calibration", console)
    calibration = calibrate(model, calibration_windows, batch_size=BATCH)
    spans = {"validation": calibration_windows}
    if not progress.interrupted:  # the test span is scored once, when everything is decided
        spans["test"] = _windows(material, material.split.test, "test", console)
    predictions = {name: _predictions(model, windows, calibration) for name, windows in spans.items()}
    folder.write_house(material.house_text)
    folder.write_history(progress.history)
    folder.write_samples(calibration_windows, material.house, material.sensor)
    folder.write_model(model)
    record = {
        **_record(request, material, progress),
        "outputs": list(model.output_names),
        "calibration": calibration.to_dict(),
        "scores": {name: score_table(table) for name, table in predictions.items()},
        "samples_per_s": samples_per_s,
        "wall_time_s": time.perf_counter() - started,
        "peak_memory_mb": peak_memory_mb(),
        "mlflow_run_id": "",
    }
    folder.write_record(record)
    return record


def _read(request: FitRequest, console: Console) -> Material:
    text = _text(request.house)
    house = parse_house(text, source=str(request.house))
    target = house.target(request.target) if request.target else house.targets[0]
    plan = plan_for(request.preset, house, target.name, request.covariates)
    table = read_table(house, list(request.data), repair=request.repair)
    for line in table.repairs:
        console.print(f"[yellow]repaired:[/] {line}")
    for line in table.notes:
        console.print(f"note: {line}")
    series = table.series
    console.print(f"{house.site}: {iso_utc(series.start)} to {iso_utc(series.end)}, {len(series):,} steps, target {target.name} ({plan.unit})")
    builder = FeatureBuilder(plan, series, target=target.sensor, zone=house.zone)
    split = split_origins(series, plan, target.sensor, stride_s=request.hyper.stride_s)
    return Material(text, house, table, target.name, target.sensor, plan, builder, split)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise ConfigError(f"{path}: cannot be read ({err}); give the path of a house.toml with --house") from err


def _started(request: FitRequest, material: Material) -> dict[str, Any]:
    """All that decides the run's result."""
    return {
        "preset": request.preset,
        "seed": request.seed,
        "plan": material.plan.to_dict(),
        "hyper_parameters": request.hyper.to_dict(),
        "data_fingerprint": material.table.fingerprint,
        "backend": keras.backend.backend(),
    }


def _network(request: FitRequest, material: Material) -> Network:
    if request.preset == "seed":
        return build_seed(material.plan, request.hyper, scaling_of(material.builder, material.split.train))
    return build_base(material.plan, request.hyper)


def _float32(request: FitRequest, material: Material, network: Network) -> keras.Model:
    """The trained model without 16-bit layers: what is calibrated, saved and exported."""
    if not request.hyper.mixed_precision:
        return network.model
    plain = _network(replace(request, hyper=replace(request.hyper, mixed_precision=False)), material).model
    plain.set_weights(network.model.get_weights())
    return plain


def _windows(material: Material, span: Span, name: str, console: Console) -> Windows:
    with counting(console, f"climatology, {name} span", len(span.origins)) as advance:
        return Windows(material.builder, span.origins, on_progress=advance)


def _train(
    request: FitRequest, material: Material, network: Network, folder: RunFolder, console: Console, stop_asked: Callable[[], bool]
) -> tuple[Progress, float]:
    """Train; returns progress and the median epoch's windows per second."""
    task = Task(
        network,
        windows=_windows(material, material.split.train, "training", console),
        stopping=_windows(material, material.split.stopping, "stopping", console),
        hyper=request.hyper,
        seed=request.seed,
        keep_untrained=material.plan.anchored,
    )
    with TrainingDisplay(console, epochs=request.hyper.epochs, windows=len(task.windows)) as display:
        progress = train(task, checkpoint=folder.state, display=display, stop_asked=stop_asked, resume=request.resume)
    return progress, float(np.median([row.samples_per_s for row in progress.history]))


def _predictions(model: keras.Model, windows: Windows, calibration: Calibration) -> dict[str, Predictions]:
    """The model's forecasts, and the baselines' at the same origins, the rolling climatology last."""
    own = model_predictions(model, windows, calibration, batch_size=BATCH)
    return {"model": own, **baseline_predictions(windows.builder, windows.origins, anchors=windows.anchors)}


def _record(request: FitRequest, material: Material, progress: Progress) -> dict[str, Any]:
    """What run.json says of how the model came about."""
    series, split = material.table.series, material.split
    return {
        "status": "interrupted" if progress.interrupted else "finished",
        "name": f"{request.preset}-{material.house.site}",
        "preset": request.preset,
        "plan": material.plan.to_dict(),
        "training": {
            "houses": [material.house.site],
            "start": iso_utc(series.start),
            "end": iso_utc(split.train.end),
            "data_fingerprint": material.table.fingerprint,
            "epochs": progress.history[-1].epoch,
            "best_epoch": progress.best_epoch,
            "best_validation_loss": progress.best_loss,
        },
        "split": split.to_dict(),
        "hyper_parameters": request.hyper.to_dict(),
        "seed": request.seed,
        "house": material.house_text,
        "repairs": material.table.repairs,
        "versions": library_versions(),
        "backend": keras.backend.backend(),
        "git_commit": git_commit(),
        "machine": machine(),
    }


def verdict(record: dict[str, Any]) -> str:
    """One line: what the run is worth beside the rolling climatology."""
    span = "test" if "test" in record["scores"] else "validation"
    own, yardstick = record["scores"][span]["model"], record["scores"][span][CLIMATOLOGY]
    gain = own["skill"]
    return (
        f"{span} span: CRPS {own['crps']:.4g} beside {yardstick['crps']:.4g} of the {CLIMATOLOGY} (skill {gain['crps']:+.1%}), "
        f"MAE {own['mae']:.4g} beside {yardstick['mae']:.4g}, day total {own['total_mae']:.4g} beside {yardstick['total_mae']:.4g} "
        f"(skill {gain['total_mae']:+.1%}), p10-p90 holds {own['coverage']:.0%}"
    )
