"""Fine-tuning on one house: table -> decision (the base, tuned, or their mixture) -> scores beside the base -> run folder and MLflow.

`fine_tune` is one house in, one record out, one MLflow run: a fleet calls it once for each house.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import keras
from rich.console import Console

from edge_agent.contract.errors import DataError, TrainingError
from edge_agent.contract.features import FeatureBuilder
from edge_agent.contract.localtime import DAY_S, iso_utc
from edge_agent.contract.plan import FeaturePlan
from edge_agent.contract.schema import HouseSpec, parse_house
from trainer.baselines import baseline_predictions, yardstick
from trainer.datasets import Table
from trainer.decision import BASE, Decision, decide
from trainer.display import counting
from trainer.evaluate import model_predictions, score_table
from trainer.fit import BATCH, MODEL, FitRequest, house_text, read_history
from trainer.gallery import forecast_pictures, publish, tuning_picture
from trainer.gate import compare
from trainer.loop import Epoch
from trainer.losses import losses_by_origin
from trainer.machine import made_with, peak_memory_mb
from trainer.presets import trainings
from trainer.quality_report import record_of
from trainer.run_folder import RunFolder
from trainer.scores import Predictions
from trainer.start import StartModel, network_of, read_start
from trainer.tracking import RunStart, TrackedRun, track
from trainer.tuner import StoppedError, Tuner
from trainer.untracked import OFF, UntrackedRun
from trainer.weather_errors import training_weather
from trainer.windows import Span, Windows, tuning_spans


@dataclass(frozen=True, eq=False)
class HouseMaterial:
    """The house's history, ready to tune on."""

    house_text: str
    house: HouseSpec
    table: Table
    plan: FeaturePlan
    sensor: str
    """The target's."""
    builder: FeatureBuilder
    before: Span
    """Trains, chooses, calibrates, and guards the gate."""
    test: Span
    """The last fifth: scored once, at the end."""


def fine_tune(request: FitRequest, *, console: Console, stop_asked: Callable[[], bool] = lambda: False, table: Table | None = None) -> dict[str, Any]:
    """Fine-tune a base model on a house and leave what is kept of it in the run folder; returns what `run.json` holds.

    Args:
        request: preset `finetune`; `init` names the model to start from, the base that ships when None.
        console: where to say how it goes.
        stop_asked: whether to stop now.
        table: the house's history where it was read elsewhere; the request's data are then not looked at.

    Raises:
        HearthcastError: configuration, data, training or tracking failed, or asked to stop; the folder then holds no run that looks finished, unless
            it is finished and only the last uploads to MLflow failed.
    """
    started = time.perf_counter()
    keras.utils.set_random_seed(request.seed)  # before the model is loaded: its dropouts draw their seeds then
    start = read_start(request.init, allow_unsigned=request.allow_unsigned)
    material = _read(request, start, console, table)
    folder = RunFolder(request.out)
    folder.start(_started(request, start, material), resume=request.resume)
    with _tracking(request, start, material) as tracked:
        windows = _windows(material, material.before, "history", console)
        network = network_of(start, mean_weight=request.hyper.mean_weight, total_weight=request.hyper.total_weight)
        tuner = Tuner(network, request.hyper, seed=request.seed, stop_asked=stop_asked)
        decision = _decide(request, start, tuner, windows, console, tracked)
        tables = _predict(start, material, tuner, decision, console)
        record = _record(request, start, material, decision) | {
            "scores": {span: score_table(table) for span, table in tables.items()},
            "beside_base": {span: _beside_base(table) for span, table in tables.items()},
            "mlflow_run_id": tracked.id,
            "wall_time_s": time.perf_counter() - started,
            "peak_memory_mb": peak_memory_mb(),
        }
        _write(material, start, windows, record, folder)
        with console.status("pictures and MLflow"):
            _show(material, decision, record, tables, folder, tracked)
    return record


def _read(request: FitRequest, start: StartModel, console: Console, table: Table | None) -> HouseMaterial:
    text = house_text(request.house)
    house = parse_house(text, source=str(request.house))
    target = house.target(request.target) if request.target else house.targets[0]
    plan = start.plan_in(house, target.name)
    table = read_history(request, house, target.sensor, console) if table is None else table
    series = table.series
    span = f"{iso_utc(series.start)} to {iso_utc(series.end)}, {len(series):,} steps"
    console.print(f"{house.site}: {span}; target {target.name} ({plan.unit}); start {start.name} {start.version}".rstrip(), soft_wrap=True)
    if start.seen_until(house.site) > series.start:
        known = iso_utc(start.seen_until(house.site))
        console.print(f"note: the start has looked at {house.site} until {known}: held-out days before that flatter it", soft_wrap=True)
    weather = training_weather(plan, series, seed=request.seed)
    builder = FeatureBuilder(plan, series, target=target.sensor, zone=house.zone, weather=weather)
    before, test = tuning_spans(series, plan, target.sensor, stride_s=request.hyper.stride_s)
    if not len(before.origins):
        days = len(series) * series.step_s / DAY_S
        raise DataError(
            f"the table covers {days:.1f} days, too few for one forecast from {plan.context_s // DAY_S} days of context: give more --data"
        )
    return HouseMaterial(text, house, table, plan, target.sensor, builder, before, test)


def _started(request: FitRequest, start: StartModel, material: HouseMaterial) -> dict[str, Any]:
    """All that decides the run's result."""
    return {
        "preset": request.preset,
        "seed": request.seed,
        "base": start.facts(),
        "plan": material.plan.to_dict(),
        "hyper_parameters": request.hyper.to_dict(),
        "data_fingerprint": material.table.fingerprint,
        "backend": keras.backend.backend(),
    }


def _tracking(request: FitRequest, start: StartModel, material: HouseMaterial) -> AbstractContextManager[TrackedRun | UntrackedRun]:
    if request.tracking_uri == OFF:
        return nullcontext(UntrackedRun())
    facts = _started(request, start, material)
    origins = {"before": len(material.before.origins), "test": len(material.test.origins)}
    return track(
        RunStart(
            folder=request.out,
            experiment=request.experiment or material.house.site,
            name=request.out.name,
            parameters={**facts.pop("hyper_parameters"), **facts, "target": material.plan.target, "origins": origins},
            tags={"data_fingerprint": material.table.fingerprint, "site": material.house.site, "preset": request.preset},
            tracking_uri=request.tracking_uri,
            resume=request.resume,
        )
    )


def _windows(material: HouseMaterial, span: Span, name: str, console: Console) -> Windows:
    with counting(console, f"climatology, {name}", len(span.origins)) as advance:
        return Windows(material.builder, span.origins, name=material.house.site, on_progress=advance)


def _decide(request: FitRequest, start: StartModel, tuner: Tuner, windows: Windows, console: Console, tracked: TrackedRun | UntrackedRun) -> Decision:
    def log(row: Epoch) -> None:
        tracked.log_epoch(row.epoch, {name: value for name, value in asdict(row).items() if name != "epoch"})

    try:
        return decide(tuner, windows, start.calibration, trainings=trainings(request.hyper), console=console, on_epoch=log)
    except StoppedError:
        tracked.interrupted = True
        raise TrainingError("stopped before it was known whether tuning helps: nothing is kept; start it again with --resume") from None


def _predict(start: StartModel, material: HouseMaterial, tuner: Tuner, decision: Decision, console: Console) -> dict[str, dict[str, Predictions]]:
    """Forecasts of the test span by method, where it holds any: looked at once, when everything is decided. The network ends as what is kept."""
    if not len(material.test.origins):
        return {}
    windows = _windows(material, material.test, "test span", console)
    model = tuner.network.model
    own = model_predictions(model, windows, decision.calibration, batch_size=BATCH)
    kept = model.get_weights()
    tuner.put(tuner.base, 1.0)
    base = model_predictions(model, windows, start.calibration, batch_size=BATCH)
    model.set_weights(kept)
    return {"test": {MODEL: own, BASE: base, **baseline_predictions(windows.builder, windows.origins, anchors=windows.anchors)}}


def _beside_base(table: Mapping[str, Predictions]) -> dict[str, Any]:
    own, base = losses_by_origin(table[MODEL]), losses_by_origin(table[BASE])
    return {name: compare(getattr(own, name), getattr(base, name), own.origins).to_dict() for name in ("crps", "total")}


def _record(request: FitRequest, start: StartModel, material: HouseMaterial, decision: Decision) -> dict[str, Any]:
    """What run.json says of how the model came about."""
    series, is_base = material.table.series, decision.choice is None
    return {
        "status": "finished",
        "name": start.name if is_base else f"{request.preset}-{material.house.site}",
        "preset": request.preset,
        "plan": material.plan.to_dict(),
        "outputs": list(start.model.output_names),
        "calibration": decision.calibration.to_dict(),
        "training": {
            "houses": [material.house.site],
            "start": iso_utc(series.start),
            "end": iso_utc(material.before.end),
            "looked_at_until": {**start.looked_at_until, f"{material.house.site}:{material.plan.target}": material.before.end},
            "data_fingerprint": material.table.fingerprint,
            "base": start.facts(),
            "fine_tuning": decision.to_dict(),
        },
        "split": {
            name: {"start": span.start, "end": span.end, "origins": len(span.origins)}
            for name, span in (("before", material.before), ("test", material.test))
        },
        "hyper_parameters": request.hyper.to_dict(),
        "seed": request.seed,
        "house": material.house_text,
        "repairs": material.table.repairs,
        "quality": record_of(material.table.findings),
        "backend": keras.backend.backend(),
        **made_with(),
    }


def _write(material: HouseMaterial, start: StartModel, windows: Windows, record: dict[str, Any], folder: RunFolder) -> None:
    folder.write_house(material.house_text)
    folder.write_samples(windows, material.house, material.sensor)
    folder.write_model(start.model)
    folder.write_record(record)


def _show(
    material: HouseMaterial,
    decision: Decision,
    record: Mapping[str, Any],
    tables: Mapping[str, Mapping[str, Predictions]],
    folder: RunFolder,
    tracked: TrackedRun | UntrackedRun,
) -> None:
    """Pictures into the folder, everything to MLflow."""
    figures = {} if decision.trials is None else tuning_picture(decision.trials, decision.choice)
    if tables:
        figures |= forecast_pictures(tables["test"], MODEL, plan=material.plan, zone=material.house.zone)
    tracked.log_scores({span: {name: table[name] for name in (MODEL, BASE, yardstick(table))} for span, table in record["scores"].items()})
    tracked.log_scores({"beside_base": record["beside_base"], "gate": record["training"]["fine_tuning"]["gate"]})
    publish(figures, folder, tracked)
