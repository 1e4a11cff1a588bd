"""One run over many homes: tables -> homes, some set aside -> windows at several steps -> training -> calibration -> scores -> run folder, MLflow.

Without a span of its own for the test: the homes set aside choose the epoch and calibrate, and what `train_shares` leaves out is never looked at.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Final

import keras
import numpy as np
from rich.console import Console

from edge_agent.contract.calibration import Calibration, fit_calibration
from edge_agent.contract.localtime import iso_utc
from edge_agent.contract.plan import FeaturePlan
from edge_agent.contract.series import Series
from trainer.augment import disaggregate, interrupted, slow_level, some_temperature, together, weather_load
from trainer.baselines import actual_values, baseline_predictions, yardstick
from trainer.display import counting
from trainer.evaluate import model_predictions, raw_outputs, score_table
from trainer.findings import Finding
from trainer.fit import BATCH, MODEL, FitRequest, TrackedDisplay
from trainer.gallery import loss_picture, publish
from trainer.homes import TARGET, Home, HomeSplit, HomesRequest, fingerprint_of, seen, split_homes, survey
from trainer.loop import Progress, Task, train
from trainer.machine import made_with, peak_memory_mb
from trainer.many_windows import ManyWindows, windows_of
from trainer.model import Network, build_base
from trainer.presets import plan_for
from trainer.quality_report import record_of
from trainer.run_folder import RunFolder
from trainer.scores import Predictions
from trainer.spool import Spool
from trainer.tracking import RunStart, TrackedRun, track
from trainer.untracked import OFF, UntrackedRun
from trainer.windows import Windows

COARSEST_S: Final = 3600
"""The step of the plan that is published; `FeaturePlan.at_step` serves the others."""
PIECES: Final = 3
"""A disaggregated home's new steps in an old one: 30 minutes become 10."""
FINEST_S: Final = 600
SAMPLED: Final = 4
"""Stretches of each step that are left for the exporter."""
Form = tuple[Home, Callable[[], Series], np.random.Generator, float]
"""A home, a series of it as it is or changed, made when called for, what draws its origins, and the share of the wanted windows that it gives."""
HELD_OUT_SHARE: Final = 0.5
COPY_SHARE: Final = 0.25
"""Of a changed copy, and of a further home. Real homes as they are teach most (see LOG)."""


@dataclass(frozen=True, eq=False)
class HomesMaterial:
    """All homes, ready to train on."""

    homes: list[Home]
    split: HomeSplit
    plan: FeaturePlan
    fingerprint: str
    asked: HomesRequest
    findings: list[Finding]
    """What was found in the histories of all homes, those left out too."""
    spool: Spool
    """Where homes and windows lie."""
    made: dict[str, ManyWindows] = field(default_factory=dict)
    """Windows by part of the homes, once they are made: a search trains on them again and again."""


@dataclass(frozen=True, eq=False)
class TrainedHomes:
    """A network after training over many homes."""

    model: keras.Model
    """float32, physical units."""
    progress: Progress
    training: ManyWindows
    stopping: ManyWindows


def fit_homes(
    request: FitRequest,
    homes: HomesRequest,
    *,
    console: Console,
    stop_asked: Callable[[], bool] = lambda: False,
    material: HomesMaterial | None = None,
) -> dict[str, Any]:
    """Fit one model over many homes and leave it in the run folder; returns what `run.json` holds.

    Args:
        request: what to fit.
        homes: which homes, and what of them.
        console: where to say how it goes.
        stop_asked: whether to stop now.
        material: what `read_material` gave for this request, where it was called before.

    Raises:
        HearthcastError: configuration, data, training or tracking failed; the folder then holds no run that looks finished.
    """
    started = time.perf_counter()
    material = read_material(request, homes, console) if material is None else material
    folder = RunFolder(request.out)
    folder.start(started_facts(request, material), resume=request.resume)
    with tracking(request, material) as tracked:
        trained = train_model(request, material, folder, tracked, console, stop_asked)
        tracked.interrupted = trained.progress.interrupted
        held_out = _windows(material, request.seed, "calibration", console)
        calibration = calibrate_many(trained.model, held_out)
        record = _record(request, material, trained.progress, windows=len(trained.training)) | {
            "outputs": list(trained.model.output_names),
            "calibration": calibration.to_dict(),
            "scores": {
                **_scores(trained.model, held_out, calibration, "validation"),
                **_scores(trained.model, trained.stopping, calibration, "stopping"),
            },
            "mlflow_run_id": tracked.id,
            "wall_time_s": time.perf_counter() - started,
            "peak_memory_mb": peak_memory_mb(),
        }
        _write(folder, trained.model, trained.progress, held_out, record, tracked)
    return record


def train_model(
    request: FitRequest,
    material: HomesMaterial,
    folder: RunFolder,
    tracked: TrackedRun | UntrackedRun,
    console: Console,
    stop_asked: Callable[[], bool],
    *,
    display: Callable[..., TrackedDisplay] | None = None,
) -> TrainedHomes:
    """The network, trained. `display` makes another one than `TrackedDisplay`; what it raises after an epoch ends the training."""
    keras.utils.set_random_seed(request.seed)
    with request.device.scope():
        network = build_base(material.plan, request.hyper)
    stopping = _windows(material, request.seed, "stopping", console)
    training = _windows(material, request.seed, "train", console)
    task = Task(network, training, stopping, request.hyper, request.seed, keep_untrained=True, device=request.device)
    with (display or TrackedDisplay)(
        console, epochs=request.hyper.epochs * request.hyper.members, windows=len(training), tracked=tracked
    ) as reporter:
        progress = train(task, checkpoint=folder.state, display=reporter, stop_asked=stop_asked, resume=request.resume)
    return TrainedHomes(_float32(request, material, network), progress, training, stopping)


def read_material(request: FitRequest, homes: HomesRequest, console: Console) -> HomesMaterial:
    """All homes, some set aside.

    Raises:
        HearthcastError: the houses or their tables cannot be used, or are too few.
    """
    spool = Spool(request.out)
    surveyed = survey(homes.sources, console, spool)
    every = surveyed.homes
    split = split_homes(every, seed=request.seed)
    # the published plan has the coarsest step; which home it is made from does not matter
    plan = plan_for("base", replace(every[0].house, step_s=COARSEST_S), TARGET, request.covariates, request.weather)
    console.print(
        f"{len(every)} homes: {len(split.train)} to train on, {len(split.stopping)} for early stopping, {len(split.calibration)} to calibrate"
    )
    return HomesMaterial(every, split, plan, fingerprint_of(every), homes, surveyed.findings, spool)


def started_facts(request: FitRequest, material: HomesMaterial) -> dict[str, Any]:
    """All that decides the run's result."""
    return {
        "preset": request.preset,
        "seed": request.seed,
        "plan": material.plan.to_dict(),
        "hyper_parameters": request.hyper.to_dict(),
        "resolutions": list(material.asked.resolutions),
        "augment": material.asked.augment,
        "per_day": material.asked.per_day,
        "data_fingerprint": material.fingerprint,
        "backend": keras.backend.backend(),
    }


def tracking(request: FitRequest, material: HomesMaterial, *, nested: bool = False) -> AbstractContextManager[TrackedRun | UntrackedRun]:
    """The request's MLflow run; `nested`: a child of the run that is open."""
    if request.tracking_uri == OFF:
        return nullcontext(UntrackedRun())
    started = started_facts(request, material)
    start = RunStart(
        folder=request.out,
        experiment=request.experiment or "homes",
        name=request.out.name,
        parameters={**started.pop("hyper_parameters"), **started, "target": TARGET, "homes": len(material.homes)},
        tags={"data_fingerprint": material.fingerprint, "preset": request.preset},
        tracking_uri=request.tracking_uri,
        resume=request.resume,
    )
    return track(start, nested=nested)


def _windows(material: HomesMaterial, seed: int, name: str, console: Console) -> ManyWindows:
    """Windows of one part of the split, made when first asked for: those to train on with their changed copies, the others as they are."""
    if name not in material.made:
        forms = _held_out_forms(material, name, seed) if name != "train" else _training_forms(material, seed)
        material.made[name] = _many(material, forms, "training" if name == "train" else name, console)
    return material.made[name]


def _training_forms(material: HomesMaterial, seed: int) -> list[Form]:
    return [form for number in range(len(material.split.train)) for form in _forms(material, number, seed)]


def _forms(material: HomesMaterial, number: int, seed: int) -> Iterator[Form]:
    """Each form of a training home: at every resolution, then the copies."""
    home = material.split.train[number]
    series = seen(home, material.plan)
    steps = resolutions_of(home, material.asked.resolutions)
    for i, step_s in enumerate(steps):
        share = 1.0 if home.is_changed else COPY_SHARE
        yield home, lambda step_s=step_s: series.resample(step_s), np.random.default_rng((seed, 2, number, i)), share  # type: ignore[misc]
    for i in range(material.asked.augment if home.is_changed else 0):
        rng = np.random.default_rng((seed, 3, number, i))
        yield home, lambda i=i, rng=rng: changed_copy(home, i, material, steps, rng), rng, COPY_SHARE  # type: ignore[misc]


def resolutions_of(home: Home, resolutions: Sequence[int]) -> list[int]:
    """The steps at which a home is used: multiples of its own, its own when there is none."""
    return [step_s for step_s in resolutions if step_s % home.series.step_s == 0] or [home.series.step_s]


def changed_copy(home: Home, number: int, material: HomesMaterial, steps: Sequence[int], rng: np.random.Generator) -> Series:
    """Copy number `number` of a home: in turn other levels, finer steps, short histories, weather-driven load, two homes on one meter, short again.

    What cannot be done with this home (no finer step wanted, no second home with the same steps) becomes another slow level.
    """
    series, kind = seen(home, material.plan), ("level", "fine", "short", "weather", "two", "short")[number % 6]
    if kind == "fine" and series.step_s == PIECES * FINEST_S:
        return disaggregate(series, home.sensor, FINEST_S, rng)
    if kind == "short":
        return interrupted(series.resample(int(rng.choice(steps))), home.sensor, rng)
    partners = [other for other in material.split.train if other is not home and other.series.step_s == series.step_s]
    if kind == "weather":
        temperature = some_temperature(series, rng) if home.temperature is None else home.temperature
        changed = weather_load(series, home.sensor, temperature, rng)
    elif kind == "two" and partners:
        other = partners[rng.integers(len(partners))]
        changed = together(series, home.sensor, other.series.between(series.start, series.end).column(other.sensor))
    else:
        changed = slow_level(series, home.sensor, rng)
    return changed.resample(int(rng.choice(steps)))


def _held_out_forms(material: HomesMaterial, name: str, seed: int) -> list[Form]:
    """Homes set aside, at every resolution."""

    def form(home: Home, number: int, step_s: int) -> Form:
        rng = np.random.default_rng((seed, 4, number, step_s))
        return home, lambda: seen(home, material.plan).resample(step_s), rng, HELD_OUT_SHARE

    chosen: list[Home] = getattr(material.split, name)
    return [form(home, i, step_s) for i, home in enumerate(chosen) for step_s in resolutions_of(home, material.asked.resolutions)]


def _many(material: HomesMaterial, forms: Sequence[Form], name: str, console: Console) -> ManyWindows:
    with counting(console, f"climatology, {name} homes", len(forms)) as advance:
        parts = []
        for home, form, rng, share in forms:
            parts.append(material.spool.keep(windows_of(home, form(), material.plan, per_day=share * material.asked.per_day, rng=rng)))
            advance(1)
    windows = ManyWindows(parts)
    by_step = ", ".join(f"{sum(map(len, parts)):,} of {step_s // 60} min" for step_s, parts in windows.by_step().items())
    console.print(f"{name} homes: {len(windows):,} windows ({by_step})")
    return windows


def _float32(request: FitRequest, material: HomesMaterial, network: Network) -> keras.Model:
    """The trained model without 16-bit layers, on one device."""
    if not (request.hyper.mixed_precision or request.device.is_shared):
        return network.model
    plain = build_base(material.plan, replace(request.hyper, mixed_precision=False)).model
    plain.set_weights(network.model.get_weights())
    return plain


def calibrate_many(model: keras.Model, windows: ManyWindows) -> Calibration:
    """One correction of the levels for homes of all steps: learnt at each step, then averaged by the number of windows."""
    found = [_calibrate_step(model, parts) for parts in windows.by_step().values()]
    weights = np.array([c.n_origins for c in found], float)
    read_levels = np.average([c.read_levels for c in found], axis=0, weights=weights)
    total_ratio = np.average([c.total_ratio for c in found], axis=0, weights=weights)
    return Calibration(read_levels, total_ratio, None, int(weights.sum()))


def _calibrate_step(model: keras.Model, parts: Sequence[Windows]) -> Calibration:
    outputs = [raw_outputs(model, part, batch_size=BATCH) for part in parts]
    quantiles, mean = (np.concatenate([output[i] for output in outputs]) for i in range(2))
    actual = np.concatenate([actual_values(part.builder, part.origins) for part in parts])
    return fit_calibration(quantiles, mean, actual, parts[0].plan.quantile_levels, origins_per_day=1.0)


def _scores(model: keras.Model, windows: ManyWindows, calibration: Calibration, name: str) -> dict[str, dict[str, Any]]:
    """Scores beside the baselines by step, `NAME 30 min`; in shares of each home's mean of 28 days, so that a large home counts no more."""
    out = {}
    for step_s, parts in windows.by_step().items():
        tables = [_relative_predictions(model, part, calibration) for part in parts]
        out[f"{name} {step_s // 60} min"] = score_table({method: _joined([table[method] for table in tables]) for method in tables[0]})
    return out


def _relative_predictions(model: keras.Model, windows: Windows, calibration: Calibration) -> dict[str, Predictions]:
    own = model_predictions(model, windows, calibration, batch_size=BATCH)
    table = {MODEL: own, **baseline_predictions(windows.builder, windows.origins, anchors=windows.anchors)}
    scale = windows.builder.scales(windows.origins).astype(np.float64)
    return {name: replace(p, quantiles=p.quantiles / scale[:, :, None], mean=p.mean / scale, actual=p.actual / scale) for name, p in table.items()}


def _joined(parts: Sequence[Predictions]) -> Predictions:
    arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in ("origins", "quantiles", "mean", "actual")}
    return replace(parts[0], **arrays)


def _record(request: FitRequest, material: HomesMaterial, progress: Progress, *, windows: int) -> dict[str, Any]:
    """What run.json says of how the model came about."""
    rates = [row.samples_per_s for row in progress.history if row.epoch]
    split = {name: [home.name for home in chosen] for name, chosen in vars(material.split).items()}
    return {
        "status": "interrupted" if progress.interrupted else "finished",
        "name": request.preset,
        "preset": request.preset,
        "plan": material.plan.to_dict(),
        "training": {
            "houses": split["train"],
            "start": iso_utc(min(home.series.start for home in material.homes)),
            "end": iso_utc(max(home.series.end for home in material.homes)),
            "looked_at_until": {home.name: home.series.end for home in material.homes},
            "data_fingerprint": material.fingerprint,
            "windows": windows,
            "resolutions_s": sorted({step_s for home in material.split.train for step_s in resolutions_of(home, material.asked.resolutions)}),
            "augment": material.asked.augment,
            "per_day": material.asked.per_day,
            "epochs": progress.history[-1].epoch,
            "best_epoch": progress.best_epoch,
            "best_validation_loss": progress.best_loss,
            "windows_per_s": float(np.median(rates)) if rates else 0.0,
        },
        "split": split,
        "quality": record_of(material.findings),
        "scores_unit": "shares of each home's mean of 28 days",
        "hyper_parameters": request.hyper.to_dict(),
        "seed": request.seed,
        "backend": keras.backend.backend(),
        **made_with(),
    }


def _write(
    folder: RunFolder, model: keras.Model, progress: Progress, held_out: ManyWindows, record: dict[str, Any], tracked: TrackedRun | UntrackedRun
) -> None:
    folder.write_history(progress.history)
    folder.write_samples_of_homes([part for parts in held_out.by_step().values() for part in parts[:SAMPLED]])
    folder.write_model(model)
    folder.write_record(record)
    figures = loss_picture(progress.history, progress.best_epoch, loss="CRPS + squared error, relative")
    tracked.log_scores({span: {name: table[name] for name in (MODEL, yardstick(table))} for span, table in record["scores"].items()})
    publish(figures, folder, tracked)


def verdict_of_homes(record: dict[str, Any]) -> list[str]:
    """A line for each group of homes set aside: what the model is worth beside the rolling climatology."""
    rows = [(span, table[MODEL]) for span, table in record["scores"].items()]
    return [
        f"{span}: CRPS skill {own['skill']['crps']:+.1%}, day-total skill {own['skill']['total_mae']:+.1%}, p10-p90 holds {own['coverage']:.0%}"
        for span, own in rows
    ]
