"""A search for hyper-parameters: many trainings on windows made once, the best of them finished as a run of its own.

A trial is what `fit` would train with its values; only the epochs of those worth going on with are all trained. The folder of the search is the run
folder of the best trial, and beside it `study/` holds the database and each trial's checkpoint.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import keras
from rich.console import Console
from rich.markup import escape
from rich.progress import TextColumn

from edge_agent.contract.errors import ConfigError, TrainingError
from trainer import fit, fit_homes, search_pictures
from trainer.fit import FitRequest, TrackedDisplay
from trainer.gallery import save_pictures
from trainer.homes import HomesRequest
from trainer.loop import Epoch
from trainer.presets import HyperParameters
from trainer.run_folder import CHECKPOINT, RECORD, STARTED, RunFolder, write_json
from trainer.search_space import Space
from trainer.study import Running, Study, Trial, TrialPrunedError, TrialStoppedError
from trainer.tracking import TRACE, RunStart, TrackedRun, store_address, track
from trainer.untracked import OFF, UntrackedRun

STUDY: Final = "study"
DATABASE: Final = "study.db"
TRIALS: Final = "trials.json"


@dataclass(frozen=True)
class TuneRequest:
    """What to search, and around what."""

    fit: FitRequest
    """As for one fit: its hyper-parameters hold where the space says nothing, its folder is the search's."""
    n_trials: int
    """Finished trials wanted, those of earlier calls included."""
    space: Space
    storage: str | None = None
    """Address of the study's database; None: a SQLite file in the folder."""
    homes: HomesRequest | None = None
    """Set for one model over many homes."""

    @property
    def folder(self) -> Path:
        """Where the study is kept."""
        return self.fit.out / STUDY


@dataclass(frozen=True, eq=False)
class Tuned:
    """What a search came to."""

    record: dict[str, Any]
    """What `run.json` holds of the best trial's run."""
    best: Trial
    trials: list[Trial]
    material: Any
    """What was read: `fit.Material` or `fit_homes.HomesMaterial`."""
    site: str
    """`homes` for a model over many."""
    tracking_uri: str
    """MLflow's store, or `off`."""


def tune(request: TuneRequest, *, console: Console, stop_asked: Callable[[], bool] = lambda: False) -> Tuned:
    """Search until enough trials are finished, then finish the best one's run.

    Raises:
        HearthcastError: configuration, data, database, training or tracking failed, or the search was stopped by hand; finished trials stay finished.
    """
    _require_free(request)
    request = replace(request, fit=replace(request.fit, tracking_uri=_tracking_uri(request)))
    search = Search(request, console, stop_asked)
    study = search.open()
    with search.tracking() as tracked:
        tracked.interrupted = study.search(request.n_trials, search.train, partial(search.say, study, tracked))
        best = study.best
        if best is not None and not tracked.interrupted:
            _show(study, request, tracked)
    if best is None or tracked.interrupted:
        raise TrainingError(_unfinished(study, request))
    record = search.finish(best)
    if record["status"] == "interrupted":
        raise TrainingError(_unfinished(study, request))
    return Tuned(record, best, study.trials, search.material, search.site, str(request.fit.tracking_uri))


class Search:
    """What the trials of a search share."""

    def __init__(self, request: TuneRequest, console: Console, stop_asked: Callable[[], bool]) -> None:
        """Read the data, once."""
        self.request, self.console, self.stop_asked = request, console, stop_asked
        # both modules have the same functions for what they read
        self.kind: Any = fit if request.homes is None else fit_homes
        self.material = self.kind.read_material(request.fit, *([] if request.homes is None else [request.homes]), console)
        self.site = "homes" if request.homes else self.material.house.site
        self.target = self.material.plan.target

    def open(self) -> Study:
        """The study; the preset's own values come first, so that a search can only do better."""
        request = self.request
        request.folder.mkdir(parents=True, exist_ok=True)
        url = request.storage or f"sqlite:///{(request.folder / DATABASE).resolve().as_posix()}"
        name = f"{self.site} {self.target} {request.fit.preset}"
        study = Study(url, name=name, facts=self._facts(), space=request.space, epochs=request.fit.hyper.epochs, seed=request.fit.seed)
        own = {name: getattr(request.fit.hyper, name) for name in request.space}
        if all(own[name] in part for name, part in request.space.items()):
            study.enqueue(own)
        if study.n_finished:
            self.console.print(f"{study.n_finished} of {request.n_trials} trials are finished already", soft_wrap=True)
        return study

    def _facts(self) -> dict[str, Any]:
        facts = self.kind.started_facts(self.request.fit, self.material)
        fixed = {name: value for name, value in facts.pop("hyper_parameters").items() if name not in self.request.space}
        return {**facts, "fixed": fixed, "space": {name: str(part) for name, part in self.request.space.items()}}

    def tracking(self) -> AbstractContextManager[TrackedRun | UntrackedRun]:
        """The search's MLflow run, whose children are the trials; the same one when the search goes on."""
        request = self.request
        if request.fit.tracking_uri == OFF:
            return nullcontext(UntrackedRun())
        facts = {**self._facts(), "target": self.target, "n_trials": request.n_trials}
        start = RunStart(
            folder=request.folder,
            experiment=request.fit.experiment or self.site,
            name=request.fit.out.name,
            parameters={**facts.pop("fixed"), **facts},
            tags={"data_fingerprint": facts["data_fingerprint"], "site": self.site, "preset": request.fit.preset},
            tracking_uri=request.fit.tracking_uri,
            resume=True,
        )
        return track(start)

    def say(self, study: Study, tracked: TrackedRun | UntrackedRun, trial: Trial) -> None:
        """A line for a trial that has ended."""
        best = study.best
        if best is not None:
            tracked.log_epoch(trial.number, {"validation_loss": trial.loss, "best_validation_loss": best.loss})
        failed = escape(f"failed: {trial.reason}") if trial.reason else "stopped"
        came_to = {"complete": f"{trial.loss:.4f}", "pruned": f"{trial.loss:.4f} (pruned)"}.get(trial.state, failed)
        values = ", ".join(f"{name} {_short(value)}" for name, value in trial.values.items())
        mark = "  [bold]best[/]" if best is not None and best.number == trial.number else ""
        done = f"{study.n_finished}/{self.request.n_trials}"
        self.console.print(f"{done}  trial {trial.number}  {came_to}{mark}  {trial.epochs} epochs, {trial.seconds:.0f} s  {values}", soft_wrap=True)

    def train(self, running: Running) -> float:
        """Train one trial; returns the best validation loss of its trained epochs."""
        keras.backend.clear_session()  # else each trial's graph stays in memory
        request = self._request(running.folder, running.values)
        folder = RunFolder(request.out)
        folder.start(self.kind.started_facts(request, self.material), resume=request.resume)
        pruned = None
        with self.kind.tracking(request, self.material, nested=True) as tracked:
            display = partial(TrialDisplay, running=running)
            try:
                progress = self.kind.train_model(request, self.material, folder, tracked, self.console, self.stop_asked, display=display).progress
            except TrialPrunedError as err:
                pruned = err
            except TrainingError as err:
                if self.stop_asked():  # before there was anything to keep
                    raise TrialStoppedError(running.number) from err
                raise
            else:
                tracked.interrupted = progress.interrupted
            tracked.log_tags({"trial": str(running.number), "pruned": str(pruned is not None).lower()})
        if pruned is not None:
            raise pruned
        if progress.interrupted:
            raise TrialStoppedError(running.number)
        return min(row.validation_loss for row in progress.history if row.epoch)

    def _request(self, folder: str, values: Mapping[str, Any]) -> FitRequest:
        """What `fit` would be asked for with these values, of one network; it goes on where the folder holds a checkpoint."""
        out = self.request.folder / folder
        hyper = replace(self.request.fit.hyper, **values, members=1)
        return replace(self.request.fit, out=out, hyper=hyper, resume=RunFolder(out).is_started)

    def finish(self, best: Trial) -> dict[str, Any]:
        """The best trial's run, calibrated, scored and written into the search's folder; nothing is done twice."""
        out, wanted = self.request.fit.out, replace(self.request.fit.hyper, **best.values)
        record = _finished_record(out)
        if record is not None and record["hyper_parameters"] == wanted.to_dict():
            return record
        trial = self._request(best.folder, best.values)
        request = replace(trial, out=out, hyper=wanted, resume=True)
        if wanted.members == 1 and trial.resume:
            _clear(out)
            _seat(trial.out, out)
        elif not _is_started_with(out, wanted):  # more networks than the trial's, or a trial of another machine
            _clear(out)
            request = replace(request, resume=False)
        finish: Any = fit.fit if self.request.homes is None else partial(fit_homes.fit_homes, homes=self.request.homes)
        keras.backend.clear_session()
        return dict(finish(request, console=self.console, stop_asked=self.stop_asked, material=self.material))


class TrialDisplay(TrackedDisplay):
    """The bar of a trial's epochs; a trial has one line, when it has ended. Asks after each epoch whether it is worth going on."""

    def __init__(self, console: Console, *, running: Running, **arguments: Any) -> None:
        super().__init__(console, **arguments)
        self.bar.columns = (TextColumn(f"trial {running.number}"), *self.bar.columns)
        self.console, self.running = Console(quiet=True), running

    def epoch(self, row: Epoch, best: int) -> None:
        """An epoch is complete; raises TrialPrunedError when it should be the last."""
        super().epoch(row, best)
        if row.epoch:  # untrained, all trials are the climatology
            self.running.report(row.epoch, row.validation_loss)


def _require_free(request: TuneRequest) -> None:
    if (request.fit.out / RECORD).exists() and not request.folder.exists():
        raise ConfigError(f"{request.fit.out} holds the run of a fit: choose another folder for the search with --out")


def _tracking_uri(request: TuneRequest) -> str:
    """One store for the search and its trials, whose folders lie deeper: beside the search's own."""
    return store_address(request.fit.tracking_uri, beside=request.fit.out)


def _finished_record(out: Path) -> dict[str, Any] | None:
    try:
        record = dict(json.loads((out / RECORD).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None
    return record if record["status"] == "finished" else None


def _is_started_with(out: Path, hyper: HyperParameters) -> bool:
    try:
        started = json.loads((out / CHECKPOINT / STARTED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(started["hyper_parameters"] == hyper.to_dict())


def _clear(out: Path) -> None:
    """Make the folder one that no run was started in."""
    (out / RECORD).unlink(missing_ok=True)
    shutil.rmtree(out / CHECKPOINT, ignore_errors=True)
    (out / TRACE).unlink(missing_ok=True)


def _seat(trial: Path, out: Path) -> None:
    """Make `out` the best trial's run, trained and not yet finished: its checkpoint, and the name of its MLflow run."""
    shutil.copytree(trial / CHECKPOINT, out / CHECKPOINT)
    if (trial / TRACE).exists():
        shutil.copy(trial / TRACE, out / TRACE)


def _show(study: Study, request: TuneRequest, tracked: TrackedRun | UntrackedRun) -> None:
    """Pictures of the search into its folder and to MLflow, and every trial into a file."""
    write_json(request.folder / TRIALS, {"trials": [asdict(trial) for trial in study.trials], "importances": study.importances()})
    figures = {"search": search_pictures.parallel_coordinates(study.trials, request.space)}
    if importances := study.importances():
        n_complete = sum(trial.state == "complete" for trial in study.trials)
        figures["importances"] = search_pictures.importance_bars(importances, n_trials=n_complete)
    save_pictures(figures, request.fit.out)
    for name, figure in figures.items():
        tracked.log_picture(name, figure)


def _unfinished(study: Study, request: TuneRequest) -> str:
    done = study.n_finished
    now = f"; --trials {done} finishes with the best so far" if study.best is not None else ""
    return f"interrupted: {done} of {request.n_trials} trials are finished and kept; the same command goes on{now}"


def _short(value: Any) -> str:
    return f"{value:.2g}" if isinstance(value, float) else str(value)
