"""MLflow's model registry: versions of one model, of which one is the champion and the newest a challenger."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge_agent.contract.errors import ConfigError, TrainingError
from trainer.tracking import FORECASTER, TRACE, experiment_id, mlflow_at, store_address, told
from trainer.untracked import OFF

CHAMPION: Final = "champion"
CHALLENGER: Final = "challenger"


@dataclass(frozen=True)
class Version:
    """One version of the model."""

    number: str
    run_id: str
    """MLflow run that it comes from."""


class Registry:
    """The versions of the model called `name` in the store at `uri`."""

    def __init__(self, uri: str, name: str) -> None:
        self.uri, self.name = uri, name
        self._mlflow = mlflow_at(uri)
        self._client = self._mlflow.MlflowClient()

    def challenge(self, run_id: str) -> Version:
        """The run's forecaster as the challenger; registered once, however often this is called.

        Raises:
            TrainingError: the run has logged no forecaster, or the store cannot be used.
        """
        with told(self.uri):
            known = self._client.search_model_versions(f"name='{self.name}' and run_id='{run_id}'")
            found = known[0] if known else self._register(_forecaster_of(self.uri, run_id))
            self._client.set_registered_model_alias(self.name, CHALLENGER, found.version)
        return Version(str(found.version), run_id)

    def _register(self, uri: str) -> Any:
        with contextlib.redirect_stderr(io.StringIO()):  # MLflow says there what we say ourselves
            return self._mlflow.register_model(uri, self.name, await_registration_for=0)

    def champion(self) -> Version | None:
        """The champion, if there is one."""
        with told(self.uri):
            if not self._client.search_registered_models(f"name='{self.name}'"):
                return None
            if CHAMPION not in self._client.get_registered_model(self.name).aliases:
                return None
            found = self._client.get_model_version_by_alias(self.name, CHAMPION)
        return Version(str(found.version), str(found.run_id))

    def crown(self, version: Version) -> None:
        """Make it the champion."""
        with told(self.uri):
            self._client.set_registered_model_alias(self.name, CHAMPION, version.number)

    def note(self, version: Version, facts: Mapping[str, Any]) -> None:
        """Tags of the version, for whoever reads its page."""
        with told(self.uri):
            for name, value in facts.items():
                self._client.set_model_version_tag(self.name, version.number, name, str(value))

    def fetch(self, version: Version, folder: Path) -> Path:
        """A copy below `folder` of the run folder that the version comes from.

        Raises:
            TrainingError: it is not there any more.
        """
        with told(self.uri):
            return Path(self._mlflow.artifacts.download_artifacts(run_id=version.run_id, artifact_path="run", dst_path=str(folder)))


def model_in(text: str, tracking_uri: str | None) -> tuple[str, str]:
    """MLflow's store and the URI in it of a model that is given as a run folder or as MLflow's `models:/NAME@champion`.

    Raises:
        ConfigError: it is neither, or nobody says in which store.
        TrainingError: the store cannot be used, or the run has no forecaster.
    """
    trace = Path(text) / TRACE
    if trace.exists():
        facts = json.loads(trace.read_text(encoding="utf-8"))
        return str(facts["tracking_uri"]), _forecaster_of(str(facts["tracking_uri"]), str(facts["run_id"]))
    store = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
    if not text.startswith("models:/"):
        raise ConfigError(f"--model {text}: the folder of a run that MLflow tracked, or models:/NAME@champion, is expected")
    if store is None:
        raise ConfigError(f"--model {text}: say in which MLflow store, with --tracking-uri")
    return store, text


def _forecaster_of(uri: str, run_id: str) -> str:
    with told(uri):
        tags = mlflow_at(uri).MlflowClient().get_run(run_id).data.tags
    if FORECASTER not in tags:
        raise TrainingError(f"MLflow run {run_id} has no forecaster: its upload was broken off; train again into another --out")
    return str(tags[FORECASTER])


def spark_forecaster(spark: Any, uri: str, model: str) -> Any:
    """A function over Spark's columns: a struct of `house`, `time`, `sensor` and `value` in, the forecast as a struct out (see `pyfunc.py`).

    Raises:
        ConfigError: the model is one house's.
        TrainingError: the store cannot be used, or there is no such model.
    """
    mlflow = mlflow_at(uri)
    with told(uri):
        if "house" not in mlflow.models.get_model_info(model).signature.inputs.input_names():
            raise ConfigError(f"model {model} is one house's: give one over many homes (`fit` with several houses, or --all-targets)")
        logging.getLogger("mlflow").setLevel(logging.ERROR)  # it advises against this very environment
        return mlflow.pyfunc.spark_udf(spark, model, env_manager="local")


def prepare_experiment(tracking_uri: str | None, *, beside: Path, experiment: str) -> str:
    """MLflow's store with the experiment made in it, before many workers would make both at once; returns its address.

    Raises:
        TrainingError: the store cannot be used.
    """
    if tracking_uri == OFF:
        return OFF
    uri = store_address(tracking_uri, beside=beside)
    with told(uri):
        experiment_id(mlflow_at(uri), uri, experiment)
    return uri
