"""What fine-tuning starts from: a base model, out of a bundle or a run folder, and the network to train that follows from it.

Nothing here knows how the model is built: only the names of its inputs and outputs. So a bundle can be fine-tuned by a later version too.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import keras
from keras import ops

from edge_agent.contract.bundle import KERAS_MODEL, Bundle, read_bundle, read_files, read_shipped_bundle
from edge_agent.contract.calibration import Calibration
from edge_agent.contract.errors import BundleError, ConfigError
from edge_agent.contract.manifest import sha256
from edge_agent.contract.plan import FeaturePlan
from edge_agent.contract.schema import ROLES, HouseSpec
from trainer.model import ROLE_MEAN_AND_SPREAD, Network, forecast_loss
from trainer.run_folder import MODEL, RECORD
from trainer.seen import looked_at_until, seen_until

OUTPUTS: Final = ["quantiles", "mean"]
NO_WEIGHTS: Final = f"holds no {KERAS_MODEL}, the form of a model that can be trained on: export it again with this version, or give its run folder"


@dataclass(frozen=True, eq=False)
class StartModel:
    """A trained model with all that is needed to use it in a house."""

    name: str
    version: str
    """The bundle's; of a run, the day it was made is not known, so its MLflow run or nothing."""
    plan: FeaturePlan
    calibration: Calibration
    model: keras.Model
    """Physical units in and out."""
    looked_at_until: Mapping[str, int]
    """Unix s up to which it has looked at each home that it was trained, chosen or calibrated on, by `SITE:TARGET`."""

    def plan_in(self, house: HouseSpec, target: str) -> FeaturePlan:
        """The plan for `target` of `house`, at the house's step.

        Raises:
            ConfigError: the model forecasts something else, or cannot run at this step.
        """
        role = house.sensor(house.target(target).sensor).role
        if role != self.plan.role:
            raise ConfigError(f"--init: model {self.name!r} forecasts {self.plan.role}, target {target!r} of {house.site!r} is {role}: give another")
        return replace(self.plan.at_step(house.step_s), target=target)

    def seen_until(self, site: str) -> int:
        """Unix s up to which it has looked at a house; 0 when it never has."""
        return seen_until(self.looked_at_until, site)

    def facts(self) -> dict[str, str]:
        """Which model it was, JSON values."""
        return {"name": self.name, "version": self.version}


def read_start(path: Path | None, *, allow_unsigned: bool = False) -> StartModel:
    """The model of the bundle or run at `path`, or of the bundle that ships when None.

    Raises:
        ConfigError: neither a bundle nor a run, or one that cannot be fine-tuned.
        BundleError: a damaged bundle.
        SignatureError: a bundle that nobody trusted has signed.
    """
    if path is not None and (path / RECORD).is_file():
        return _of_run(path)
    if path is not None and not path.exists():
        raise ConfigError(f"--init {path}: there is no such bundle or run folder")
    bundle = read_shipped_bundle() if path is None else read_bundle(path, allow_unsigned=allow_unsigned)
    if bundle is None:
        raise ConfigError("no base model ships with this build: give a bundle or a run folder with --init")
    return _of_bundle(bundle)


def _of_bundle(bundle: Bundle) -> StartModel:
    manifest = bundle.manifest
    wanted = manifest.files.get(KERAS_MODEL)
    if wanted is None:
        raise ConfigError(f"--init {bundle.path} {NO_WEIGHTS}")
    data = read_files(bundle.path)[KERAS_MODEL]
    if sha256(data) != wanted:
        raise BundleError(f"{bundle.path}: {KERAS_MODEL} was changed while it was read: try again")
    with tempfile.TemporaryDirectory() as folder:  # Keras loads from a path only, and an archive has none
        file = Path(folder) / KERAS_MODEL
        file.write_bytes(data)
        model = _load(file, source=str(bundle.path))
    return StartModel(
        manifest.name, manifest.version, _anchored(manifest.plan, bundle.path), manifest.calibration, model, looked_at_until(manifest.training)
    )


def _of_run(path: Path) -> StartModel:
    if not (path / MODEL).is_file():
        raise ConfigError(f"--init {path}: {MODEL} is missing: let hearthcast-train fit end, or resume it")
    try:
        record = json.loads((path / RECORD).read_text(encoding="utf-8"))
        plan, calibration = FeaturePlan.from_dict(record["plan"]), Calibration.from_dict(record["calibration"])
        name, version, seen = str(record["name"]), str(record["mlflow_run_id"]), looked_at_until(record.get("training", {}))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as err:
        raise ConfigError(f"--init {path}: {RECORD} is not of the expected form ({err!r}): train again with this version") from err
    return StartModel(name, version, _anchored(plan, path), calibration, _load(path / MODEL, source=str(path)), seen)


def _anchored(plan: FeaturePlan, path: Path) -> FeaturePlan:
    if not plan.anchored:
        raise ConfigError(f"--init {path} is a model of one house and its sensors: a model of preset base is expected")
    return plan


def _load(file: Path, *, source: str) -> keras.Model:
    try:
        model = keras.models.load_model(file, compile=False)
    except Exception as err:  # Keras raises anything from OSError to TypeError
        cause = (str(err).strip().splitlines() or [type(err).__name__])[0]
        raise ConfigError(f"--init {source}: Keras cannot load {KERAS_MODEL} ({cause}): export it again, or train again with this version") from err
    if model.output_names != OUTPUTS:
        raise ConfigError(f"--init {source}: the model puts out {', '.join(model.output_names)}: {' and '.join(OUTPUTS)} are expected")
    return model


def network_of(start: StartModel, *, mean_weight: float, total_weight: float) -> Network:
    """The network to train: `start.model` itself, its outputs in relative units.

    A forecast and its outcome are divided by the same number (energy: the house's mean of 28 days; states: their role's spread), which leaves every
    house's loss of one size; where the level lies does not matter to it.
    """
    model = start.model
    inputs = {i.name: keras.Input(i.shape[1:], name=i.name) for i in model.inputs}
    quantiles, mean = model(list(inputs.values()))  # as one layer, whose operations' names cannot clash with new ones
    is_energy = ROLES[start.plan.role].kind == "energy"
    spread = ROLE_MEAN_AND_SPREAD.get(start.plan.role, (0.0, 1.0))[1]
    divisor = ops.expand_dims(inputs["scale"], 1) if is_energy else spread
    core = ops.divide(ops.concatenate([quantiles, ops.expand_dims(mean, -1)], axis=-1), divisor)

    def relative(values: dict[str, Any], actual: Any) -> Any:
        return actual / (values["scale"] if is_energy else spread)

    return Network(
        model=model,
        core=keras.Model(list(inputs.values()), core, name="fine_tuned"),
        relative=relative,
        loss=forecast_loss(start.plan.quantile_levels, mean_weight=mean_weight, total_weight=total_weight),
    )
