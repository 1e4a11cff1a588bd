"""The trials of a search, kept in a database, so that it can be broken off at any moment and gone on with. Only this module knows Optuna."""

from __future__ import annotations

import json
import logging
import socket
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import optuna
import psutil
from optuna.trial import FrozenTrial, TrialState

from edge_agent.contract.errors import ConfigError, TrainingError
from trainer.run_folder import differences
from trainer.search_space import Space, draw

STARTUP_TRIALS: Final = 5
"""Trials that are never pruned: a median of fewer says nothing."""
WARMUP_SHARE: Final = 0.25
"""Share of the epochs in which nothing is pruned: a high learning rate starts badly and may end well."""
HEARTBEAT_S: Final = 60
"""A trial of another machine, where the storage is shared, counts as dead three of these after its last sign of life."""
MAX_RETRIES: Final = 3
MAX_FAILURES: Final = 5
"""Failures in a row that end a search: then it is not the hyper-parameters."""
FACTS, FOLDER, PROCESS, REASON = "facts", "folder", "process", "reason"
FINISHED: Final = (TrialState.COMPLETE, TrialState.PRUNED)

logger = logging.getLogger(__name__)


class TrialStoppedError(Exception):
    """The trial was stopped by hand; it goes on when the search does."""

    def __init__(self, number: int) -> None:
        super().__init__(f"trial {number} was stopped by hand")
        self.number = number


class TrialPrunedError(Exception):
    """The trial is not worth going on with."""


@dataclass(frozen=True)
class Trial:
    """One set of hyper-parameters, and what came of it."""

    number: int
    state: str
    """`complete`, `pruned`, `fail` or `running`."""
    values: Mapping[str, Any]
    """The hyper-parameters searched."""
    loss: float
    """Best validation loss of the epochs that were trained; infinite when there was none."""
    epochs: int
    """Epochs trained."""
    folder: str
    """Name of the folder of its checkpoint."""
    seconds: float
    reason: str = ""
    """Why it failed."""


class Running:
    """A trial while it runs."""

    def __init__(self, trial: optuna.Trial, space: Space) -> None:
        self._trial = trial
        self.number = trial.number
        self.values = draw(space, trial)
        # a trial that goes on with one that was broken off has its attributes, and so its folder
        self.folder = str(trial.user_attrs.get(FOLDER, f"trial-{trial.number:04d}"))
        trial.set_user_attr(FOLDER, self.folder)
        trial.set_user_attr(PROCESS, _this_process())

    def report(self, epoch: int, loss: float) -> None:
        """The validation loss after an epoch.

        Raises:
            TrialPrunedError: others were better at this epoch.
        """
        self._trial.report(loss, epoch)
        if self._trial.should_prune():
            raise TrialPrunedError


Objective = Callable[[Running], float]
"""Trains one trial and returns its best validation loss; lets TrialPrunedError through and raises TrialStoppedError when stopped by hand."""


class Study:
    """The search in its database."""

    def __init__(self, url: str, *, name: str, facts: Mapping[str, Any], space: Space, epochs: int, seed: int) -> None:
        """Open the study, or make it; trials of processes that are no more are marked as failed and queued again.

        Args:
            url: SQLAlchemy's, such as `sqlite:///study.db`.
            name: of the study.
            facts: all that two trials must share to be compared, JSON values.
            space: what is searched.
            epochs: most epochs of a trial.
            seed: of the search.

        Raises:
            ConfigError: the study there is of other facts; the message says which.
            TrainingError: the database cannot be used.
        """
        self.name, self.url, self.space = name, url, space
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._retry = optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=MAX_RETRIES, inherit_intermediate_values=True)
        self._study = self._open(seed, _pruner(epochs))
        self._require_same(facts)
        self._fail_dead()

    def enqueue(self, values: Mapping[str, Any]) -> None:
        """Try these values next, once."""
        self._study.enqueue_trial(dict(values), skip_if_exists=True)

    def search(self, n_trials: int, objective: Objective, told: Callable[[Trial], None]) -> bool:
        """Run trials until `n_trials` are finished (complete or pruned), those of earlier calls included; returns whether it was stopped by hand.

        Args:
            n_trials: how many.
            objective: trains one.
            told: called with each that has ended.

        Raises:
            TrainingError: MAX_FAILURES trials in a row failed.
        """
        while self.n_finished < n_trials:
            try:
                tell = [lambda _study, frozen: told(_trial(frozen))]
                self._study.optimize(partial(self._objective, objective), n_trials=1, catch=(TrainingError,), callbacks=tell)
            except TrialStoppedError as err:
                self._retry(self._study, self._study.trials[err.number])
                return True
            self._require_some_success()
        return False

    def _objective(self, objective: Objective, trial: optuna.Trial) -> float:
        try:
            return objective(Running(trial, self.space))
        except TrialPrunedError as err:
            raise optuna.TrialPruned from err
        except TrainingError as err:
            trial.set_user_attr(REASON, str(err))
            raise

    @property
    def n_finished(self) -> int:
        """Trials complete or pruned."""
        return len(self._study.get_trials(deepcopy=False, states=FINISHED))

    @property
    def trials(self) -> list[Trial]:
        """All trials but those that wait."""
        return [_trial(frozen) for frozen in self._study.get_trials(deepcopy=False) if frozen.state != TrialState.WAITING]

    @property
    def best(self) -> Trial | None:
        """The complete trial with the lowest loss."""
        complete = [trial for trial in self.trials if trial.state == "complete"]
        return min(complete, key=lambda trial: (trial.loss, trial.number), default=None)

    def importances(self) -> dict[str, float]:
        """How much of the losses' differences each hyper-parameter explains, adding up to 1, most first (PED-ANOVA, Watanabe et al. 2023).

        Empty where fewer than two complete trials differ.
        """
        losses = {trial.loss for trial in self.trials if trial.state == "complete"}
        if len(losses) < 2:
            return {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return dict(optuna.importance.get_param_importances(self._study))

    def _open(self, seed: int, pruner: optuna.pruners.BasePruner) -> optuna.Study:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                storage = optuna.storages.RDBStorage(
                    self.url, heartbeat_interval=HEARTBEAT_S, grace_period=3 * HEARTBEAT_S, heartbeat_stale_trial_callback=self._retry
                )
            study = optuna.create_study(storage=storage, study_name=self.name, load_if_exists=True, pruner=pruner)
            # the sampler starts anew with each process: with the same seed it would draw the same values again
            study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))
            return study
        except Exception as err:  # SQLAlchemy and each database's driver have errors of their own
            reason = (str(err).strip().splitlines() or [type(err).__name__])[0]
            raise TrainingError(
                f"the study's database {_without_password(self.url)} cannot be used ({reason}): --storage takes an address such as sqlite:///study.db"
            ) from err

    def _require_same(self, facts: Mapping[str, Any]) -> None:
        now, before = json.loads(json.dumps(facts)), self._study.user_attrs.get(FACTS)
        if before is None:
            self._study.set_user_attr(FACTS, now)
            return
        said = differences(before, now)
        if said:
            raise ConfigError(f"the study {self.name!r} there was started differently: {said}. Use the same flags and data, or another --out")

    def _fail_dead(self) -> None:
        """Trials whose process, on this machine, is no more."""
        for frozen in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if _is_dead(frozen.user_attrs.get(PROCESS)):
                self._study.tell(frozen.number, state=TrialState.FAIL)
                self._retry(self._study, frozen)
                logger.info("trial %d was broken off: marked as failed, and queued again", frozen.number)

    def _require_some_success(self) -> None:
        last = [trial.state for trial in self.trials[-MAX_FAILURES:]]
        if last == ["fail"] * MAX_FAILURES:
            raise TrainingError(f"the last {MAX_FAILURES} trials failed, so it is not the hyper-parameters: see what `fit` says to the same flags")


def _pruner(epochs: int) -> optuna.pruners.BasePruner:
    """Ends a trial whose best epoch is worse than the median of the others' at the same epoch.

    Not Hyperband: that shares the trials out among brackets and wants each filled; a search here has ten to fifty trials of four to thirty epochs.
    """
    return optuna.pruners.MedianPruner(n_startup_trials=STARTUP_TRIALS, n_warmup_steps=max(1, round(WARMUP_SHARE * epochs)))


def _trial(frozen: FrozenTrial) -> Trial:
    losses = list(frozen.intermediate_values.values())
    loss = frozen.value if frozen.state == TrialState.COMPLETE and frozen.value is not None else min(losses, default=float("inf"))
    epochs = max(frozen.intermediate_values, default=0)
    seconds = frozen.duration.total_seconds() if frozen.duration else 0.0
    folder, reason = (str(frozen.user_attrs.get(name, "")) for name in (FOLDER, REASON))
    return Trial(frozen.number, frozen.state.name.lower(), dict(frozen.params), loss, epochs, folder, seconds, reason)


def _this_process() -> dict[str, Any]:
    process = psutil.Process()
    return {"host": socket.gethostname(), "pid": process.pid, "started": process.create_time()}


def _is_dead(process: Mapping[str, Any] | None) -> bool:
    """Whether a process of this machine is no more; another machine's is judged by its heartbeat."""
    if process is None or process["host"] != socket.gethostname():
        return False
    try:
        return bool(psutil.Process(process["pid"]).create_time() != process["started"])
    except psutil.NoSuchProcess:
        return True


def _without_password(url: str) -> str:
    head, at, tail = url.rpartition("@")
    return f"{head.rpartition(':')[0]}:…@{tail}" if at else url
