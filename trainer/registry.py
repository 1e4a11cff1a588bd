"""MLflow's model registry: versions of one model, of which one is the champion and the newest a challenger."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge_agent.contract.errors import TrainingError
from trainer.tracking import FORECASTER, mlflow_at, told

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
            tags = self._client.get_run(run_id).data.tags
            if FORECASTER not in tags:
                raise TrainingError(f"MLflow run {run_id} has no forecaster to register: its upload was broken off; search again into another --out")
            known = self._client.search_model_versions(f"name='{self.name}' and run_id='{run_id}'")
            found = known[0] if known else self._register(tags[FORECASTER])
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
