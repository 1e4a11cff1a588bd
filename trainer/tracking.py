"""MLflow: what a run was, epoch by epoch, and what came of it. Only this module and `pyfunc.py` know MLflow.

MLflow takes seconds to import, so it is loaded when a run starts.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import socket
import sqlite3
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from edge_agent.contract.errors import ConfigError, TrainingError
from trainer.machine import git_commit, library_versions, machine

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STORE: Final = "mlflow.db"
ARTEFACTS: Final = "mlflow-artefacts"
TRACE: Final = "mlflow.json"
"""File in the run folder that says which MLflow run it is, for resuming."""
CONNECT_TIMEOUT_S: Final = 5
FIRST_REQUEST: Final = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
"""A server that does not answer is found at once; later, in the middle of training, MLflow's own patience (minutes) is right."""
PORTS: Final = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
MODEL_NAME: Final = "forecaster"
FORECASTER: Final = "forecaster"
"""Tag of a run: URI of its forecaster."""


@dataclass(frozen=True)
class RunStart:
    """What is known of a run before it starts."""

    folder: Path
    """The run folder."""
    experiment: str
    """Runs of one experiment stand side by side in MLflow."""
    name: str
    parameters: Mapping[str, Any]
    """Nested mappings are flattened: `{"split": {"train": 5}}` becomes `split.train`."""
    tags: Mapping[str, str]
    """Beside those that `environment_tags` adds."""
    tracking_uri: str | None = None
    """None: what the variable MLFLOW_TRACKING_URI says, else a SQLite file beside the run folder."""
    resume: bool = False
    """Append to the MLflow run that the folder belongs to, if there is one."""


class TrackedRun:
    """One MLflow run while it is open."""

    def __init__(self, mlflow: Any, uri: str, run_id: str) -> None:
        # the client, not the fluent functions: those log into the innermost open run
        self._client, self.uri, self.id = mlflow.MlflowClient(), uri, run_id
        self.interrupted = False
        """Set when training was stopped by hand: the run then ends as KILLED instead of FINISHED."""

    def log_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Metrics of one epoch; what is not finite is left out."""
        with told(self.uri):
            self._log_metrics(metrics, epoch)

    def log_scores(self, scores: Mapping[str, Any]) -> None:
        """Scores at the end, nested mappings flattened by `/`: `test/model/crps`."""
        with told(self.uri):
            self._log_metrics(flat(scores, "/"), 0)

    def log_tags(self, tags: Mapping[str, str]) -> None:
        """More tags."""
        with told(self.uri):
            for name, value in tags.items():
                self._client.set_tag(self.id, name, value)

    def log_picture(self, name: str, figure: Figure) -> None:
        """A picture, as `pictures/NAME.png`."""
        with told(self.uri):
            self._client.log_figure(self.id, figure, f"pictures/{name}.png")

    def log_folder(self, folder: Path) -> None:
        """The files of the run folder, as artefacts `run/…`; checkpoints, which only a resumed training needs, are left out."""
        with told(self.uri):
            for path in sorted(folder.iterdir()):
                if path.is_file() and path.name != TRACE:
                    self._client.log_artifact(self.id, str(path), "run")

    def _log_metrics(self, metrics: Mapping[str, Any], step: int) -> None:
        from mlflow.entities import Metric

        now_ms = int(time.time() * 1000)
        finite = {n: float(v) for n, v in metrics.items() if isinstance(v, (int, float)) and math.isfinite(v)}
        self._client.log_batch(self.id, metrics=[Metric(name, value, now_ms, step) for name, value in finite.items()])

    def log_forecaster(self, folder: Path) -> str:
        """The run folder as a pyfunc model that takes raw sensor rows (see `pyfunc.py`); returns its MLflow URI."""
        with told(self.uri):
            from trainer.pyfunc import log_forecaster

            uri = str(log_forecaster(folder, name=MODEL_NAME))
            self._client.set_tag(self.id, FORECASTER, uri)
            return uri


@contextlib.contextmanager
def track(start: RunStart, *, nested: bool = False) -> Iterator[TrackedRun]:
    """An open MLflow run that ends FINISHED, FAILED (an error) or KILLED (Ctrl-C).

    Args:
        start: what is known of it.
        nested: make it a child of the run that is open.

    Raises:
        TrainingError: the store cannot be reached or used. Nothing has been trained then.
    """
    uri = tracking_uri(start)
    _check_reachable(uri)
    mlflow = _mlflow()
    with told(uri), _environment(FIRST_REQUEST):
        mlflow.set_tracking_uri(uri)
        run_id = _open(mlflow, uri, start, nested=nested)
    run = TrackedRun(mlflow, uri, run_id)
    status = "FAILED"
    try:
        yield run
        status = "KILLED" if run.interrupted else "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        _end(mlflow, uri, status)


def _mlflow() -> Any:
    """The library, without its usage statistics (nothing leaves the house) and its chatter."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return mlflow


def mlflow_at(uri: str) -> Any:
    """The library, set to this store.

    Raises:
        TrainingError: the store cannot be reached or used.
    """
    _check_reachable(uri)
    mlflow = _mlflow()
    mlflow.set_tracking_uri(uri)
    return mlflow


def tracking_uri(start: RunStart) -> str:
    """Where the run is tracked."""
    return store_address(start.tracking_uri, beside=start.folder)


def store_address(wanted: str | None, *, beside: Path) -> str:
    """The store that is wanted, else the environment's, else a SQLite file beside the folder."""
    return wanted or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(beside.resolve().parent / STORE).as_posix()}"


def _check_reachable(uri: str) -> None:
    """Find out in seconds what MLflow would try again and again for minutes."""
    parts = urlsplit(uri)
    if parts.scheme == "sqlite":
        _check_sqlite(uri)
    elif parts.hostname:
        try:
            port = parts.port or PORTS.get(parts.scheme.partition("+")[0], 0)
            socket.create_connection((parts.hostname, port), CONNECT_TIMEOUT_S).close()
        except (OSError, ValueError) as err:
            raise _cannot(uri, err) from err


def _check_sqlite(uri: str) -> None:
    path = sqlite_path(uri)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.closing(sqlite3.connect(path, timeout=CONNECT_TIMEOUT_S)) as store:
            store.execute("BEGIN IMMEDIATE")  # fails where the file is no database, or may not be written
            store.rollback()
    except (OSError, sqlite3.Error) as err:
        raise _cannot(uri, err) from err


def sqlite_path(uri: str) -> Path:
    """The file of a SQLite URI: `sqlite:////absolute/path` or `sqlite:///relative/path`."""
    return Path(uri.removeprefix("sqlite:///").partition("?")[0])


def _open(mlflow: Any, uri: str, start: RunStart, *, nested: bool) -> str:
    """Start or reopen the run, and log what is known of it; returns its id."""
    before = _trace(start.folder) if start.resume else {}
    known = before.get("run_id") if before.get("tracking_uri") == uri else None
    arguments = {"run_id": known} if known else {"experiment_id": experiment_id(mlflow, uri, start.experiment), "run_name": start.name}
    run = mlflow.start_run(**arguments, nested=nested)
    parameters = {name: _text(value) for name, value in flat(start.parameters, ".").items()}
    mlflow.log_params({name: value for name, value in parameters.items() if name not in run.data.params})
    changed = {f"resumed.{name}": value for name, value in parameters.items() if run.data.params.get(name, value) != value}
    mlflow.set_tags({**environment_tags(), **start.tags, **changed})
    start.folder.mkdir(parents=True, exist_ok=True)
    (start.folder / TRACE).write_text(json.dumps({"tracking_uri": uri, "run_id": run.info.run_id}) + "\n", encoding="utf-8")
    return str(run.info.run_id)


def experiment_id(mlflow: Any, uri: str, name: str) -> str:
    """Id of the experiment, made when there is none; beside a SQLite file its artefacts lie in a folder of their own."""
    found = mlflow.get_experiment_by_name(name)
    if found is not None and found.lifecycle_stage != "active":
        raise ConfigError(f"MLflow experiment {name!r} at {uri} was deleted: restore it there, or name another")
    if found is not None:
        return str(found.experiment_id)
    place = (sqlite_path(uri).resolve().parent / ARTEFACTS).as_uri() if uri.startswith("sqlite:") else None
    return str(mlflow.create_experiment(name, artifact_location=place))


def _trace(folder: Path) -> dict[str, Any]:
    """Which MLflow run the folder belongs to; empty when unknown."""
    try:
        return dict(json.loads((folder / TRACE).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def environment_tags() -> dict[str, str]:
    """What the run is made with and on."""
    tags = {f"version.{package}": version for package, version in library_versions().items()}
    tags |= {f"machine.{fact}": str(value) for fact, value in machine().items()}
    return {**tags, "git_commit": git_commit() or "unknown"}


def flat(data: Mapping[str, Any], separator: str) -> dict[str, Any]:
    """Nested mappings as one, keys joined by `separator`."""
    out: dict[str, Any] = {}
    for name, value in data.items():
        inner = flat(value, separator) if isinstance(value, Mapping) else {"": value}
        out.update({separator.join(filter(None, (name, rest))): leaf for rest, leaf in inner.items()})
    return out


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _end(mlflow: Any, uri: str, status: str) -> None:
    """End the open run; an error that is on its way is worth more than one about tracking."""
    if status == "FINISHED":
        with told(uri):
            mlflow.end_run(status)
    else:
        with contextlib.suppress(Exception):
            mlflow.end_run(status)


@contextlib.contextmanager
def told(uri: str) -> Iterator[None]:
    """MLflow's and its libraries' failures as one of ours, and without their warnings about themselves, which no user can act on."""
    from mlflow.exceptions import MlflowException

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (MlflowException, OSError) as err:
        raise _cannot(uri, err) from err


def _cannot(uri: str, err: Exception) -> TrainingError:
    safe = urlsplit(uri)
    shown = uri if safe.password is None else uri.replace(safe.password, "…")
    reason = (str(err).strip().splitlines() or [type(err).__name__])[0]
    return TrainingError(f"MLflow store {shown} cannot be used ({reason}): start the server, or leave out --tracking-uri for a file beside the run")


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Environment variables set for a while, where they are not set yet."""
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]
