"""One run over the rooms of a house: rehearsed on the first part of its time and judged on the rest, then trained on all of it.

A house has a few months. What is held out must be later than what is trained on, because rooms change with the season, and the newest days must be
trained on, because the next are most like them. So the network is trained twice: the first one tells what the second one may be worth, and how wide
its band must be.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Final

import keras
import numpy as np
from rich import box
from rich.console import Console, RenderableType
from rich.table import Table as Grid

from edge_agent.contract.calibration import Calibration, fit_calibration
from edge_agent.contract.errors import ConfigError, DataError
from edge_agent.contract.features import FeatureBuilder
from edge_agent.contract.localtime import DAY_S, iso_utc
from edge_agent.contract.plan import FeaturePlan
from edge_agent.contract.schema import ROLES, HouseSpec, parse_house
from trainer.baselines import CHANGE, LABELS, MIXTURE, YESTERDAY, actual_values, baseline_predictions
from trainer.datasets import ReadOptions, Table, read_table
from trainer.evaluate import model_predictions, raw_outputs, score_table
from trainer.fit import BATCH, MODEL, FitRequest, TrackedDisplay, house_text
from trainer.gallery import loss_picture, publish
from trainer.loop import Progress, Task, train
from trainer.machine import made_with, peak_memory_mb
from trainer.many_windows import ManyWindows
from trainer.networks import build
from trainer.presets import plan_for
from trainer.quality_report import print_findings, record_of
from trainer.run_folder import RunFolder
from trainer.scores import Predictions, concatenated
from trainer.tracking import RunStart, TrackedRun, track
from trainer.untracked import OFF, UntrackedRun
from trainer.weather_errors import training_weather
from trainer.windows import Windows, full_hours

STEP_S: Final = 3600
"""Rooms are slow: what is learnt by the hour serves any step (`FeaturePlan.at_step`)."""
REHEARSED_SHARE: Final = 0.6
"""Of the time."""
REHEARSAL: Final = "rehearsal"
NAIVE: Final = (LABELS["persistence"], YESTERDAY, CHANGE)
"""The best of them differs from room to room."""


@dataclass(frozen=True, eq=False)
class Rooms:
    """The targets of one role, ready to train on."""

    house_text: str
    house: HouseSpec
    table: Table
    plan: FeaturePlan
    """Of them all; its target is called as their role."""
    builders: dict[str, FeatureBuilder]
    """By target, by the hour."""

    def windows(self, *, first: float, last: float, every_s: int) -> ManyWindows:
        """All rooms' windows at full multiples of `every_s` in this part of the time, shares of it; a horizon of embargo follows the first part."""
        parts = []
        for name, builder in self.builders.items():
            series = builder.series
            start, end = (series.start + round(share * len(series)) * series.step_s for share in (first, last))
            embargo_s = self.plan.horizon * self.plan.step_s if first else 0
            origins = full_hours(series.between(series.start, end), self.plan, series.names[0], start=start + embargo_s)
            parts.append(Windows(builder, origins[origins % every_s == 0], name=f"{self.house.site}:{name}"))
        return ManyWindows(parts)


def fit_rooms(request: FitRequest, *, console: Console, stop_asked: Callable[[], bool] = lambda: False) -> dict[str, Any]:
    """Fit one model over all targets of `request.role` and leave it in the run folder; returns what `run.json` holds.

    Arguments and errors are those of `trainer.fit.fit`.
    """
    started = time.perf_counter()
    rooms, folder = read_rooms(request, console), RunFolder(request.out)
    folder.start(_started_facts(request, rooms), resume=request.resume)
    with _tracking(request, rooms) as tracked:
        held_out = rooms.windows(first=REHEARSED_SHARE, last=1.0, every_s=STEP_S)
        rehearsal = _trained(request, rooms, folder, tracked, console, stop_asked, held_out=held_out)
        calibration = calibrate_rooms(rehearsal.model, held_out)
        tables = {part.name: _predictions(rehearsal.model, part, calibration) for part in held_out.parts}
        # where nothing is gained on days not seen, the untrained network stays: it is the mixture
        final = rehearsal
        if not rehearsal.progress.interrupted and rehearsal.progress.best_epoch:
            final = _trained(request, rooms, folder, tracked, console, stop_asked)
        tracked.interrupted = final.progress.interrupted
        record = _record(request, rooms, rehearsal, final) | {
            "calibration": calibration.to_dict(),
            "scores": {REHEARSAL: score_table(_together(tables))},
            "rooms": {name.partition(":")[2]: score_table(table) for name, table in tables.items()},
            "mlflow_run_id": tracked.id,
            "wall_time_s": time.perf_counter() - started,
            "peak_memory_mb": peak_memory_mb(),
        }
        _write(folder, rooms, rehearsal, final, held_out, record, tracked)
    return record


def read_rooms(request: FitRequest, console: Console) -> Rooms:
    """The rooms of the house, by the hour.

    Raises:
        HearthcastError: the house or its tables cannot be used, or no target of the role can.
    """
    text = house_text(request.house)
    house = parse_house(text, source=str(request.house))
    role, targets = str(request.role), targets_of(house, str(request.role))
    table = read_table(house, list(request.data), options=ReadOptions(request.repair, request.accept, leave_out=True, share=request.share))
    print_findings(console, table.findings, table.notes)
    refused = {finding.sensor for finding in table.findings if finding.done == "refused"}
    plan = replace(plan_for("base", replace(house, step_s=STEP_S), targets[0], request.covariates, request.weather), target=role)
    builders = {}
    for name in targets:
        sensor = house.target(name).sensor
        if sensor not in refused:
            own = replace(house, targets=(replace(house.target(name), name=role),))
            series = table.series.select(plan.training_sensors(own)).resample(STEP_S)
            builders[name] = FeatureBuilder(plan, series, target=sensor, zone=house.zone, weather=training_weather(plan, series, seed=request.seed))
    if not builders:
        raise DataError(f"no {role} target of {house.site!r} can be used: look at the findings above")
    span = f"{iso_utc(table.series.start)} to {iso_utc(table.series.end)}"
    console.print(f"{house.site}: {span}; {len(builders)} x {role}: {', '.join(builders)}", soft_wrap=True)
    return Rooms(text, house, table, plan, builders)


def targets_of(house: HouseSpec, role: str) -> tuple[str, ...]:
    """Names of the house's targets of this role.

    Raises:
        ConfigError: there are none, or the role is no state's.
    """
    if ROLES[role].kind == "energy":
        raise ConfigError(f"--role {role}: of rooms' states one model is made, such as indoor_temperature; for energy give --all-targets")
    found = tuple(target.name for target in house.targets if house.sensor(target.sensor).role == role)
    if not found:
        raise ConfigError(f"house {house.site!r} has no {role} target: add one for each room to [[targets]]")
    return found


@dataclass(frozen=True, eq=False)
class _Trained:
    model: keras.Model
    progress: Progress
    n_windows: int


def _trained(
    request: FitRequest,
    rooms: Rooms,
    folder: RunFolder,
    tracked: TrackedRun | UntrackedRun,
    console: Console,
    stop_asked: Callable[[], bool],
    *,
    held_out: ManyWindows | None = None,
) -> _Trained:
    """A network trained on what lies before `held_out`, which chooses the epoch; on all of the time when None, for as long as the loss falls."""
    share = 1.0 if held_out is None else REHEARSED_SHARE
    windows = rooms.windows(first=0.0, last=share, every_s=max(request.hyper.stride_s, STEP_S))
    console.print(f"training on {share:.0%} of the time, {len(windows):,} windows{'' if held_out is None else f'; {len(held_out):,} are held out'}")
    keras.utils.set_random_seed(request.seed)
    with request.device.scope():
        network = build(rooms.plan, request.hyper)
    stopping = windows if held_out is None else held_out
    task = Task(network, windows, stopping, request.hyper, request.seed, keep_untrained=held_out is not None, device=request.device)
    checkpoint = folder.state if held_out is not None else folder.state.with_stem(f"{folder.state.stem}_all")
    with TrackedDisplay(console, epochs=request.hyper.epochs * request.hyper.members, windows=len(windows), tracked=tracked) as reporter:
        progress = train(task, checkpoint=checkpoint, display=reporter, stop_asked=stop_asked, resume=request.resume)
    return _Trained(network.model, progress, len(windows))


def calibrate_rooms(model: keras.Model, held_out: ManyWindows) -> Calibration:
    """One correction of the levels for all rooms: how wide the band is, and not its middle, which the weather of a few weeks would move."""
    outputs = [raw_outputs(model, part, batch_size=BATCH) for part in held_out.parts]
    quantiles, mean = (np.concatenate([output[i] for output in outputs]) for i in range(2))
    actual = np.concatenate([actual_values(part.builder, part.origins) for part in held_out.parts])
    # the rooms have their days in common, and neighbouring hours most of theirs
    n_days = len(np.unique(np.concatenate([part.origins for part in held_out.parts]) // DAY_S))
    found = fit_calibration(quantiles, mean, actual, held_out.parts[0].plan.quantile_levels, origins_per_day=len(mean) / n_days)
    return replace(found, read_levels=(found.read_levels + 1 - found.read_levels[:, ::-1]) / 2)


def _predictions(model: keras.Model, windows: Windows, calibration: Calibration) -> dict[str, Predictions]:
    own = model_predictions(model, windows, calibration, batch_size=BATCH)
    return {MODEL: own, **baseline_predictions(windows.builder, windows.origins, anchors=windows.anchors)}


def _together(tables: Mapping[str, Mapping[str, Predictions]]) -> dict[str, Predictions]:
    """All rooms' predictions in shares of the room's mean absolute error by the mixture: each room counts the same."""
    relative: dict[str, list[Predictions]] = {}
    for table in tables.values():
        size = float(np.nanmean(np.abs(table[MIXTURE].median - table[MIXTURE].actual)))
        for label, p in table.items():
            scaled = {name: getattr(p, name) / size for name in ("quantiles", "mean", "actual")}
            relative.setdefault(label, []).append(replace(p, **scaled))
    return {label: concatenated(parts) for label, parts in relative.items()}


def _started_facts(request: FitRequest, rooms: Rooms) -> dict[str, Any]:
    """All that decides the run's result."""
    return {
        "preset": request.preset,
        "seed": request.seed,
        "plan": rooms.plan.to_dict(),
        "targets": list(rooms.builders),
        "hyper_parameters": request.hyper.to_dict(),
        "data_fingerprint": rooms.table.fingerprint,
        "backend": keras.backend.backend(),
    }


def _tracking(request: FitRequest, rooms: Rooms) -> AbstractContextManager[TrackedRun | UntrackedRun]:
    if request.tracking_uri == OFF:
        return nullcontext(UntrackedRun())
    facts = _started_facts(request, rooms)
    start = RunStart(
        folder=request.out,
        experiment=request.experiment or rooms.house.site,
        name=request.out.name,
        parameters={**facts.pop("hyper_parameters"), **facts},
        tags={"data_fingerprint": rooms.table.fingerprint, "site": rooms.house.site, "preset": request.preset},
        tracking_uri=request.tracking_uri,
        resume=request.resume,
    )
    return track(start, nested=False)


def _record(request: FitRequest, rooms: Rooms, rehearsal: _Trained, final: _Trained) -> dict[str, Any]:
    """What run.json says of how the model came about."""
    series = rooms.table.series
    return {
        "status": "interrupted" if final.progress.interrupted else "finished",
        "name": f"rooms-{request.role}",
        "preset": request.preset,
        "plan": rooms.plan.to_dict(),
        "outputs": list(final.model.output_names),
        "training": {
            "houses": [f"{rooms.house.site}:{name}" for name in rooms.builders],
            "start": iso_utc(series.start),
            "end": iso_utc(series.end),
            "looked_at_until": {f"{rooms.house.site}:{name}": series.end for name in rooms.builders},
            "data_fingerprint": rooms.table.fingerprint,
            "windows": final.n_windows,
            "epochs": final.progress.history[-1].epoch,
            "best_epoch": final.progress.best_epoch,
            "rehearsal_epoch": rehearsal.progress.best_epoch,
            "rehearsed_share": REHEARSED_SHARE,
        },
        "scores_of": "the same network, trained on the first part of the time alone, on the rest, which chose its epoch and its band",
        "scores_unit": "shares of each room's mean absolute error by the mixture of naive forecasts",
        "hyper_parameters": request.hyper.to_dict(),
        "seed": request.seed,
        "repairs": rooms.table.repairs,
        "quality": record_of(rooms.table.findings),
        "backend": keras.backend.backend(),
        **made_with(),
    }


def _write(
    folder: RunFolder,
    rooms: Rooms,
    rehearsal: _Trained,
    final: _Trained,
    held_out: ManyWindows,
    record: dict[str, Any],
    tracked: TrackedRun | UntrackedRun,
) -> None:
    progress = rehearsal.progress
    folder.write_house(rooms.house_text)
    folder.write_history(progress.history)
    folder.write_samples_of_homes(held_out.parts[:4])
    folder.write_model(final.model)
    folder.write_record(record)
    tracked.log_scores({span: {name: table[name] for name in (MODEL, MIXTURE)} for span, table in record["scores"].items()})
    publish(loss_picture(progress.history, progress.best_epoch, loss="CRPS, relative"), folder, tracked)


def verdict_of_rooms(record: Mapping[str, Any]) -> list[RenderableType]:
    """Each room beside what it would be forecast by without a model, on the days held out."""
    grid = Grid(title="Held out: mean absolute error", box=box.SIMPLE_HEAD, padding=0)
    for heading in ("room", "model", "mixture", "best naive", "over it", "p10-p90"):
        grid.add_column(heading, justify="left" if heading == "room" else "right")
    gains = []
    for name, table in record["rooms"].items():
        own, best = table[MODEL]["mae"], min(table[label]["mae"] for label in NAIVE)
        gains.append(1 - own / best)
        errors = (f"{value:.3f}" for value in (own, table[MIXTURE]["mae"], best))
        grid.add_row(name, *errors, f"{gains[-1]:+.1%}", f"{table[MODEL]['coverage']:.0%}")
    kept = "" if record["training"]["rehearsal_epoch"] else "; no epoch was better than the mixture, so the model is the mixture"
    return [grid, f"mean over the rooms: {np.mean(gains):+.1%} over the best naive forecast of each{kept}"]
