"""One run: table -> windows -> network -> training -> calibration -> scores -> run folder and MLflow."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import keras
import numpy as np
from rich.console import Console

from edge_agent.contract.calibration import Calibration
from edge_agent.contract.errors import ConfigError
from edge_agent.contract.features import FeatureBuilder
from edge_agent.contract.localtime import iso_utc
from edge_agent.contract.plan import FeaturePlan
from edge_agent.contract.schema import HouseSpec, parse_house
from trainer.baselines import baseline_predictions, yardstick
from trainer.datasets import ReadOptions, Table, read_table
from trainer.devices import Device, OneDevice
from trainer.display import TrainingDisplay, counting
from trainer.evaluate import calibrate, model_predictions, score_table
from trainer.gallery import forecast_pictures, loss_picture, publish
from trainer.loop import Epoch, Progress, Task, train
from trainer.machine import made_with, peak_memory_mb
from trainer.model import Network, build_seed, scaling_of
from trainer.networks import build
from trainer.presets import HyperParameters, plan_for
from trainer.quality_report import print_findings, record_of
from trainer.run_folder import RunFolder
from trainer.scores import Predictions
from trainer.tracking import RunStart, TrackedRun, track
from trainer.untracked import OFF, UntrackedRun
from trainer.weather_errors import training_weather
from trainer.windows import Split, Windows, split_origins

BATCH: Final = 32
"""Windows in a batch of predictions: 64 took 60 MB more (seed on the reference house) and no less time."""
MODEL: Final = "model"
"""What the trained model is called among the scores."""


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
    role: str | None = None
    """One model of all of the house's targets of this role (`trainer.fit_rooms`)."""
    share: float = 1.0
    """Of the house's time, from its start, that such a model looks at."""
    covariates: tuple[str, ...] = ()
    weather: tuple[str, ...] = ()
    """Roles whose forecast over the horizon the model reads."""
    seed: int = 0
    repair: bool = False
    accept: tuple[str, ...] = ()
    """Kinds of findings that are true of this house."""
    resume: bool = False
    tracking_uri: str | None = None
    """MLflow's store; None: a SQLite file beside the run; `off`: none."""
    experiment: str | None = None
    """MLflow's experiment; the house's name when None."""
    init: Path | None = None
    """Bundle or run that fine-tuning starts from; the bundle that ships when None."""
    allow_unsigned: bool = False
    """Start from a bundle that nobody trusted has signed."""
    device: Device = field(default_factory=OneDevice)
    """What trains."""


@dataclass(frozen=True, eq=False)
class Material:
    """The house's history, ready to train on."""

    house_text: str
    house: HouseSpec
    table: Table
    sensor: str
    """The target's."""
    plan: FeaturePlan
    builder: FeatureBuilder
    split: Split
    made: dict[str, Windows] = field(default_factory=dict)
    """Windows by span, once they are made: a search trains on them again and again."""


@dataclass(frozen=True, eq=False)
class Trained:
    """A network after training."""

    model: keras.Model
    """float32, physical units."""
    progress: Progress
    windows_per_s: float
    """Median of the epochs, training only."""


def fit(request: FitRequest, *, console: Console, stop_asked: Callable[[], bool] = lambda: False, material: Material | None = None) -> dict[str, Any]:
    """Fit a model and leave it in the run folder; returns what `run.json` holds.

    Args:
        request: what to fit.
        console: where to say how it goes.
        stop_asked: whether to stop now.
        material: what `read_material` gave for this request, where it was called before.

    Raises:
        HearthcastError: configuration, data, training or tracking failed; the folder then holds no run that looks finished, unless it is finished
            and only the last uploads to MLflow failed.
    """
    started = time.perf_counter()
    material = read_material(request, console) if material is None else material
    folder = RunFolder(request.out)
    folder.start(started_facts(request, material), resume=request.resume)
    with tracking(request, material) as tracked:
        trained = train_model(request, material, folder, tracked, console, stop_asked)
        tracked.interrupted = trained.progress.interrupted
        record, predictions = _judge(request, material, trained, folder, console)
        record |= {"mlflow_run_id": tracked.id, "wall_time_s": time.perf_counter() - started, "peak_memory_mb": peak_memory_mb()}
        folder.write_record(record)
        with console.status("pictures and MLflow"):
            _show(material, trained, record, predictions, folder, tracked)
    return record


def read_material(request: FitRequest, console: Console) -> Material:
    """The house's history, split into spans.

    Raises:
        HearthcastError: the house or its tables cannot be used, or are too short.
    """
    text = house_text(request.house)
    house = parse_house(text, source=str(request.house))
    target = house.target(request.target) if request.target else house.targets[0]
    plan = plan_for(request.preset, house, target.name, request.covariates, request.weather)
    table = read_history(request, house, target.sensor, console)
    series = table.series
    span = f"{iso_utc(series.start)} to {iso_utc(series.end)}, {len(series):,} steps"
    console.print(f"{house.site}: {span}; target {target.name} ({plan.unit})", soft_wrap=True)
    weather = training_weather(plan, series, seed=request.seed)
    builder = FeatureBuilder(plan, series, target=target.sensor, zone=house.zone, weather=weather)
    split = split_origins(series, plan, target.sensor, stride_s=request.hyper.stride_s)
    return Material(text, house, table, target.sensor, plan, builder, split)


def read_history(request: FitRequest, house: HouseSpec, sensor: str, console: Console) -> Table:
    """The house's tables, with what was found in them told.

    Raises:
        DataError: they, or the target's `sensor`, cannot be used.
    """
    table = read_table(house, list(request.data), options=ReadOptions(repair=request.repair, accept=request.accept))
    print_findings(console, table.findings, table.notes)
    table.require(sensor)
    return table


def house_text(path: Path) -> str:
    """The text of a house.toml."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise ConfigError(f"{path}: cannot be read ({err}); give the path of a house.toml with --house") from err


def started_facts(request: FitRequest, material: Material) -> dict[str, Any]:
    """All that decides the run's result."""
    return {
        "preset": request.preset,
        "seed": request.seed,
        "plan": material.plan.to_dict(),
        "hyper_parameters": request.hyper.to_dict(),
        "data_fingerprint": material.table.fingerprint,
        "backend": keras.backend.backend(),
    }


def tracking(request: FitRequest, material: Material, *, nested: bool = False) -> AbstractContextManager[TrackedRun | UntrackedRun]:
    """The request's MLflow run; `nested`: a child of the run that is open."""
    if request.tracking_uri == OFF:
        return nullcontext(UntrackedRun())
    started = started_facts(request, material)
    split = {name: len(span.origins) for name, span in vars(material.split).items()}
    start = RunStart(
        folder=request.out,
        experiment=request.experiment or material.house.site,
        name=request.out.name,
        parameters={**started.pop("hyper_parameters"), **started, "target": material.plan.target, "origins": split},
        tags={"data_fingerprint": material.table.fingerprint, "site": material.house.site, "preset": request.preset},
        tracking_uri=request.tracking_uri,
        resume=request.resume,
    )
    return track(start, nested=nested)


def train_model(
    request: FitRequest,
    material: Material,
    folder: RunFolder,
    tracked: TrackedRun | UntrackedRun,
    console: Console,
    stop_asked: Callable[[], bool],
    *,
    display: Callable[..., TrackedDisplay] | None = None,
) -> Trained:
    """The network, trained. `display` makes another one than `TrackedDisplay`; what it raises after an epoch ends the training."""
    keras.utils.set_random_seed(request.seed)
    with request.device.scope():
        network = _network(request, material)
    task = Task(
        network,
        windows=_windows(material, "train", console),
        stopping=_windows(material, "stopping", console),
        hyper=request.hyper,
        seed=request.seed,
        keep_untrained=material.plan.anchored,
        device=request.device,
    )
    with (display or TrackedDisplay)(
        console, epochs=request.hyper.epochs * request.hyper.members, windows=len(task.windows), tracked=tracked
    ) as reporter:
        progress = train(task, checkpoint=folder.state, display=reporter, stop_asked=stop_asked, resume=request.resume)
    rates = [row.samples_per_s for row in progress.history if row.epoch]
    return Trained(_float32(request, material, network), progress, float(np.median(rates)) if rates else 0.0)


class TrackedDisplay(TrainingDisplay):
    """The display, which also tells MLflow."""

    def __init__(self, console: Console, *, epochs: int, windows: int, tracked: TrackedRun | UntrackedRun) -> None:
        super().__init__(console, epochs=epochs, windows=windows)
        self.tracked = tracked

    def epoch(self, row: Epoch, best: int) -> None:
        super().epoch(row, best)
        self.tracked.log_epoch(row.epoch, {name: value for name, value in asdict(row).items() if name != "epoch"})


def _network(request: FitRequest, material: Material) -> Network:
    if request.preset == "seed":
        return build_seed(material.plan, request.hyper, scaling_of(material.builder, material.split.train))
    return build(material.plan, request.hyper)


def _float32(request: FitRequest, material: Material, network: Network) -> keras.Model:
    """The trained model without 16-bit layers, on one device: what is calibrated, saved and exported."""
    if not (request.hyper.mixed_precision or request.device.is_shared):
        return network.model
    plain = _network(replace(request, hyper=replace(request.hyper, mixed_precision=False)), material).model
    plain.set_weights(network.model.get_weights())
    return plain


def _windows(material: Material, name: str, console: Console) -> Windows:
    """Windows of the span with this name, made when first asked for."""
    if name not in material.made:
        origins = getattr(material.split, name).origins
        with counting(console, f"climatology, {name} span", len(origins)) as advance:
            material.made[name] = Windows(material.builder, origins, name=material.house.site, on_progress=advance)
    return material.made[name]


def _judge(
    request: FitRequest, material: Material, trained: Trained, folder: RunFolder, console: Console
) -> tuple[dict[str, Any], dict[str, dict[str, Predictions]]]:
    """Calibrate and score, and write all of the run but its record; returns the record and the predictions by span and method."""
    held_out = _windows(material, "calibration", console)
    calibration = calibrate(trained.model, held_out, batch_size=BATCH)
    spans = {"validation": held_out}
    if not trained.progress.interrupted:  # the test span is looked at once, when everything is decided
        spans["test"] = _windows(material, "test", console)
    predictions = {name: _predictions(trained.model, windows, calibration) for name, windows in spans.items()}
    folder.write_house(material.house_text)
    folder.write_history(trained.progress.history)
    folder.write_samples(held_out, material.house, material.sensor)
    folder.write_model(trained.model)
    return {
        **_record(request, material, trained),
        "calibration": calibration.to_dict(),
        "scores": {name: score_table(table) for name, table in predictions.items()},
    }, predictions


def _predictions(model: keras.Model, windows: Windows, calibration: Calibration) -> dict[str, Predictions]:
    """The model's forecasts, and the baselines' at the same origins."""
    own = model_predictions(model, windows, calibration, batch_size=BATCH)
    return {MODEL: own, **baseline_predictions(windows.builder, windows.origins, anchors=windows.anchors)}


def _record(request: FitRequest, material: Material, trained: Trained) -> dict[str, Any]:
    """What run.json says of how the model came about."""
    series, split, progress = material.table.series, material.split, trained.progress
    return {
        "status": "interrupted" if progress.interrupted else "finished",
        "name": f"{request.preset}-{material.house.site}",
        "preset": request.preset,
        "plan": material.plan.to_dict(),
        "outputs": list(trained.model.output_names),
        "training": {
            "houses": [material.house.site],
            "start": iso_utc(series.start),
            "end": iso_utc(split.train.end),
            "looked_at_until": {f"{material.house.site}:{material.plan.target}": split.calibration.end},
            "data_fingerprint": material.table.fingerprint,
            "epochs": progress.history[-1].epoch,
            "best_epoch": progress.best_epoch,
            "best_validation_loss": progress.best_loss,
            "windows_per_s": trained.windows_per_s,
        },
        "split": split.to_dict(),
        "hyper_parameters": request.hyper.to_dict(),
        "seed": request.seed,
        "house": material.house_text,
        "repairs": material.table.repairs,
        "quality": record_of(material.table.findings),
        "backend": keras.backend.backend(),
        **made_with(),
    }


def _show(
    material: Material,
    trained: Trained,
    record: Mapping[str, Any],
    predictions: Mapping[str, Mapping[str, Predictions]],
    folder: RunFolder,
    tracked: TrackedRun | UntrackedRun,
) -> None:
    """Pictures into the folder, everything to MLflow."""
    shown = predictions.get("test", predictions["validation"])
    loss = "CRPS + squared error, relative" if material.plan.anchored else "mean squared error, standardised"
    figures = {
        **loss_picture(trained.progress.history, trained.progress.best_epoch, loss=loss),
        **forecast_pictures(shown, MODEL, plan=material.plan, zone=material.house.zone),
    }
    # the other baselines score the same in every run and would bury what differs; run.json has them all
    tracked.log_scores({span: {name: table[name] for name in (MODEL, yardstick(table))} for span, table in record["scores"].items()})
    publish(figures, folder, tracked)


def verdict(record: Mapping[str, Any]) -> list[str]:
    """What was kept, and what it is worth beside what costs nothing, line by line."""
    span = "test" if "test" in record["scores"] else "validation"
    usual = yardstick(record["scores"][span])
    own, other, training = record["scores"][span][MODEL], record["scores"][span][usual], record["training"]
    gain = own["skill"]
    kept = f"kept epoch {training['best_epoch']} of {training['epochs']}"
    if training["best_epoch"] == 0:
        kept += f": none was better than the {usual} on days it had not seen, so the model is the {usual}; more --data may help"
    crps = f"CRPS {own['crps']:.4g} and {other['crps']:.4g} (skill {_percent(gain['crps'])})"
    total = f"day total off by {own['total_mae']:.4g} and {other['total_mae']:.4g} (skill {_percent(gain['total_mae'])})"
    mae = f"MAE {own['mae']:.4g} and {other['mae']:.4g}"
    return [kept, f"{span} span, beside the {usual}: {crps}, {mae}, {total}; p10 to p90 holds {own['coverage']:.0%}"]


def _percent(share: float) -> str:
    return f"{share:+.1%}".replace("-0.0%", "+0.0%")
